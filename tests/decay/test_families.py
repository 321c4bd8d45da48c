"""Our groups beside the authors' own, over a few of the families that benchmarks/families.py sweeps."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from paths import ROOT
from torch import nn

from segdecay.decay import group_parameters


@pytest.fixture(scope="module")
def families() -> ModuleType:
    spec = importlib.util.spec_from_file_location("families", ROOT / "benchmarks" / "families.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["families"] = module
    spec.loader.exec_module(module)
    return module


def decayed_by(tally: Any, who: str, way: str = "with declarations") -> list[str]:
    """Names of the parameters that only one side decays."""
    found = ((key, names) for key, names in tally.differences.items() if key[:2] == (way, f"{who} decay it"))
    return [name.split(": ")[-1] for _, names in found for name in names]


@pytest.mark.parametrize("family", ["convit", "deit", "mlp_mixer"])
def test_what_an_author_of_timm_declares_undecayed_is_so_here(family: str, families: ModuleType) -> None:
    tally = families.compare("timm", family)
    assert tally.families == 1
    assert tally.unbuilt == []
    assert decayed_by(tally, "we") == []


def test_a_declaration_may_be_a_glob_over_names(families: ModuleType) -> None:
    """xcit's 'pos_embed.*': a convolution by its type, which only the declaration spares."""
    tally = families.compare("timm", "xcit")
    assert decayed_by(tally, "we") == []
    assert decayed_by(tally, "we", "by rules alone") == ["pos_embed.token_projection.weight"]


def test_a_position_table_is_known_by_its_name_whatever_class_holds_it(families: ModuleType) -> None:
    """The class is called ConVit, which has the word for a layer of weights in it."""
    assert decayed_by(families.compare("timm", "convit"), "we", "by rules alone") == []


def test_what_computes_a_bias_of_positions_is_spared_as_the_table_is() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cpb_mlp, self.rel_pos_x_bias = nn.Linear(2, 4), nn.Linear(4, 2, bias=False)
            self.pos_biased, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)

    groups = {row.name: row.group for row in group_parameters(Block()).rows}
    assert (groups["cpb_mlp.weight"], groups["rel_pos_x_bias.weight"]) == ("bias", "bias")
    assert (groups["pos_biased.weight"], groups["head.weight"]) == ("body", "head")


def test_beside_the_trainer_of_transformers_no_matrix_is_decayed_that_it_spares(
    families: ModuleType,
) -> None:
    models = [build for name, build in families.transformers_models("swinv2") if name == "swinv2"]
    with torch.device("meta"):
        (model,) = (build() for build in models)
    spared, declared = families.spared_by_transformers(model)
    assert declared == set()
    found = families.differences(model, spared, declarations=True)
    assert [name for who, _, name in found if who == "we decay it"] == []
