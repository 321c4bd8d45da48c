"""docs/policies.md followed to the letter: the file, the registry line, the contract."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segdecay.decay import Policy

ROOT = Path(__file__).parent.parent
SAID = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")


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


def test_the_policy_on_the_page_keeps_the_contract(tmp_path: Path) -> None:
    assert written_files(tmp_path) == ["weight_elimination.py", "test_weight_elimination.py"]
    done = contract_in(tmp_path)
    assert re.search(r"^10 passed", done.stdout, flags=re.MULTILINE), done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "promise"),
    [
        ("sign * bucket.grad_scale * bucket.strength", "sign * bucket.strength", "grad_scaler"),
        ("self.scale) ** 2) ** 2", "self.scale) ** 2)", "idle_weight_follows_the_law"),
        ("For: networks", "Use: networks", "documentation_and_axis"),
    ],
)
def test_a_slip_in_the_policy_on_the_page_breaks_the_contract(
    tmp_path: Path, right: str, wrong: str, promise: str
) -> None:
    written_files(tmp_path)
    path = tmp_path / "weight_elimination.py"
    code = path.read_text(encoding="utf-8")
    assert right in code
    path.write_text(code.replace(right, wrong), encoding="utf-8")
    done = contract_in(tmp_path)
    assert re.search(rf"^FAILED .*{promise}", done.stdout, flags=re.MULTILINE), done.stdout


def test_every_moment_of_a_policy_is_on_the_page() -> None:
    ours = {name for name in vars(Policy) if not name.startswith("_") and callable(getattr(Policy, name))}
    told_elsewhere = {"axis", "scaled", "multiplier", "validate", "summary"}
    assert [name for name in sorted(ours - told_elsewhere) if f"`{name}" not in SAID] == []
