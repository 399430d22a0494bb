#!/usr/bin/env python3
"""Scrapy through Moorgate: a session for each crawl, by a downloader middleware.

    python3 examples/python/scrapy_spider.py http://USER:SECRET@127.0.0.1:8080 http://target.example/ip

The target should answer with the address that it sees.
"""

import asyncio
import sys

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.exceptions import IgnoreRequest

from moorgate import BLOCKED, Gateway


class MoorgateMiddleware:
    """Sends a crawl's requests by one session, and renews it when a site blocks.

    A request with `meta["rotate"]` leaves by an exit of its own. The order is
    that of `DOWNLOADER_MIDDLEWARES`: behind it, Scrapy's own HttpProxyMiddleware
    (750) makes a credential of the URL.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.session = gateway.new_session(ttl="1h")

    @classmethod
    def from_crawler(cls, crawler: scrapy.crawler.Crawler) -> "MoorgateMiddleware":
        return cls(Gateway(crawler.settings["MOORGATE"]))

    def process_request(self, request: scrapy.Request) -> None:
        username = self.gateway.user if request.meta.get("rotate") else self.session
        request.meta["proxy"] = self.gateway.url(username)

    async def process_response(self, request: scrapy.Request, response: scrapy.http.Response):
        if response.headers.get("Moorgate-Error"):
            raise IgnoreRequest(f"the gateway refused: {response.text}")
        if response.status not in BLOCKED or request.meta.get("rotate"):
            return response
        tries = request.meta.get("blocked", 0) + 1
        if tries > 3:
            raise IgnoreRequest(f"{request.url} blocks every exit that was tried")
        # Not in the reactor's thread, which serves all other requests.
        reason = f"status {response.status}"
        await asyncio.to_thread(self.gateway.report, self.session, request.url, reason)
        return request.replace(dont_filter=True, meta={**request.meta, "blocked": tries})


class IpSpider(scrapy.Spider):
    """Asks a site for the address that it sees, one request after the other."""

    name = "ip"
    steps = ["sticky", "sticky", "renewed", "rotating", "rotating"]

    async def start(self):
        yield self.step(0)

    def step(self, at: int) -> scrapy.Request:
        meta = {"rotate": self.steps[at] == "rotating"}
        return scrapy.Request(self.target, dont_filter=True, meta=meta, cb_kwargs={"at": at})

    def parse(self, response, at: int):
        yield {"step": self.steps[at], "seen": response.text.strip()}
        if at + 1 < len(self.steps):
            yield self.step(at + 1)


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} http://USER:SECRET@HOST:PORT TARGET_URL")
    seen: dict[str, list[str]] = {}
    process = CrawlerProcess(
        {
            "MOORGATE": sys.argv[1],
            "DOWNLOADER_MIDDLEWARES": {MoorgateMiddleware: 740},
            "LOG_LEVEL": "WARNING",
            "TELNETCONSOLE_ENABLED": False,
            # Scrapy would ask again for a 429 by itself, by the same exit.
            "RETRY_HTTP_CODES": [500, 502, 503, 504, 408],
        }
    )
    crawler = process.create_crawler(IpSpider)
    collect = lambda item: seen.setdefault(item["step"], []).append(item["seen"])  # noqa: E731
    crawler.signals.connect(collect, signal=scrapy.signals.item_scraped, weak=False)
    process.crawl(crawler, target=sys.argv[2])
    process.start()
    for step, addresses in seen.items():
        print(f"{step}:", *addresses)


main()
