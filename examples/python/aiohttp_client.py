#!/usr/bin/env python3
"""Python aiohttp through Moorgate.

    python3 examples/python/aiohttp_client.py http://USER:SECRET@127.0.0.1:8080 http://target.example/ip

The target should answer with the address that it sees.
"""

import asyncio
import sys

import aiohttp

from moorgate import BLOCKED, Gateway


async def get(http: aiohttp.ClientSession, gateway: Gateway, username: str, target: str) -> tuple[int, str]:
    """One request under this proxy username.

    One `ClientSession` may serve many of them: it keeps connections apart by
    proxy and credential.
    """
    async with http.get(target, proxy=gateway.url(username)) as response:
        return response.status, (await response.text()).strip()


async def fetch(http: aiohttp.ClientSession, gateway: Gateway, username: str, target: str) -> str:
    """A page of the session; blocked, it is reported, and asked for again by another exit."""
    for _ in range(3):
        status, text = await get(http, gateway, username, target)
        if status not in BLOCKED:
            return text
        await asyncio.to_thread(gateway.report, username, target, f"status {status}")
    raise SystemExit(f"{target} blocks every exit that was tried")


async def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} http://USER:SECRET@HOST:PORT TARGET_URL")
    gateway, target = Gateway(sys.argv[1]), sys.argv[2]

    # A tunnel to an https target keeps its exit for as long as it is kept
    # open: so none is, for the session may move, and rotating requests must.
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        # Two requests of one session have one exit.
        session = gateway.new_session()
        seen = [await get(http, gateway, session, target) for _ in range(2)]
        print("sticky:", *(text for _, text in seen))

        # Where the site has had enough of it by now, the session moves.
        print("renewed:", await fetch(http, gateway, session, target))

        # Without a session, each request leaves by the next exit of the pool.
        seen = [await get(http, gateway, gateway.user, target) for _ in range(2)]
        print("rotating:", *(text for _, text in seen))


asyncio.run(main())
