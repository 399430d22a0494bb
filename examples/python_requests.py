#!/usr/bin/env python3
"""Python requests through Moorgate.

    python3 examples/python_requests.py http://USER:SECRET@127.0.0.1:8080 http://target.example/ip

The target should answer with the address that it sees.
"""

import sys
import uuid
from urllib.parse import urlsplit

import requests


def get(proxy: str, username: str, target: str) -> str:
    """One request under this proxy username.

    Each call opens a connection of its own. Within a `requests.Session` a
    tunnel to an https target is kept, and a tunnel keeps its exit.
    """
    url = urlsplit(proxy)
    through = f"http://{username}:{url.password}@{url.hostname}:{url.port}"
    response = requests.get(target, proxies={"http": through, "https": through}, timeout=30)
    if "Moorgate-Error" in response.headers:
        raise SystemExit(f"the gateway refused: {response.json()['detail']}")
    response.raise_for_status()
    return response.text.strip()


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} http://USER:SECRET@HOST:PORT TARGET_URL")
    proxy, target = sys.argv[1:]
    user = urlsplit(proxy).username

    # A session is made by its name: two requests with one name have one exit.
    sticky = f"{user}-session-{uuid.uuid4()}-ttl-10m"
    print("sticky:", get(proxy, sticky, target), get(proxy, sticky, target))

    # Without a session, each request leaves by the next exit of the pool.
    print("rotating:", get(proxy, user, target), get(proxy, user, target))


main()
