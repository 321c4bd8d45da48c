"""Every block of docs/python.md runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from paths import ROOT

SAID = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", SAID, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_a_block_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.py").write_text(BLOCKS[number], encoding="utf-8")
    runpy.run_path("block.py", run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_public_name_is_explained() -> None:
    import segdecay

    assert [name for name in segdecay.__all__ if f"`{name}`" not in SAID and f"segdecay.{name}" not in SAID] == []
