#!/usr/bin/env bash
# curl through Moorgate.
#
#   examples/curl.sh http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
#
# The target should answer with the address that it sees.
set -euo pipefail

if [[ $# -ne 2 || ! $1 =~ ^http://([^:@/]+):([^@/]+)@([^/]+)/?$ ]]; then
  echo "usage: $0 http://USER:SECRET@HOST:PORT TARGET_URL" >&2
  exit 2
fi
user=${BASH_REMATCH[1]} secret=${BASH_REMATCH[2]} proxy=http://${BASH_REMATCH[3]}
target=$2

# get USERNAME: one request under this proxy username. The options come from
# standard input, so that the secret does not stand in the process list.
get() {
  printf 'proxy-user = "%s:%s"\n' "$1" "$secret" |
    curl --config - --proxy "$proxy" --noproxy '' --silent --show-error --fail --max-time 30 "$target"
}

# A session is made by its name: two requests with one name have one exit.
sticky=$user-session-curl$$.$RANDOM-ttl-10m
first=$(get "$sticky")
second=$(get "$sticky")
echo "sticky: $first $second"

# Without a session, each request leaves by the next exit of the pool.
first=$(get "$user")
second=$(get "$user")
echo "rotating: $first $second"
