"""What schemathesis cannot know of the API by its description alone."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

import schemathesis
from schemathesis import GenerationMode


def cursor_of(path, query):
    """The cursor behind the first entry of a list, which is bound to its filters."""
    query = {**{key: value for key, value in query.items() if key != "cursor"}, "limit": 1}
    request = urllib.request.Request(
        f"{os.environ['FUZZ_BASE']}{path}?{urllib.parse.urlencode(query)}",
        headers={"Authorization": f"Bearer {os.environ['FUZZ_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["next"]


@schemathesis.hook
def before_call(context, case, kwargs):
    """A right request has a cursor that the gateway gave; a wrong one keeps what it has."""
    generated = case.meta.generation if case.meta else None
    right = generated is None or generated.mode == GenerationMode.POSITIVE
    if right and case.query and "cursor" in case.query:
        try:
            cursor = cursor_of(case.operation.path, case.query)
        except (urllib.error.HTTPError, UnicodeError):
            cursor = None
        if cursor is None:
            del case.query["cursor"]
        else:
            case.query["cursor"] = cursor
