"""What is imported is installed: run-time code stands on the run-time parts, and other trainers are imported late."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from paths import ROOT

# Imported by us, and brought by a part that we name: what brings them, by its metadata.
BROUGHT = {"lightning_utilities": "lightning-fabric", "markupsafe": "jinja2"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _imports(tree: ast.AST, *, is_late: bool = False) -> Iterator[tuple[str, bool]]:
    """Top-level packages that a tree imports, and whether only when a function is called or types are checked."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], is_late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0], is_late
        else:
            is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(node, is_late=is_late or is_function or is_typing)


def _outside(path: Path) -> set[tuple[str, bool]]:
    found = set(_imports(ast.parse(path.read_text(encoding="utf-8"))))
    return {(name, is_late) for name, is_late in found if name not in {*sys.stdlib_module_names, "segdecay"}}


def test_every_import_is_a_run_time_part_or_an_extra_that_is_imported_late() -> None:
    distributions = importlib.metadata.packages_distributions()
    parts = {_name(one) for one in PROJECT["dependencies"]}
    extras = {_name(one) for group in PROJECT["optional-dependencies"].values() for one in group}
    wrong = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for name, is_late in _outside(path):
            is_integration = path.parent.name == "integrations"  # imported by who has that trainer
            names = {_name(one) for one in distributions.get(name, [name])}
            if not (names & parts or BROUGHT.get(name) in parts or (names & extras and (is_late or is_integration))):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


def test_what_others_bring_is_still_brought() -> None:
    for name, bringer in BROUGHT.items():
        brought = {_name(one) for one in importlib.metadata.requires(bringer) or []}
        assert name.replace("_", "-") in brought


def test_the_search_for_imports_tells_late_ones_from_early_ones() -> None:
    early = "import os.path\nfrom typing import TYPE_CHECKING\n"
    code = f"{early}if TYPE_CHECKING:\n    import ray\ndef f():\n    import numpy.linalg\n"
    assert set(_imports(ast.parse(code))) == {("os", False), ("typing", False), ("ray", True), ("numpy", True)}
