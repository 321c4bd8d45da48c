"""The keys of verdict.json that docs/verdict_json.md describes, and those of a written file, as paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from paths import ROOT

SAME = {  # objects with the keys of another, which the page describes once
    "one_se": "strength",
    "settings[].strength": "strength",
    "evidence.best": "strength",
    "settings[].difference": "selection",
    "evidence.best_difference": "selection",
    "training.above_trivial": "selection",
    "test.zero": "test.chosen",
}
BY_NAME = frozenset({"test.chosen.iou", "test.chosen.classes", "evidence.intervals_of", "evidence.joint"})


def documented_keys() -> set[str]:
    """The keys in the first column of the tables, and those that a second column explains with the first."""
    text = (ROOT / "docs" / "verdict_json.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    found = {key for row in rows for key in re.findall(r"`([^`]+)`", row[0])}
    tops = {key for key in found if "." not in key}
    return found | {
        key for row in rows for key in re.findall(r"`([^` ]+\.[^` ]+)`", row[1]) if re.split(r"\[|\.", key)[0] in tops
    }


def keys_of(values: Any, path: str = "") -> Iterator[str]:
    """The paths of all keys of a verdict.json: `a.b` of objects, `a[].b` of lists; keys that are names are left out."""
    path = SAME.get(path, path)
    if path in BY_NAME:
        return
    if isinstance(values, dict):
        for key, value in values.items():
            inner = f"{path}.{key}" if path else key
            yield inner
            yield from keys_of(value, inner)
    elif isinstance(values, list):
        for value in values:
            yield from keys_of(value, f"{path}[]")


def assert_documented(values: Any) -> None:
    """Every key of a written verdict.json stands in docs/verdict_json.md."""
    unknown = sorted(set(keys_of(values)) - documented_keys())
    assert unknown == [], f"docs/verdict_json.md lacks {unknown}"
