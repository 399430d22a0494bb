#!/usr/bin/env python3
"""Selenium with Chromium through Moorgate.

    python3 examples/python/selenium_client.py http://USER:SECRET@127.0.0.1:8080 http://target.example/ip

The target should answer with the address that it sees. Debian: chromium,
chromium-driver.
"""

import shutil
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By

from moorgate import BLOCKED, Gateway


class Browser:
    """A browser of one proxy username: Chromium keeps one credential for a proxy."""

    def __init__(self, gateway: Gateway, username: str) -> None:
        options = webdriver.ChromeOptions()
        # The credential has no place here: it is given when the gateway asks.
        options.add_argument(f"--proxy-server=http://{gateway.server}")
        # Chromium goes round every proxy to addresses of this host.
        options.add_argument("--proxy-bypass-list=<-loopback>")
        options.add_argument("--headless=new")
        # What a container needs; leave it out on a desktop.
        options.add_argument("--no-sandbox")
        options.add_argument("--disable-dev-shm-usage")
        options.enable_bidi = True
        options.binary_location = shutil.which("chromium") or ""
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(30)
        self.driver.network.add_auth_handler(username, gateway.secret)

    def get(self, target: str) -> tuple[int, str]:
        """A page's status and text."""
        # Not by `driver.get`: chromedriver would not pass the credential on
        # while that waits for the page.
        window = self.driver.current_window_handle
        self.driver.browsing_context.navigate(context=window, url=target, wait="complete")
        status = self.driver.execute_script("return performance.getEntriesByType('navigation')[0].responseStatus")
        return status, self.driver.find_element(By.TAG_NAME, "body").text.strip()

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()


def fetch(browser: Browser, gateway: Gateway, username: str, target: str) -> str:
    """A page of the session; blocked, it is reported, and asked for again by another exit."""
    for _ in range(3):
        status, text = browser.get(target)
        if status not in BLOCKED:
            return text
        gateway.report(username, target, f"status {status}")
    raise SystemExit(f"{target} blocks every exit that was tried")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} http://USER:SECRET@HOST:PORT TARGET_URL")
    gateway, target = Gateway(sys.argv[1]), sys.argv[2]

    username = gateway.new_session()
    with Browser(gateway, username) as browser:
        # Two pages of one session have one exit.
        print("sticky:", browser.get(target)[1], browser.get(target)[1])
        # Where the site has had enough of it by now, the session moves.
        print("renewed:", fetch(browser, gateway, username, target))

    # Without a session, each request leaves by the next exit of the pool.
    with Browser(gateway, gateway.user) as browser:
        print("rotating:", browser.get(target)[1], browser.get(target)[1])


main()
