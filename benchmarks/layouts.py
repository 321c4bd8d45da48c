"""How often `segdecay init` reads random trees correctly, asks, refuses, or reads them wrongly (which must not happen).

python benchmarks/layouts.py --trees 1000
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from random_layouts import Tree, random_tree

from segdecay.config.schema import DataConfig
from segdecay.data.dataset import IGNORE, Dataset
from segdecay.data.detect.detect import DoubtError, guess_spec
from segdecay.data.formats import source_of
from segdecay.data.formats.base import PlacedSource
from segdecay.data.loading import read_dataset
from segdecay.data.spec import parse_spec
from segdecay.errors import DataError


def verdict_of(root: Path, tree: Tree, cache: Path) -> str:
    """What becomes of a tree: right, question, asked (rightly), refused, or wrong with what is wrong."""
    try:
        spec = parse_spec(guess_spec(root).spec_yaml)
    except DoubtError:
        return "asked" if tree.is_ambiguous else "question"
    except DataError:
        return "refused"
    source = source_of(root, spec)
    found, report = read_dataset(DataConfig(path=str(root)), cache=cache, source=source)
    if found is None:
        return "refused"
    if tree.is_ambiguous:
        return "wrong: guessed where a question is right"
    paths = {path.rsplit(".", 1)[0]: path for path in tree.truth}
    if isinstance(source, PlacedSource):
        paths = {one.pair.name: one.pair.image.relative_to(root).as_posix() for one in source.placed}
    named = [paths.get(item.name, item.name) for item in found.items]
    left = set(tree.truth) - set(named)
    if left and not any(finding.code in {"left_aside", "part_without_masks"} for finding in report.findings):
        return f"wrong: {len(left)} images are left without a word"
    if left or set(named) - set(tree.truth):
        return "wrong: other images"
    parts = [item.name for item, path in zip(found.items, named, strict=True) if item.part != tree.truth[path][0]]
    if parts:
        return f"wrong: part of {parts[0]}"
    groups = {tree.groups[path]: item.group for item, path in zip(found.items, named, strict=True) if tree.groups}
    apart = len({item.group for item in found.items})
    if tree.groups and (apart != len(groups) or len(set(groups.values())) != apart):
        return f"wrong: {apart} groups in place of {len(set(tree.groups.values()))}"
    return "right" if _labels_fit(found, tree, named) else "wrong: labels"


def _labels_fit(found: Dataset, tree: Tree, named: list[str]) -> bool:
    """Whether one renaming of classes makes all masks the true ones, by the names where these are known."""
    meaning = {IGNORE: IGNORE} | {
        label: found.classes.index(name) for label, name in tree.names.items() if name in found.classes
    }
    if tree.names and len(meaning) < len(tree.names) + 1:
        return False
    for index, path in enumerate(named):
        true, seen = tree.truth[path][1], found.mask(index)
        if true.shape != seen.shape:
            return False
        for here, there in set(zip(true.ravel().tolist(), np.asarray(seen).ravel().tolist(), strict=True)):
            if meaning.setdefault(here, there) != there:
                return False
    return len(set(meaning.values())) == len(meaning)


def count_verdicts(scratch: Path, seeds: range) -> tuple[Counter[str], dict[int, str]]:
    """Verdicts of the trees of these seeds, and those that are not right by seed."""
    verdicts, others = Counter[str](), dict[int, str]()
    for seed in seeds:
        root = scratch / f"tree{seed}"
        root.mkdir(parents=True)
        tree = random_tree(root, seed)
        verdict = verdict_of(root, tree, scratch / "cache")
        verdicts[verdict.split(":")[0]] += 1
        if verdict not in {"right", "asked"}:
            others[seed] = f"{tree.kind}: {verdict}"
        shutil.rmtree(root)
        shutil.rmtree(scratch / "cache", ignore_errors=True)
    return verdicts, others


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        verdicts, others = count_verdicts(Path(scratch), range(asked.first, asked.first + asked.trees))
    print(", ".join(f"{name} {count}" for name, count in verdicts.most_common()))
    kinds = Counter(others.values())
    for text, count in kinds.most_common(30):
        print(f"  {count} × {text}, as seed {next(seed for seed, one in others.items() if one == text)}")


if __name__ == "__main__":
    main()
