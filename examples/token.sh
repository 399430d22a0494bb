#!/usr/bin/env bash
# curl through Moorgate with a signed token (JWT) instead of a secret.
#
#   moorgate token --new-key --key ci.pem > jwks.json     # once: keep ci.pem to yourself
#   examples/token.sh ci.pem USER http://127.0.0.1:8080 http://target.example/ip
#
# The gateway needs the public part alone, in its configuration:
#   "tokens": { "keys": ["jwks.json"], "audience": "moorgate" }
# The target should answer with the address that it sees. MOORGATE names the
# program, where it is not found by its name.
set -euo pipefail

if [[ $# -ne 4 ]]; then
  echo "usage: $0 KEY.pem USER http://HOST:PORT TARGET_URL" >&2
  exit 2
fi
key=$1 user=$2 proxy=$3 target=$4

# Whoever has the key mints tokens: no gateway is asked, and each that has the
# public part takes them until they expire.
mint() {
  "${MOORGATE:-moorgate}" token --key "$key" --sub "$user" --audience moorgate --ttl 10m "$@"
}

# Options come from standard input: a token does not stand in the process list.
get() {
  curl --config - --proxy "$proxy" --noproxy '' --silent --show-error --fail --max-time 30 "$target"
}

# In the secret's place, behind a username with its parameters.
token=$(mint)
sticky=$user-session-curl$$.$RANDOM-ttl-10m
first=$(printf 'proxy-user = "%s:%s"\n' "$sticky" "$token" | get)
second=$(printf 'proxy-user = "%s:%s"\n' "$sticky" "$token" | get)
echo "sticky: $first $second"

# As a bearer token: the user is the token's, parameters come as fields.
bearer() {
  printf 'proxy-header = "Proxy-Authorization: Bearer %s"\n' "$1"
}
first=$(bearer "$token" | get)
second=$(bearer "$token" | get)
echo "rotating: $first $second"

# A token may fix what its holder may do: here the session, for five minutes of
# its life at most.
fixed=$(mint --session "ci.$RANDOM" --session-ttl 5m)
first=$(bearer "$fixed" | get)
second=$(bearer "$fixed" | get)
echo "fixed: $first $second"
