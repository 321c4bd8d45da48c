"""docs/design.md lists the packages and the layers of the code."""

from __future__ import annotations

import re
import tomllib

from paths import ROOT

SOURCE = ROOT / "src" / "segdecay"


def _block(title: str) -> list[str]:
    """The lines of the first code block under a heading."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(r"```\n(.*?)\n```", section, flags=re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def _packages() -> set[str]:
    folders = {path.parent.relative_to(SOURCE) for path in SOURCE.rglob("*.py")}
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    return {".".join(folder.parts) for folder in folders if folder.parts} | modules


def _layers() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [one["layers"] for one in settings["contracts"] if one["type"] == "layers"]
    return list(layers)


def test_every_package_is_listed_once_with_a_description_and_nothing_else_is() -> None:
    rows = [line.split(maxsplit=1) for line in _block("Packages")]
    assert all(len(row) == 2 for row in rows)
    names = [row[0] for row in rows]
    assert sorted(names) == sorted(_packages())


def test_a_subpackage_stands_below_its_package() -> None:
    parent = ""
    for line in _block("Packages"):
        name = line.split()[0]
        if line.startswith("  "):
            assert name.startswith(f"{parent}.")
        else:
            assert "." not in name
            parent = name


def test_the_layers_are_those_of_import_linter_in_its_order() -> None:
    assert _block("Layers") == _layers()


def test_packages_are_listed_from_the_lowest_layer_up() -> None:
    layers = _layers()
    heights = {name: -row for row, line in enumerate(layers) for name in line.split(" | ")}
    listed = [line.split()[0] for line in _block("Packages") if not line.startswith(" ")]
    assert [heights[name] for name in listed] == sorted(heights[name] for name in listed)
