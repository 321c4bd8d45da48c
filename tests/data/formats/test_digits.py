"""The built-in scenes: the same bytes every time, and no glyph in two groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segdecay.config.schema import DataConfig
from segdecay.data.checks.findings import Notebook
from segdecay.data.formats import digits
from segdecay.data.formats.digits import ScenesSource
from segdecay.data.loading import load_dataset, read_dataset

DIGITS = DataConfig.model_validate({"path": "digits"})


def test_the_same_seed_gives_the_same_bytes() -> None:
    once, again = (digits.compose_scenes(3, n_train=12, n_test=8) for _ in range(2))
    other = digits.compose_scenes(4, n_train=12, n_test=8)
    for part in ("train", "test"):
        assert once[part].images.tobytes() == again[part].images.tobytes()
        assert once[part].masks.tobytes() == again[part].masks.tobytes()
        assert once[part].images.tobytes() != other[part].images.tobytes()


def test_two_caches_hold_the_same_data_set(tmp_path: Path) -> None:
    one, report = load_dataset(DIGITS, cache=tmp_path / "one")
    other, _ = load_dataset(DIGITS, cache=tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    assert (one.root / "images.u8").read_bytes() == (other.root / "images.u8").read_bytes()
    assert [finding for finding in report.findings if finding.level != "note"] == []
    assert (one.flip, one.fold_method, one.bands, len(one.classes)) == ("none", "groups", 3, 11)


def test_scenes_are_composed_once_and_then_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = read_dataset(DIGITS, cache=tmp_path)
    monkeypatch.setattr(digits, "compose_scenes", None)
    assert read_dataset(DIGITS, cache=tmp_path)[0] == first


def test_no_group_and_no_name_is_in_two_parts() -> None:
    samples = list(ScenesSource().samples(Notebook()))
    train, test = ({sample.group for sample in samples if sample.part == part} for part in ("train", "test"))
    assert not train & test
    assert len({sample.name for sample in samples}) == len(samples)


def test_no_glyph_is_used_by_two_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[set[bytes]] = []
    compose = digits._scene

    def noting(random: np.random.RandomState, photos: object, pool: dict[int, list[digits.I64]]) -> object:
        glyphs = {glyph.tobytes() for found in pool.values() for glyph in found}
        if not used or used[-1] != glyphs:
            used.append(glyphs)
        return compose(random, photos, pool)  # type: ignore[arg-type]

    monkeypatch.setattr(digits, "_scene", noting)
    digits.compose_scenes(n_train=24, n_test=16)
    assert len(used) == digits.N_TRAIN_GROUPS + digits.N_TEST_GROUPS
    assert sum(len(glyphs) for glyphs in used) == len(set().union(*used))
