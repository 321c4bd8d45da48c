"""`check` says that no groups are known where names look like parts of scenes, and nothing where they do not."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import layout_cases as cases
import numpy as np
import pytest

from segdecay.config.schema import DataConfig
from segdecay.data.checks.scene_names import check_scene_names
from segdecay.data.loading import read_dataset

RANDOM = random.Random(3)
PARTS_OF_SCENES = {
    "tiles": [f"ortho{n}_{row}_{column}" for n in range(3) for row in range(2) for column in range(3)],
    "offsets": [f"P{n:04}_{x}" for n in range(4) for x in (0, 512, 1024)],
    "slices": [f"case_{n:02}-slice{k}" for n in range(5) for k in range(10, 14)],
    "folders": [f"{n:03}/frame_{k:02}" for n in range(4) for k in range(6)],
    "views": [f"plant 12.{n} view2_{k}" for n in range(3) for k in (1, 2)],
}
ADVICE = {
    "tiles": "group_pattern: '^(.+)_[0-9]+_[0-9]+$'",
    "offsets": "group_pattern: '^(.+)_[0-9]+$'",
    "slices": "group_pattern: '^(.+)-slice[0-9]+$'",
    "folders": "{group} for the folder",
    "views": "group_pattern: '^(.+) view[0-9]+_[0-9]+$'",
}
UNRELATED = {
    "numbers": [f"{n:04}" for n in range(40)],
    "a camera": [f"IMG_{n:04}" for n in range(40)],
    "two cameras": [f"{word}_{n:04}" for word in ("IMG", "DSC") for n in range(20)],
    "classes": [f"{word}_{n}" for word in ("cat", "dog", "cow") for n in range(9)],
    "years": [f"{year}_{n:03}" for year in (2019, 2020) for n in range(15)],
    "times": [f"IMG_2019050{day}_{RANDOM.randrange(80_000, 190_000)}" for day in (1, 2, 3) for _ in range(8)],
    "digests": [f"{RANDOM.getrandbits(64):016x}" for _ in range(40)],
    "digests of pieces": [f"{RANDOM.getrandbits(20):05x}-{RANDOM.getrandbits(16)}" for _ in range(40)],
    "words": ["".join(letters) for letters in itertools.permutations("abcd")],
    "few": ["a1_1", "a1_2", "a2_1", "a2_2"],
    "one scene": [f"city1_{n:03}" for n in range(30)],
}


@pytest.mark.parametrize("kind", PARTS_OF_SCENES)
def test_parts_of_scenes_are_told(kind: str) -> None:
    (found,) = check_scene_names(PARTS_OF_SCENES[kind])
    assert found.level == "warning"
    assert found.message.startswith("No groups are known, and ")
    assert ADVICE[kind] in found.message


@pytest.mark.parametrize("kind", UNRELATED)
def test_names_that_say_nothing_raise_no_alarm(kind: str) -> None:
    assert check_scene_names(UNRELATED[kind]) == ()


def test_the_advice_makes_groups_of_the_scenes() -> None:
    (found,) = check_scene_names(PARTS_OF_SCENES["tiles"])
    pattern = found.message.split("group_pattern: '")[1].split("'")[0]
    groups = {re.match(pattern, name)[1] for name in PARTS_OF_SCENES["tiles"]}  # type: ignore[index]
    assert groups == {"ortho0", "ortho1", "ortho2"}


@pytest.mark.parametrize("part", ["train", "Val"])
def test_folders_of_parts_are_no_scenes(tmp_path: Path, part: str) -> None:
    cases.pairs(tmp_path / "set", "images/train/f01_{n}.png", "masks/train/f01_{n}.png", masked=lambda m, _: m)
    cases.pairs(
        tmp_path / "set", f"images/{part}/f01_9{{n}}.png", f"masks/{part}/f01_9{{n}}.png", masked=lambda m, _: m
    )
    (tmp_path / "set" / "classes.txt").write_text("background\nroad\n")
    _, report = read_dataset(DataConfig(path=str(tmp_path / "set")), cache=tmp_path / "cache")
    assert "no_groups_known" not in {finding.code for finding in report.findings}


@pytest.mark.parametrize(
    ("text", "codes"),
    [("", {"no_groups_known"}), ("group_pattern: ^(s[0-9])", set()), ("group_pattern: ^(.*)$", set())],
)
def test_check_warns_until_something_is_said_of_groups(tmp_path: Path, text: str, codes: set[str]) -> None:
    for scene, part in itertools.product(range(3), range(3)):
        pixels, labels = cases.scene(10 * scene + part)
        cases.put(tmp_path / "set" / "images" / f"s{scene}_{part}.png", pixels)
        cases.put(tmp_path / "set" / "masks" / f"s{scene}_{part}.png", np.asarray(labels))
    (tmp_path / "set" / "dataset.yaml").write_text(f"classes: [background, road]\n{text}\n")
    _, report = read_dataset(DataConfig(path=str(tmp_path / "set")), cache=tmp_path / "cache")
    assert {finding.code for finding in report.findings if "group" in finding.code} == codes
