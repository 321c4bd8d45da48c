"""Every notebook of docs/tutorials runs from its first cell to its last, and its page has what it printed."""

from __future__ import annotations

from pathlib import Path

import notebooks
import pytest
from paths import ROOT

PATHS = notebooks.notebooks()


def test_there_are_three() -> None:
    assert [path.name[:1] for path in PATHS] == ["1", "2", "3"]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = notebooks.run(path)
    kept = [cell["outputs"] for cell in notebooks.cells_of(path) if cell["cell_type"] == "code"]
    assert [bool(said) for said in outputs] == [bool(output) for output in kept], "run: python tools/notebooks.py"
    assert any("Tuned('runs/" in said for said in outputs)
    assert list(tmp_path.glob("runs/*/verdict.json"))


def test_a_cell_that_raises_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "wrong.ipynb"
    cell = '{"cell_type": "code", "metadata": {}, "source": ["1 / 0"], "outputs": []}'
    path.write_text(f'{{"cells": [{cell}]}}', encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        notebooks.run(path)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_notebook_is_led_to(path: Path) -> None:
    page = f"tutorials/{path.with_suffix('.md').name}"
    assert f"({page})" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
