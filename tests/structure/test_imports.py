"""No module imports itself by way of others, inside a package either; import-linter holds the layers (make layers)."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest
from paths import ROOT


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("segdecay")
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imported) > 100
    TopologicalSorter(imported).prepare()  # a CycleError names the circle


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "src" / "segdecay").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_a_circle_is_told() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
