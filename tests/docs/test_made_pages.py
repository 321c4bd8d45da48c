"""Pages and schemas that are made from the code are up to date: `python tools/pages.py` writes them."""

from __future__ import annotations

import copy
import importlib.resources
import json
from typing import Any

import jsonschema
import pages
import pytest
import yaml
from paths import ROOT

from segdecay.cli.main import app
from segdecay.errors import SegdecayError


@pytest.mark.parametrize("name", sorted(pages.PAGES))
def test_a_made_page_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == pages.PAGES[name](), "run: python tools/pages.py"


def test_the_commands_page_has_every_command_with_its_options() -> None:
    said = pages.commands_page()
    for command in app.registered_commands:
        section = said.split(f"\n## segdecay {command.name}\n", 1)[1].split("\n## ", 1)[0]
        assert command.callback is not None
        for parameter in pages.parameters_of(command.callback):
            assert parameter.row() in section
            assert parameter.meaning, parameter


def installed_schema(name: str) -> dict[str, Any]:
    path = importlib.resources.files("segdecay") / "schemas" / f"{name}.schema.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_the_schema_takes_a_run_and_refuses_slips_in_it() -> None:
    run = yaml.safe_load((ROOT / "docs" / "records" / "digits" / "run.yaml").read_text(encoding="utf-8"))
    check = jsonschema.Draft202012Validator(installed_schema("run"))
    assert list(check.iter_errors(run)) == []
    for section, key, value in (("training", "epoch", 80), ("training", "epochs", "many"), ("optimizer", "name", 3)):
        slip = copy.deepcopy(run)
        slip[section][key] = value
        assert [error.path[0] for error in check.iter_errors(slip)] == [section]


def test_the_schema_takes_a_dataset_and_refuses_slips_in_it() -> None:
    check = jsonschema.Draft202012Validator(installed_schema("dataset"))
    dataset = {"classes": ["background", "road"], "values": {"0": "background", "255": "road"}, "ignore": [254]}
    assert list(check.iter_errors(dataset)) == []
    assert [error.validator for error in check.iter_errors({**dataset, "clases": []})] == ["additionalProperties"]
    assert [list(error.path) for error in check.iter_errors({**dataset, "resize_masks": "often"})] == [["resize_masks"]]


def test_slips_that_the_schemas_refuse_are_refused_by_the_code() -> None:
    from segdecay.config.schema import parse_config
    from segdecay.data.spec import parse_spec

    with pytest.raises(SegdecayError, match="epoch"):
        parse_config({"data": {"path": "x"}, "training": {"epoch": 80}})
    with pytest.raises(SegdecayError, match="clases"):
        parse_spec("clases: []")
