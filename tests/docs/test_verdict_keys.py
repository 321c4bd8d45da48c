"""docs/verdict_json.md describes the keys of verdict.json: all that are written, and none that cannot be."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from paths import ROOT
from verdict_keys import BY_NAME, SAME, assert_documented, documented_keys, keys_of

from segdecay.runs.records import StrengthRecord
from segdecay.runs.verdict import Verdict

FREE = frozenset({"evidence", "honest"})  # mappings, whose keys no record lists


def keys_of_record(kind: Any, path: str = "") -> Iterator[str]:
    """The paths of the keys that a record can have, as `keys_of` gives those of a file."""
    path = SAME.get(path, path)
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = "lambda" if field.name == "lambda_" else field.name
        inner = f"{path}.{name}" if path else name
        yield inner
        for part, is_list in records_in(hints[field.name]):
            yield from keys_of_record(part, f"{inner}[]" if is_list else inner)


def records_in(hint: Any) -> Iterator[tuple[Any, bool]]:
    """The records in a type, and whether they stand in a list."""
    if dataclasses.is_dataclass(hint):
        yield hint, False
        return
    is_list = typing.get_origin(hint) is tuple
    for part in typing.get_args(hint):
        yield from ((record, is_list or inner) for record, inner in records_in(part))


def possible_keys() -> set[str]:
    return {"schema_version", *keys_of_record(Verdict)}


def test_every_key_of_the_record_is_documented() -> None:
    assert sorted(possible_keys() - documented_keys()) == []


def test_every_documented_key_can_be_written() -> None:
    """Keys of the two free mappings stand as literals in the code of the search."""
    code = "\n".join(path.read_text() for path in (ROOT / "src" / "segdecay" / "search").rglob("*.py"))
    others = sorted(documented_keys() - possible_keys())
    assert {key.split(".")[0] for key in others} == FREE
    assert [key for key in others if f'"{key.split(".", 1)[1]}"' not in code] == []


@pytest.mark.parametrize("run", ["digits", "joint"])
def test_every_key_of_a_recorded_run_is_documented(run: str) -> None:
    assert_documented(json.loads((ROOT / "docs" / "records" / run / "verdict.json").read_text()))


def test_a_key_that_is_not_documented_is_told() -> None:
    with pytest.raises(AssertionError, match=r"settings\[\]\.new"):
        assert_documented({"kind": "zero", "settings": [{"mean": 1.0, "new": 2}]})


def test_names_of_classes_are_no_keys() -> None:
    values = {"test": {"chosen": {"iou": {"road": 0.5}}, "zero": {"score": 0.5}}}
    assert list(keys_of(values)) == ["test", "test.chosen", "test.chosen.iou", "test.zero", "test.chosen.score"]
    assert documented_keys() >= BY_NAME


def test_the_record_of_a_strength_has_the_documented_keys() -> None:
    written = StrengthRecord("total_decay", 1.0).to_json()
    assert {f"strength.{key}" for key in written} == {key for key in documented_keys() if key.startswith("strength.")}
