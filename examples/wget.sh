#!/usr/bin/env bash
# wget through Moorgate.
#
#   examples/wget.sh http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
#
# The target should answer with the address that it sees.
set -euo pipefail

if [[ $# -ne 2 || ! $1 =~ ^http://([^:@/]+):([^@/]+)@([^/]+)/?$ ]]; then
  echo "usage: $0 http://USER:SECRET@HOST:PORT TARGET_URL" >&2
  exit 2
fi
user=${BASH_REMATCH[1]} secret=${BASH_REMATCH[2]} proxy=http://${BASH_REMATCH[3]}
target=$2

# wget takes the options of a file, so that the secret does not stand in the
# process list.
options=$(mktemp)
trap 'rm -f "$options"' EXIT

# ask USERNAME ARGUMENTS…: one request under this proxy username. wget never
# goes round the proxy unless no_proxy says so.
ask() {
  printf '%s\n' "http_proxy = $proxy" "https_proxy = $proxy" "proxy_user = $1" "proxy_password = $secret" >"$options"
  env -u no_proxy -u NO_PROXY \
    wget --config="$options" --quiet --tries=1 --timeout=30 --output-document=- "${@:2}"
}

# fetch USERNAME: the target's answer; blocked, the exit is reported, the
# session moves, and the target is asked again. wget ends with status 8 where
# a server answered with an error, and shows which in its log alone.
fetch() {
  local answer
  for _ in 1 2 3; do
    if answer=$(ask "$1" "$target"); then
      echo "$answer" && return
    fi
    ask "$1" http://moorgate.internal/session/report --header 'Content-Type: application/json' \
      --post-data "{\"target\": \"$target\", \"reason\": \"an error's status\"}" >/dev/null
  done
  echo "$target fails by every exit that was tried" >&2
  return 1
}

# A session is made by its name: two requests with one name have one exit.
sticky=$user-session-wget$$.$RANDOM-ttl-10m
first=$(ask "$sticky" "$target")
second=$(ask "$sticky" "$target")
echo "sticky: $first $second"

# Where the site has had enough of that exit by now, the session moves.
first=$(fetch "$sticky")
echo "renewed: $first"

# Without a session, each request leaves by the next exit of the pool.
first=$(ask "$user" "$target")
second=$(ask "$user" "$target")
echo "rotating: $first $second"
