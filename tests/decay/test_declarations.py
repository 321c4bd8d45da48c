"""What a model's author declares undecayed stays so; names of tables and vocabularies; an optimizer's own groups."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import timm
import torch
import transformers
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from segdecay.decay import attach, group_parameters
from segdecay.errors import DecayError

DECAYED = ("encoder", "body", "head")
SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def groups_of(model: nn.Module) -> dict[str, str]:
    return {row.name: row.group for row in group_parameters(model).rows}


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(8, 8), nn.Linear(8, 8)
        self.A_log = nn.Parameter(torch.rand(8, 4))
        self.A_log._no_weight_decay = True  # type: ignore[attr-defined]


class Declares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.fc = nn.Parameter(torch.rand(4, 4)), nn.Linear(4, 4), nn.Linear(4, 2)

    def no_weight_decay(self) -> set[str]:
        return {"table", "absent"}

    def no_weight_decay_keywords(self) -> set[str]:
        return {"mix"}


def test_a_flag_on_a_parameter_wins_and_stands_in_the_reason() -> None:
    row = next(row for row in group_parameters(Mixer()).rows if row.name == "A_log")
    assert (row.group, row.reason) == ("bias", "declared by the parameter's flag _no_weight_decay")


def test_declarations_hold_inside_other_modules_under_their_own_names() -> None:
    net = nn.Sequential(Declares(), nn.Linear(2, 4), Declares())
    found = groups_of(net)
    assert all(found[name] == "bias" for name in ("0.table", "2.table", "0.mix.weight", "2.mix.weight"))
    assert found["1.weight"] == "body"
    reasons = {row.name: row.reason for row in group_parameters(net).rows}
    assert reasons["0.table"] == "declared by Declares.no_weight_decay()"
    assert reasons["2.mix.weight"] == "declared by Declares.no_weight_decay_keywords()"


def test_a_rule_of_the_user_is_above_a_declaration() -> None:
    assert {row.name: row.group for row in group_parameters(Declares(), rules={"table": "body"}).rows}[
        "table"
    ] == "body"


def test_methods_of_the_same_name_that_declare_nothing_are_let_be() -> None:
    net = Declares()
    net.no_weight_decay = lambda _argument: None  # type: ignore[assignment, misc]
    net.no_weight_decay_keywords = lambda: None  # type: ignore[assignment, return-value]
    assert groups_of(net)["table"] == "body"


@pytest.mark.parametrize("name", ["levit_128s", "tiny_vit_5m_224", "efficientformer_l1", "swinv2_tiny_window8_256"])
def test_what_timm_declares_is_not_decayed(name: str) -> None:
    with torch.device("meta"):
        net: Any = timm.create_model(name)
    found = groups_of(net)
    declared = set(net.no_weight_decay()) & set(found)
    assert declared
    assert not [name for name in declared if found[name] in DECAYED]


@pytest.mark.parametrize("tied", [False, True])
def test_a_vocabulary_decays_tied_or_not(tied: bool) -> None:
    config = transformers.LlamaConfig(tie_word_embeddings=tied, **SMALL)
    found = groups_of(transformers.LlamaForCausalLM(config))
    assert found["model.embed_tokens.weight"] == ("head" if tied else "body")


def test_tables_of_positions_do_not_decay_in_any_spelling() -> None:
    t5 = transformers.T5Model(
        transformers.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    found = groups_of(t5)
    assert [group for name, group in found.items() if "relative" in name] == ["bias", "bias"]
    assert found["shared.weight"] == "body"
    gpt2 = transformers.GPT2Config(vocab_size=64, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    found = groups_of(transformers.GPT2Model(gpt2))
    assert (found["wte.weight"], found["wpe.weight"]) == ("body", "bias")
    whisper = transformers.WhisperConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    found = groups_of(transformers.WhisperModel(whisper))
    assert found["decoder.embed_tokens.weight"] == "body"
    assert found["decoder.embed_positions.weight"] == "bias"


def test_both_spellings_of_weight_norm_are_grouped_alike() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 2, 1))
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 2, 1))
    theirs = groups_of(new)
    found = groups_of(old)
    assert (found["0.weight_g"], found["0.weight_v"]) == ("norm", "body")
    gain, direction = (theirs[f"0.parametrizations.weight.original{number}"] for number in (0, 1))
    assert (gain, direction) == ("norm", "body")


def test_the_name_of_a_class_alone_spares_no_matrix() -> None:
    class MyNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixing, self.gain = nn.Parameter(torch.rand(4, 4)), nn.Parameter(torch.rand(4))

    found = groups_of(nn.Sequential(MyNorm(), nn.Linear(4, 2)))
    assert (found["0.mixing"], found["0.gain"]) == ("body", "norm")


def _swin() -> tuple[Any, Any]:
    net = timm.create_model("swinv2_tiny_window8_256", num_classes=4)
    return net, create_optimizer_v2(net, opt="adamw", lr=1e-3, weight_decay=0.05)


def test_the_partition_of_the_optimizer_decays_what_it_decayed() -> None:
    net, optimizer = _swin()
    own = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    handle = attach(optimizer, net, "decoupled", strength=0.05, groups="optimizer")
    now = handle.strengths()
    assert all((now[name] or 0.0) == own[id(p)] for name, p in net.named_parameters())
    handle.detach()
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}


def test_groups_of_several_strengths_keep_their_proportion() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    groups = [
        {"params": [net[0].weight], "weight_decay": 0.1},
        {"params": [net[1].weight], "weight_decay": 0.05},
        {"params": [net[0].bias, net[1].bias], "weight_decay": 0.0},
    ]
    handle = attach(torch.optim.AdamW(groups), net, "decoupled", strength=0.2, groups="optimizer")
    assert handle.strengths() == {"0.weight": 0.2, "0.bias": None, "1.weight": 0.1, "1.bias": None}


def test_a_take_over_that_decays_what_was_spared_says_so() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    groups = [{"params": [net[0].weight], "weight_decay": 0.0}, {"params": net[1].parameters(), "weight_decay": 0.1}]
    with pytest.warns(UserWarning, match=r"1 parameters that the optimizer's groups spared .*\(0.weight\)"):
        attach(torch.optim.AdamW(groups), net, "decoupled", strength=0.1, take_over=True)


def test_groups_that_say_nothing_are_refused() -> None:
    net = nn.Linear(3, 2)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(DecayError, match="none of its 1 groups has any"):
        attach(sgd, net, "decoupled", strength=0.1, groups="optimizer")
    with pytest.raises(DecayError, match="Unknown value of groups"):
        attach(sgd, net, "decoupled", strength=0.1, groups="optimiser")  # type: ignore[arg-type]
    with pytest.raises(DecayError, match="says the same thing twice"):
        attach(sgd, net, "decoupled", strength=0.1, groups="optimizer", multipliers={"head": 1.0})
