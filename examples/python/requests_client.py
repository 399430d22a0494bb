#!/usr/bin/env python3
"""Python requests through Moorgate.

    python3 examples/python/requests_client.py http://USER:SECRET@127.0.0.1:8080 http://target.example/ip

The target should answer with the address that it sees.
"""

import sys

import requests

from moorgate import BLOCKED, Gateway


def get(gateway: Gateway, username: str, target: str) -> requests.Response:
    """One request under this proxy username.

    Each call opens a connection of its own. Within a `requests.Session` a
    tunnel to an https target is kept, and a tunnel keeps its exit.
    """
    proxy = gateway.url(username)
    response = requests.get(target, proxies={"http": proxy, "https": proxy}, timeout=30)
    if "Moorgate-Error" in response.headers:
        raise SystemExit(f"the gateway refused: {response.json()['detail']}")
    return response


def fetch(gateway: Gateway, username: str, target: str) -> str:
    """A page of the session; blocked, it is reported, and asked for again by another exit."""
    for _ in range(3):
        response = get(gateway, username, target)
        if response.status_code not in BLOCKED:
            response.raise_for_status()
            return response.text.strip()
        gateway.report(username, target, f"status {response.status_code}")
    raise SystemExit(f"{target} blocks every exit that was tried")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} http://USER:SECRET@HOST:PORT TARGET_URL")
    gateway, target = Gateway(sys.argv[1]), sys.argv[2]

    # Two requests of one session have one exit.
    session = gateway.new_session()
    print("sticky:", get(gateway, session, target).text, get(gateway, session, target).text)

    # Where the site has had enough of it by now, the session moves.
    print("renewed:", fetch(gateway, session, target))

    # Without a session, each request leaves by the next exit of the pool.
    print("rotating:", get(gateway, gateway.user, target).text, get(gateway, gateway.user, target).text)


main()
