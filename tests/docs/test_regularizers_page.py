"""docs/regularizers.md followed to the letter: the file, the registry line, the contract."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from paths import ROOT

from segdecay.decay import Regularizer

SAID = (ROOT / "docs" / "regularizers.md").read_text(encoding="utf-8")


def written_files(folder: Path) -> list[str]:
    """The page's code blocks as the files that their first lines name."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", SAID, flags=re.DOTALL)
    for name, code in blocks:
        (folder / name).write_text(code, encoding="utf-8")
    return [name for name, _ in blocks]


def contract_in(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    paths = [str(folder), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def test_the_regularizer_on_the_page_keeps_the_contract(tmp_path: Path) -> None:
    assert written_files(tmp_path) == ["weight_elimination.py", "test_weight_elimination.py"]
    done = contract_in(tmp_path)
    assert re.search(r"^10 passed", done.stdout, flags=re.MULTILINE), done.stdout


def test_slips_in_the_regularizer_on_the_page_break_the_contract(tmp_path: Path) -> None:
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
    failed = re.findall(r"^FAILED .*::(test_\w+)", contract_in(tmp_path).stdout, flags=re.MULTILINE)
    assert sorted(failed) == [
        "test_a_weight_without_gradient_becomes_what_left_returns",
        "test_its_documentation_and_axis_are_complete",
        "test_under_a_grad_scaler_it_acts_on_unscaled_gradients_and_never_on_a_skipped_step",
    ]


def test_every_moment_of_a_regularizer_is_on_the_page() -> None:
    ours = {name for name in vars(Regularizer) if not name.startswith("_") and callable(getattr(Regularizer, name))}
    told_elsewhere = {"axis", "scaled", "multiplier", "validate", "summary"}
    assert [name for name in sorted(ours - told_elsewhere) if f"`{name}" not in SAID] == []
