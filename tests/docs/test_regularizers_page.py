"""docs/regularizers.md followed to the letter: the file, the registry line, the contract."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from segdecay.decay import REGULARIZERS, Regularizer

SAID = (ROOT / "docs" / "regularizers.md").read_text(encoding="utf-8")
NAMES = ("weight_elimination", "test_weight_elimination")


def written_files(folder: Path) -> list[str]:
    """The page's code blocks as the files that their first lines name."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", SAID, flags=re.DOTALL)
    for name, code in blocks:
        (folder / name).write_text(code, encoding="utf-8")
    return [name for name, _ in blocks]


def contract_in(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether each promise is kept, by the name of its test, as pytest would collect and call them."""
    patch.syspath_prepend(str(folder))
    patch.setitem(REGULARIZERS, "weight_elimination", Regularizer)  # the page's registry line is undone with the patch
    for name in NAMES:
        patch.delitem(sys.modules, name, raising=False)
    (kind,) = (found for name, found in vars(importlib.import_module(NAMES[1])).items() if name.startswith("Test"))
    for name in NAMES:
        patch.delitem(sys.modules, name)
    return {name: _is_kept(getattr(kind(), name)) for name in dir(kind) if name.startswith("test_")}


def _is_kept(promise: Any) -> bool:
    try:
        promise()
    except AssertionError:
        return False
    return True


def test_the_regularizer_on_the_page_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert written_files(tmp_path) == [f"{name}.py" for name in NAMES]
    found = contract_in(tmp_path, monkeypatch)
    assert len(found) == 10
    assert [name for name, is_kept in found.items() if not is_kept] == []


def test_slips_in_the_regularizer_on_the_page_break_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slips = {
        "sign * bucket.grad_scale * bucket.strength": "sign * bucket.strength",
        "self.scale) ** 2) ** 2": "self.scale) ** 2)",
        "For: networks": "Use: networks",
    }
    written_files(tmp_path)
    path = tmp_path / "weight_elimination.py"
    code = path.read_text(encoding="utf-8")
    for right, wrong in slips.items():
        assert right in code
        code = code.replace(right, wrong)
    path.write_text(code, encoding="utf-8")
    assert [name for name, is_kept in contract_in(tmp_path, monkeypatch).items() if not is_kept] == [
        "test_a_weight_without_gradient_becomes_what_left_returns",
        "test_its_documentation_and_axis_are_complete",
        "test_under_a_grad_scaler_it_acts_on_unscaled_gradients_and_never_on_a_skipped_step",
    ]


def test_every_moment_of_a_regularizer_is_on_the_page() -> None:
    ours = {name for name in vars(Regularizer) if not name.startswith("_") and callable(getattr(Regularizer, name))}
    told_elsewhere = {"axis", "scaled", "multiplier", "validate", "summary"}
    assert [name for name in sorted(ours - told_elsewhere) if f"`{name}" not in SAID] == []
