"""What the Python examples need of Moorgate: the standard library alone.

A session is made by its name: every request whose proxy username names it
leaves by one exit, until its ttl is over.
"""

import json
import urllib.error
import urllib.request
import uuid
from urllib.parse import urlsplit

# What a site answers whom it does not like.
BLOCKED = (401, 403, 429)


class Gateway:
    """A gateway's address and one user's credential."""

    def __init__(self, proxy: str) -> None:
        parts = urlsplit(proxy)
        if not (parts.hostname and parts.username and parts.password):
            raise SystemExit("the proxy is a URL such as http://USER:SECRET@127.0.0.1:8080")
        self.user, self.secret = parts.username, parts.password
        self.server = f"{parts.hostname}:{parts.port}"

    def new_session(self, ttl: str = "10m") -> str:
        """A username that names a session of its own."""
        return f"{self.user}-session-{uuid.uuid4()}-ttl-{ttl}"

    def url(self, username: str) -> str:
        """The proxy's URL for requests under this username."""
        return f"http://{username}:{self.secret}@{self.server}"

    def report(self, username: str, target: str, reason: str) -> None:
        """Says that the session's exit is no good for the target.

        The session moves to another exit at once, and for a while nobody's
        new session or rotating request uses the old one for that site.
        """
        request = urllib.request.Request(
            "http://moorgate.internal/session/report",
            data=json.dumps({"target": target, "reason": reason}).encode(),
            headers={"Content-Type": "application/json"},
        )
        through = urllib.request.ProxyHandler({"http": self.url(username)})
        try:
            urllib.request.build_opener(through).open(request, timeout=30).close()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"the gateway refused: {json.load(error)['detail']}") from error
