"""Random trees whose truth is known: never read wrongly, and mostly read without a question."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from random_layouts import KINDS, random_tree


def _script() -> Any:
    """The program that reads random trees and judges what became of them."""
    path = Path(__file__).parents[3] / "benchmarks" / "layouts.py"
    spec = importlib.util.spec_from_file_location("layouts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
TREES = 2 * len(KINDS)
LEAST_RIGHT = 0.8


def test_random_trees_are_never_read_wrongly_and_mostly_without_a_question(tmp_path: Path) -> None:
    """Two of each kind: those with one reading are read right, those with two are asked about."""
    verdicts, others = SCRIPT.count_verdicts(tmp_path, range(TREES))
    assert [text for text in others.values() if "wrong" in text] == []
    assert verdicts["right"] >= LEAST_RIGHT * (TREES - verdicts["asked"]), others
    assert verdicts["asked"] == 2 * sum(
        random_tree(tmp_path / kind, seed).is_ambiguous for seed, kind in enumerate(KINDS)
    )


def test_a_guess_where_a_question_is_right_is_told(tmp_path: Path) -> None:
    tree = replace(random_tree(tmp_path / "tree", 1), is_ambiguous=True)
    assert SCRIPT.verdict_of(tmp_path / "tree", tree, tmp_path / "cache") == "wrong: guessed where a question is right"


@pytest.mark.parametrize("kind", ["many sites", "a table of patients"])
def test_other_groups_are_told(tmp_path: Path, kind: str) -> None:
    tree = random_tree(tmp_path / "tree", KINDS.index(kind))
    tree.groups.update(dict.fromkeys(tree.groups, "one"))
    assert " groups in place of 1" in SCRIPT.verdict_of(tmp_path / "tree", tree, tmp_path / "cache")


def test_swapped_names_are_told(tmp_path: Path) -> None:
    tree = random_tree(tmp_path / "tree", KINDS.index("names beside"))
    tree.names.update({0: tree.names[1], 1: tree.names[0]})
    assert SCRIPT.verdict_of(tmp_path / "tree", tree, tmp_path / "cache") == "wrong: labels"


def test_a_wrong_part_is_told(tmp_path: Path) -> None:
    tree = random_tree(tmp_path / "tree", 1)
    path = next(iter(tree.truth))
    tree.truth[path] = ("test", tree.truth[path][1])
    assert SCRIPT.verdict_of(tmp_path / "tree", tree, tmp_path / "cache").startswith("wrong: part of")


@pytest.mark.parametrize("seed", [1, 2])
def test_wrong_labels_are_told(tmp_path: Path, seed: int) -> None:
    tree = random_tree(tmp_path / "tree", seed)
    path, (part, labels) = next(iter(tree.truth.items()))
    tree.truth[path] = (part, labels[::-1].copy())
    assert SCRIPT.verdict_of(tmp_path / "tree", tree, tmp_path / "cache") == "wrong: labels"
