"""Regularizers, formats and losses of an installed package are found by entry point; broken ones are left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segdecay.utils.plugins import Registry

MODULE = """
from segdecay.data.formats.folders import FolderSource
from segdecay.decay.regularizers.l2 import L2
from segdecay.training.losses import Dice


class Renamed(L2):
    name = "tiny_l2"


class TinyDice(Dice):
    name = "tiny_dice"


def tiny_folders(root, spec):
    return FolderSource(root, spec)
"""
POINTS = """
[segdecay.regularizers]
tiny_l2 = tiny_plugin:Renamed
l2 = tiny_plugin:Renamed

[segdecay.losses]
tiny_dice = tiny_plugin:TinyDice
absent = tiny_plugin:Absent

[segdecay.formats]
tiny = tiny_plugin:tiny_folders
"""
ASKED = """
import warnings
warnings.simplefilter("always")
from segdecay.cli.main import app
from segdecay.config.schema import parse_config
from segdecay.data.formats import LAYOUTS
from segdecay.decay import REGULARIZERS
from segdecay.training.losses import LOSSES, build_loss
app(["regularizers", "tiny_l2"], standalone_mode=False)
loss = build_loss(parse_config({"data": {"path": "x"}, "loss": {"name": "tiny_dice"}}).loss)
print([type(loss).__name__, "tiny" in LAYOUTS, list(LOSSES)[-1], list(REGULARIZERS)[-1], REGULARIZERS["l2"].__name__])
"""


def install(folder: Path) -> None:
    """What pip leaves of a package with one module: the module, and its metadata with entry points."""
    (folder / "tiny_plugin.py").write_text(MODULE, encoding="utf-8")
    info = folder / "tiny_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(POINTS, encoding="utf-8")


def test_what_an_installed_package_registers_is_found_and_what_is_broken_is_named_and_left_out(tmp_path: Path) -> None:
    install(tmp_path)
    code = f"import sys; sys.path.append({str(tmp_path)!r})\n{ASKED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['OriginalLoss', True, 'tiny_dice', 'tiny_l2', 'L2']"
    assert "segdecay.regularizers: 'l2' of tiny-plugin is left out: the name is taken" in done.stderr
    assert "segdecay.losses: 'absent' of tiny-plugin is left out: tiny_plugin:Absent cannot be imported" in done.stderr


def test_entry_points_are_loaded_once_and_only_when_a_name_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("segdecay.formats", {"ours": len})
    assert "tiny_plugin" not in sys.modules
    assert list(registry) == ["ours", "tiny"]
    monkeypatch.delitem(sys.modules, "tiny_plugin")
    assert registry["tiny"].__name__ == "tiny_folders"
    assert "tiny_plugin" not in sys.modules
