"""Renders a chart, by the environment of ``make test-deploy``; the values of releases come on standard input.

It prints what Helm's linter has to say, and the objects of each release.
"""

from __future__ import annotations

import json
import sys

import helm_python
import yaml


def main(chart: str) -> None:
    releases = []
    with helm_python.Chart.load(chart) as loaded:
        for values in json.load(sys.stdin):
            files = loaded.render(values, name="paddleinfer", namespace="default")
            texts = [text for name, text in files.items() if not name.endswith(".txt")]
            releases.append([each for text in texts for each in yaml.safe_load_all(text) if each])
    found = helm_python.lint(chart, strict=True)
    print(json.dumps({"errors": found["errors"], "messages": found["messages"], "releases": releases}))


if __name__ == "__main__":
    main(sys.argv[1])
