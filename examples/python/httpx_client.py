#!/usr/bin/env python3
"""Python httpx through Moorgate.

    python3 examples/python/httpx_client.py http://USER:SECRET@127.0.0.1:8080 http://target.example/ip

The target should answer with the address that it sees.
"""

import sys

import httpx

from moorgate import BLOCKED, Gateway


def client(gateway: Gateway, username: str) -> httpx.Client:
    """A client whose every request is under this proxy username.

    It keeps tunnels to https targets, and a tunnel keeps its exit: one client
    for each session, and for rotating requests a client for each of them.
    """
    return httpx.Client(proxy=gateway.url(username), trust_env=False, timeout=30)


def fetch(gateway: Gateway, username: str, target: str) -> str:
    """A page of the session; blocked, it is reported, and asked for again by another exit."""
    for _ in range(3):
        # A new client, for a tunnel of the old one would keep the old exit.
        with client(gateway, username) as session:
            response = session.get(target)
        if response.status_code not in BLOCKED:
            return response.raise_for_status().text.strip()
        gateway.report(username, target, f"status {response.status_code}")
    raise SystemExit(f"{target} blocks every exit that was tried")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} http://USER:SECRET@HOST:PORT TARGET_URL")
    gateway, target = Gateway(sys.argv[1]), sys.argv[2]

    # Two requests of one session have one exit.
    username = gateway.new_session()
    with client(gateway, username) as session:
        print("sticky:", session.get(target).text, session.get(target).text)

    # Where the site has had enough of it by now, the session moves.
    print("renewed:", fetch(gateway, username, target))

    # Without a session, each request leaves by the next exit of the pool.
    seen = []
    for _ in range(2):
        with client(gateway, gateway.user) as rotating:
            seen.append(rotating.get(target).text)
    print("rotating:", *seen)


main()
