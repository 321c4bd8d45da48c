"""The groups that others make: nothing in them is called wrong, and every norm layer of their models is known."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

from segdecay.decay import Audit, audit
from segdecay.decay.audit.mechanism import measure
from segdecay.decay.audit.table import own_decays
from segdecay.models.unet import UNet

Groups = list[dict[str, Any]]
timm_optim: Any = importlib.import_module("timm.optim")


def on_meta(build: Callable[[], Any]) -> nn.Module:
    with torch.device("meta"):
        return cast("nn.Module", build())


TIMM = (
    "resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "convnext_atto", "levit_128s", "beit_base_patch16_224", "xcit_nano_12_p8_224",
    "efficientnet_b0", "twins_svt_small", "coat_tiny", "mobilenetv3_small_050",
)  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_nothing_is_wrong_with_the_groups_of_timm(name: str) -> None:
    model = on_meta(lambda: timm.create_model(name))
    own = getattr(model, "no_weight_decay", None)
    spared = own() if callable(own) else ()
    groups = timm_optim.param_groups_weight_decay(model, weight_decay=0.05, no_weight_decay_list=spared)
    found = audit(model, torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.05))
    assert found.codes("wrong") == ()
    assert any(row.is_decayed for row in found.rows)
    assert "bias_decayed" not in found.codes()


def test_nothing_is_wrong_with_sgd_as_nnunet_makes_it() -> None:
    """nnU-Net v2: all parameters, lr 1e-2, weight_decay 3e-5, momentum .99, nesterov; gradients clipped at 12."""
    model = UNet(3, 4, width=4, depth=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    rates = [1e-2 * (1 - step / 250_000) ** 0.9 for step in range(0, 250_000, 250)]
    found = audit(model, optimizer, nn.CrossEntropyLoss(), learning_rates=rates, clip_norm=12.0)
    assert found.codes("wrong") == ()
    assert {"norm_decayed", "bias_decayed"} <= set(found.codes("doubtful"))
    assert found.loss.status == "examined"
    assert found.rows[0].total_decay == pytest.approx(3.95 / 250, rel=0.01)  # 3.95 over all 250,000 steps


def ultralytics_groups(model: nn.Module, decay: float) -> Groups:
    """Three groups, in words from its documentation: weights decay; weights of norm layers, and biases, do not."""
    norms = tuple(kind for name, kind in vars(nn).items() if "Norm" in name and isinstance(kind, type))
    weights, gains, biases = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if "bias" in name:
                biases.append(parameter)
            elif isinstance(module, norms):
                gains.append(parameter)
            else:
                weights.append(parameter)
    return [
        {"params": biases, "weight_decay": 0.0},
        {"params": weights, "weight_decay": decay},
        {"params": gains, "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_nothing_is_wrong_with_the_three_groups_of_ultralytics(name: str) -> None:
    model = on_meta(lambda: timm.create_model(name))
    groups = ultralytics_groups(model, 5e-4)
    for optimizer in (
        torch.optim.SGD(groups, lr=0.01, momentum=0.937, nesterov=True),
        torch.optim.AdamW(ultralytics_groups(model, 5e-4), lr=0.001, betas=(0.9, 0.999), weight_decay=0.0),
    ):
        found = audit(model, optimizer)
        assert found.codes("wrong") == ()
        assert "bias_decayed" not in found.codes()


def transformers_models() -> dict[str, Callable[[Any], Any]]:
    """Small models of transformers by name, built from configurations, without weights."""
    return {
        "segformer": lambda hf: hf.SegformerForSemanticSegmentation(hf.SegformerConfig(hidden_sizes=[8, 16, 16, 32])),
        "vit": lambda hf: hf.ViTForImageClassification(
            hf.ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2)
        ),
        "dinov2": lambda hf: hf.Dinov2ForImageClassification(
            hf.Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2)
        ),
        "convnextv2": lambda hf: hf.ConvNextV2ForImageClassification(
            hf.ConvNextV2Config(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
        ),
        "swin": lambda hf: hf.SwinForImageClassification(hf.SwinConfig(embed_dim=12, depths=[1, 1], num_heads=[1, 2])),
        "bert": lambda hf: hf.BertForSequenceClassification(
            hf.BertConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=50)
        ),
        "t5": lambda hf: hf.T5EncoderModel(
            hf.T5Config(d_model=24, num_layers=2, num_heads=2, d_kv=12, d_ff=32, vocab_size=50)
        ),
        "llama": lambda hf: hf.LlamaForCausalLM(hf.LlamaConfig(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=50)),
        "dpt": lambda hf: hf.DPTForSemanticSegmentation(hf.DPTConfig(
            hidden_size=24, num_hidden_layers=4, num_attention_heads=2, backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8)),
        "mask2former": lambda hf: hf.Mask2FormerForUniversalSegmentation(hf.Mask2FormerConfig()),
    }  # fmt: skip


TRANSFORMERS = transformers_models()


@pytest.fixture(scope="module")
def hf() -> Any:
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_nothing_is_wrong_with_the_groups_of_the_transformers_trainer(name: str, hf: Any) -> None:
    from transformers import Trainer

    model = on_meta(lambda: TRANSFORMERS[name](hf))
    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    named = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for key, p in named if key in decayed], "weight_decay": 0.01},
        {"params": [p for key, p in named if key not in decayed], "weight_decay": 0.0},
    ]
    found = audit(model, torch.optim.AdamW(groups, lr=5e-5))
    assert found.codes("wrong") == ()
    assert "lost_in_half" not in found.codes()


# --- norm layers ------------------------------------------------------------------------------------------------------

TIMM_NETS = (
    "resnet50_gn", "resnetv2_50x1_bit", "bat_resnext26ts", "efficientnet_b0", "tf_efficientnet_lite0", "regnety_002",
    "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnextv2_atto", "mobilenetv4_conv_small",
    "poolformer_s12", "maxvit_tiny_tf_224", "hrnet_w18_small", "edgenext_xx_small", "mobilevit_xxs",
    "vit_tiny_r_s16_p8_224", "resnet26t", "eva02_tiny_patch14_224",
)  # fmt: skip
SMP_NETS = ("Unet", "FPN", "DeepLabV3Plus", "MAnet", "UPerNet", "Linknet")


def from_timm(name: str) -> Callable[[], Any]:
    return lambda: timm.create_model(name)


def from_smp(name: str) -> Callable[[], Any]:
    return lambda: getattr(smp, name)("resnet18", encoder_weights=None)


MODELS: dict[str, Callable[[], Any]] = {
    **{f"timm {name}": from_timm(name) for name in TIMM_NETS},
    **{f"smp {name}": from_smp(name) for name in SMP_NETS},
    "torchvision resnet18": torchvision.models.resnet18,
    "torchvision convnext": torchvision.models.convnext_tiny,
    "torchvision swin": torchvision.models.swin_v2_t,
    "torchvision deeplab": lambda: torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None
    ),
}


def norm_names(model: nn.Module) -> set[str]:
    """Parameters of modules whose class name says norm: what the audit must not call a weight."""
    return {
        f"{path}.{leaf}"
        for path, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for leaf, _ in module.named_parameters(recurse=False)
    }


def everything_decays(model: nn.Module) -> Audit:
    return audit(model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4))


@pytest.mark.parametrize("name", MODELS)
def test_every_norm_layer_of_real_models_is_recognised(name: str) -> None:
    model = on_meta(MODELS[name])
    wanted = norm_names(model)
    (finding,) = [f for f in everything_decays(model).findings if f.code == "norm_decayed"]
    assert wanted
    assert wanted <= set(finding.parameters)
    layers = {f"{path}.weight" for path, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert layers & set(finding.parameters) == set()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_every_norm_layer_of_transformers_is_recognised(name: str, hf: Any) -> None:
    model = on_meta(lambda: TRANSFORMERS[name](hf))
    wanted = norm_names(model)
    (finding,) = [f for f in everything_decays(model).findings if f.code == "norm_decayed"]
    assert wanted
    assert wanted <= set(finding.parameters)


# --- mechanisms -------------------------------------------------------------------------------------------------------


Build = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]
TORCH = {
    "Adam": "coupled", "AdamW": "decoupled", "NAdam": "coupled", "RAdam": "coupled", "RMSprop": "coupled",
    "Adagrad": "coupled", "Adamax": "coupled", "Muon": "decoupled",
}  # fmt: skip
OF_TIMM = {
    "nadamw": "decoupled", "lion": "decoupled", "adoptw": "decoupled",
    "lookahead_adam": "coupled", "rmsproptf": "coupled", "adopt": "coupled",
}  # fmt: skip


def of_torch(name: str, **options: Any) -> Build:
    return lambda held, decay: getattr(torch.optim, name)(held, lr=0.1, weight_decay=decay, **options)


def of_timm(name: str) -> Build:
    def build(held: list[nn.Parameter], decay: float) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = timm_optim.create_optimizer_v2(held, opt=name, lr=0.1, weight_decay=decay)
        return optimizer

    return build


OPTIMIZERS: dict[str, tuple[Build, str]] = {
    **{f"torch {name}": (of_torch(name), kind) for name, kind in TORCH.items()},
    "torch NAdam, decoupled": (of_torch("NAdam", decoupled_weight_decay=True), "decoupled"),
    **{f"timm {name}": (of_timm(name), kind) for name, kind in OF_TIMM.items()},
}


STEPS = 12  # RAdam takes plain momentum steps for the first five, Lookahead averages every sixth


def weights_over_steps(build: Build, weight_decay: float) -> list[float]:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = build([weight], weight_decay)
    seen = [1.0]
    for _ in range(STEPS):
        weight.grad = torch.full((2, 2), 5.0)
        optimizer.step()
        seen.append(float(weight.detach()[0, 0]))
    return seen


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_mechanism_that_is_told_is_what_the_optimizer_does(name: str) -> None:
    """Decoupled: θ ← (1 − η·λ)·θ + u with the u of no decay. Coupled decay is divided by the gradient's size."""
    build, kind = OPTIMIZERS[name]
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = build([weight], 0.1)
    (decay,) = own_decays(optimizer, optimizer.param_groups[0], weight, measure(optimizer))
    assert (decay.mechanism, decay.strength) == (kind, 0.1)
    plain, decayed = weights_over_steps(build, 0.0), weights_over_steps(build, 0.1)
    as_told = [
        decayed[step + 1] == pytest.approx(decayed[step] * (1 - 0.1 * 0.1) + plain[step + 1] - plain[step], abs=1e-4)
        for step in range(STEPS)
    ]
    assert (sum(as_told) > 0.75 * STEPS) == (kind == "decoupled")


def test_a_wrapped_optimizer_decays_as_the_one_inside() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = of_timm("lookahead_momentum")([weight], 0.1)
    assert type(optimizer).__name__ == "Lookahead"
    (decay,) = own_decays(optimizer, optimizer.param_groups[0], weight, measure(optimizer))
    assert decay.mechanism == "coupled"
    assert decay.axis is not None
    assert (decay.axis.name, round(decay.axis.gain)) == ("total_decay", 10)
