#!/usr/bin/env python3
"""Checks the manifests of examples/ against their schemas.

    tests/.venv/bin/python tests/manifests.py check
    tests/.venv/bin/python tests/manifests.py show FILE   # its documents, as JSON

Every field of a Kubernetes manifest must be known; a Compose file must be one
of the Compose specification. Prints a line for each document, and ends with
status 1 if one is wrong.
"""

import json
import sys
from pathlib import Path

import compose_spec
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
KUBERNETES = "examples/kubernetes"
COMPOSE = ["examples/two-nodes/compose.yaml"]


class Strict(yaml.SafeLoader):
    """A key that stands twice is a mistake, not the last one's win."""

    def construct_mapping(self, node, deep=False):
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(path):
    return [each for each in yaml.load_all((ROOT / path).read_text(), Strict) if each is not None]


def wrong_in_kubernetes(path):
    for document in documents(path):
        name = f"{path}: {document.get('kind')} {document.get('metadata', {}).get('name')}"
        try:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
            print(f"{name}: ok")
        except Exception as error:
            yield f"{name}: {error}"


def wrong_in_compose(path):
    for document in documents(path):
        try:
            compose_spec.PyCompose.from_json(json.dumps(document)).validate()
            print(f"{path}: ok")
        except Exception as error:
            yield f"{path}: {error}"


def check():
    files = sorted(path.relative_to(ROOT) for path in (ROOT / KUBERNETES).glob("*.yaml"))
    wrong = [fault for path in files for fault in wrong_in_kubernetes(path)]
    wrong += [fault for path in COMPOSE for fault in wrong_in_compose(path)]
    for fault in wrong:
        print(fault, file=sys.stderr)
    if not files or wrong:
        sys.exit(1)


def main():
    match sys.argv[1:]:
        case ["check"]:
            check()
        case ["show", path]:
            print(json.dumps(documents(path)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
