"""Functions and scripts that workers cannot import: the trainings run in this process, or fail with that reason."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from shapes import write_shapes

import segdecay
from segdecay.errors import RunError

OPTIONS: dict[str, Any] = {
    "epochs": 1, "set": {"model.width": 4, "model.depth": 2, "training.batch_size": 4}, "device": "cpu", "strength": 0,
}  # fmt: skip
TYPED = """
import segdecay
segdecay.train({data!r}, out={out!r}, workers=2, **{options!r})
"""
FUNCTION = """
import segdecay

def train(setting, fold, seed):
    return [[[9, 1], [1, 9]] for _ in fold.validation]

images = segdecay.UserData([str(number) for number in range(9)], ["a", "b"])
axis = segdecay.Axis("smoothing", [0.1])
segdecay.tune(images, train=train, axis=axis, folds=3, out={out!r}, workers=2, set={{"search.resamples": 200}})
"""


def said_by(code: str, *arguments: str) -> str:
    """What Python prints when it is given code on its standard input, or after -c."""
    done = subprocess.run(
        [sys.executable, *(arguments or ("-",))], input=code, capture_output=True, text=True, timeout=200,
        env=dict(os.environ), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "memory" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.soak
def test_a_script_from_standard_input_trains_in_its_process_and_says_why(tmp_path: Path) -> None:
    data, out = str(write_shapes(tmp_path / "shapes", n_images=8)), str(tmp_path / "run")
    said = said_by(TYPED.format(data=data, out=out, options=OPTIONS))
    assert "Trainings run in this process, one after the other: the script is <stdin>" in said
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("how", ["-", pytest.param("-c", marks=pytest.mark.soak)])
def test_a_function_that_was_typed_in_trains_in_its_process_and_says_why(how: str, tmp_path: Path) -> None:
    code = FUNCTION.format(out=str(tmp_path / "run"))
    said = said_by(code) if how == "-" else said_by("", "-c", code)
    assert "Trainings run in this process, one after the other" in said
    assert ("<stdin>" if how == "-" else "it was typed into a session that other processes cannot import") in said
    assert (tmp_path / "run" / "verdict.json").is_file()


def test_a_module_that_only_this_process_can_import_is_named_and_not_memory(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "of_this_process_alone.py"
    path.parent.mkdir()
    path.write_text("def same(image, mask):\n    return image, mask\n")
    spec = importlib.util.spec_from_file_location("of_this_process_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["of_this_process_alone"] = module
    spec.loader.exec_module(module)
    data = write_shapes(tmp_path / "shapes", n_images=8)
    with warnings.catch_warnings(), pytest.raises(RunError, match="could not import the script, or the module") as told:
        segdecay.train(data, out=tmp_path / "run", transform=module.same, workers=1, quiet=True, **OPTIONS)
    assert "memory" not in str(told.value)
    del sys.modules["of_this_process_alone"]
