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

# ask USERNAME ARGUMENTS…: one request under this proxy username. The options
# come from standard input, so that the secret does not stand in the process
# list. curl percent-decodes it there: write a % of it as %25.
ask() {
  printf 'proxy-user = "%s:%s"\n' "$1" "$secret" |
    curl --config - --proxy "$proxy" --noproxy '' --silent --show-error --max-time 30 "${@:2}"
}

# get USERNAME: the target's answer.
get() {
  ask "$1" --fail "$target"
}

# fetch USERNAME: the same; blocked, the exit is reported, the session moves,
# and the target is asked again.
fetch() {
  local answer status
  for _ in 1 2 3; do
    answer=$(ask "$1" --write-out '\n%{http_code}' "$target")
    status=${answer##*$'\n'}
    case $status in
      200) echo "${answer%$'\n'*}" && return ;;
      401 | 403 | 429) ;;
      *) break ;;
    esac
    ask "$1" --fail --output /dev/null http://moorgate.internal/session/report \
      --json "{\"target\": \"$target\", \"reason\": \"status $status\"}"
  done
  echo "$target answered $status" >&2
  return 1
}

# A session is made by its name: two requests with one name have one exit.
sticky=$user-session-curl$$.$RANDOM-ttl-10m
first=$(get "$sticky")
second=$(get "$sticky")
echo "sticky: $first $second"

# Where the site has had enough of that exit by now, the session moves.
first=$(fetch "$sticky")
echo "renewed: $first"

# Without a session, each request leaves by the next exit of the pool.
first=$(get "$user")
second=$(get "$user")
echo "rotating: $first $second"
