"""The docs say what the code does: every command and key is there, and what can be run is run."""

from __future__ import annotations

import json
import re

import pydantic
import pytest
from paths import ROOT

from segdecay.config.schema import RunConfig
from segdecay.data.spec import DatasetSpec


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_loop_of_the_explanation_runs_and_prints_both_terms_of_the_objective(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", _read("docs/decay.md"), flags=re.DOTALL)
    exec(code, {"__name__": "__main__"})  # noqa: S102 - our own page
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    losses = []
    for line in lines:
        original, penalty, total = (float(number) for number in re.findall(r"(\d+\.\d+)", line))
        assert total == pytest.approx(original + penalty, abs=2e-4)
        assert penalty > 0
        losses.append(original)
    assert losses[-1] < losses[0]


def test_every_key_of_a_run_is_documented_with_its_default() -> None:
    said = _read("docs/config.md")
    for name, section in RunConfig.model_fields.items():
        if isinstance(section.annotation, type) and issubclass(section.annotation, pydantic.BaseModel):
            for key, field in section.annotation.model_fields.items():
                row = re.search(rf"^\| `{name}\.{field.alias or key}` \| `(.*?)` \|", said, flags=re.MULTILINE)
                assert row, f"{name}.{key}"
                if isinstance(field.default, (int, float, str)):
                    assert json.loads(row[1]) == field.default


def test_every_key_of_dataset_yaml_is_documented() -> None:
    said = _read("docs/data.md")
    assert [key for key in DatasetSpec.model_fields if f"`{key}`" not in said] == []


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    said = _read("docs/design.md")
    names = [
        re.split(r"[><=\[]", line)[0] for line in tomllib.loads(_read("pyproject.toml"))["project"]["dependencies"]
    ]
    assert [name for name in names if name not in said] == []


def test_the_picture_is_drawn_from_the_committed_record() -> None:
    from segdecay.report import read_verdict, score_svg

    assert _read("docs/score.svg") == score_svg(read_verdict(ROOT / "docs" / "records" / "digits"))
