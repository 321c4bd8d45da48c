"""What model.weights gives a run: which tensors stay random, what l2_sp takes as new, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.torch import save_file
from shapes import small_config

from segdecay.config.schema import ModelConfig, RunConfig
from segdecay.decay import group_parameters
from segdecay.models.zoo import build_model, fresh_names
from segdecay.training.preflight import Preflight, start_notes
from segdecay.training.setup import attach_regularizer, partition_of, regularizer_options


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A file with the encoder of the small U-Net, and nothing else."""
    donor = build_model(_model(None), in_channels=3, classes=4)
    kept = {name: value for name, value in donor.state_dict().items() if name.startswith("encoder.")}
    save_file(kept, tmp_path / "encoder.safetensors")
    return tmp_path / "encoder.safetensors"


def _model(weights: Path | None) -> ModelConfig:
    return ModelConfig(name="unet-tiny", width=4, depth=2, weights=None if weights is None else str(weights))


def _config(weights: Path | None, options: Mapping[str, object] | None = None) -> RunConfig:
    config = small_config("x", decay={"regularizer": "l2_sp", "options": dict(options or {})})
    return config.model_copy(update={"model": _model(weights)})


def _new(config: RunConfig) -> object:
    model = build_model(config.model, in_channels=3, classes=4)
    return regularizer_options(config, model, partition_of(config, model)).get("new")


def test_tensors_that_a_file_does_not_hold_are_fresh(encoder: Path) -> None:
    model = build_model(_model(encoder), in_channels=3, classes=4)
    fresh = fresh_names(_model(encoder), model)
    assert set(fresh) == {name for name in model.state_dict() if not name.startswith("encoder.")}
    assert set(fresh_names(_model(None), model)) == set(model.state_dict())


def test_under_l2_sp_what_an_encoder_file_does_not_hold_is_new(encoder: Path) -> None:
    new = _new(_config(encoder))
    assert isinstance(new, list)
    rows = group_parameters(build_model(_model(None), in_channels=3, classes=4)).rows
    decayed = {row.name for row in rows if row.group not in ("norm", "bias")}
    assert set(new) == {name for name in decayed if not name.startswith("encoder.")}


def test_the_encoder_is_pulled_and_the_rest_decays(encoder: Path) -> None:
    config = _config(encoder)
    model = build_model(config.model, in_channels=3, classes=4)
    _, handle = attach_regularizer(config, model, 1.0, [0.1] * 10)
    lines = handle.regularizer.summary().splitlines()[1:]
    sides = {line.split()[1]: line.split()[0] for line in lines}
    assert {sides[name] for name in sides if name.startswith("encoder.")} == {"pulled"}
    assert {sides[name] for name in sides if not name.startswith("encoder.")} == {"new"}


def test_what_was_asked_to_be_new_stays_so_and_without_a_file_nothing_is_named(encoder: Path) -> None:
    assert _new(_config(encoder, {"new": ["head"]})) == ["head"]
    assert _new(_config(None)) is None


def _preflight(config: RunConfig) -> Preflight:
    model = build_model(config.model, in_channels=3, classes=4)
    return Preflight(
        partition_of(config, model), 0.1, 1, None, fresh_names(config.model, model), len(model.state_dict())
    )


def test_what_a_file_left_random_is_said(encoder: Path) -> None:
    config = _config(encoder)
    preflight = _preflight(config)
    (note,) = start_notes(config, preflight)
    given = preflight.tensors - len(preflight.fresh)
    assert note.startswith(
        f"model.weights gives {given} of {preflight.tensors} tensors; {len(preflight.fresh)} begin with"
    )
    assert preflight.fresh[0] in note
    assert note.endswith(", …")


def test_l2_sp_from_a_random_start_is_warned_of_and_other_regularizers_are_not() -> None:
    config = _config(None)
    (note,) = start_notes(config, _preflight(config))
    assert note.startswith("warning: l2_sp pulls weights to their initial values, which are random here")
    plain = config.model_copy(update={"decay": config.decay.model_copy(update={"regularizer": "decoupled"})})
    assert start_notes(plain, _preflight(plain)) == []
