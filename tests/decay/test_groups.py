"""The partition: every trainable parameter in exactly one group, for the right reason, whatever wraps the model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from segdecay.decay import Partition, group_parameters, optimizer_groups
from segdecay.decay.groups import DEFAULT_MULTIPLIERS, GROUPS, bare_module, group_multipliers
from segdecay.errors import DecayError
from segdecay.models.unet import UNet

torch.set_num_threads(1)


def groups_of(model: nn.Module, **options: str) -> dict[str, str]:
    return {row.name: row.group for row in group_parameters(model, **options).rows}  # type: ignore[arg-type]


def assert_partitions(partition: Partition, model: nn.Module) -> None:
    placed = [id(parameter) for group in partition.groups for _, parameter in partition.parameters(group)]
    trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(placed) == sorted(trainable)
    assert len(set(placed)) == len(placed)
    frozen = [id(parameter) for _, parameter in partition.parameters("frozen")]
    assert sorted(frozen + placed) == sorted(id(parameter) for parameter in model.parameters())
    assert all(row.reason for row in partition.rows)


class Custom(nn.Module):
    """What real models hold beside convolutions and linear layers."""

    class ScaleNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 5, 5))

    class NormedConv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3, 1, 1))
            self.gain = nn.Parameter(torch.ones(4, 1, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 6, 4))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.position_embeddings = nn.Embedding(6, 4)
        self.words = nn.Embedding(6, 4)
        self.layer_scale = nn.Parameter(torch.ones(4, 1, 1))
        self.gamma = nn.Parameter(torch.ones(4))
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.activation = nn.PReLU(4)
        self.scale_norm = Custom.ScaleNorm()
        self.normed_conv = Custom.NormedConv()
        self.attention = nn.MultiheadAttention(4, 2)
        self.memory = nn.GRU(4, 4)
        self.instance = nn.InstanceNorm2d(4, affine=True)
        self.layer = nn.LayerNorm((4, 3, 3))
        self.group = nn.GroupNorm(2, 4)
        self.query_proj = nn.Linear(4, 4)
        self.pos_embed_proj = nn.Conv2d(4, 4, 3, groups=4)
        self.normalised = weight_norm(nn.Linear(4, 4))
        self.head = nn.Conv2d(4, 1, 1)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "built-in U-Net": lambda: UNet(3, 5, width=4, depth=2),
    "built-in U-Net, group norm": lambda: UNet(3, 5, width=8, depth=1, norm="group", dropout=0.1),
    "smp U-Net": lambda: cast("nn.Module", smp.Unet("resnet18", encoder_weights=None)),
    "smp SegFormer": lambda: cast("nn.Module", smp.Segformer("mit_b0", encoder_weights=None)),
    "lraspp": lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
    "deeplab": lambda: torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, aux_loss=True
    ),
    "detector": lambda: torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None
    ),
    "timm ViT": lambda: timm.create_model("vit_tiny_patch16_224"),
    "timm ConvNeXt": lambda: timm.create_model("convnext_atto"),
    "timm EfficientNet": lambda: timm.create_model("tf_efficientnet_lite0"),
    "torchvision Swin": lambda: torchvision.models.swin_t(weights=None),
    "custom": Custom,
}
HEADS = {
    "built-in U-Net": ["head.weight"],
    "built-in U-Net, group norm": ["head.weight"],
    "smp U-Net": ["segmentation_head.0.weight"],
    "smp SegFormer": ["segmentation_head.0.weight"],
    "lraspp": ["classifier.low_classifier.weight", "classifier.high_classifier.weight"],
    "deeplab": ["classifier.4.weight", "aux_classifier.4.weight"],
    "detector": ["roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.bbox_pred.weight"],
    "timm ViT": ["head.weight"],
    "timm ConvNeXt": ["head.fc.weight"],
    "timm EfficientNet": ["classifier.weight"],
    "torchvision Swin": ["head.weight"],
    "custom": ["head.weight"],
}


@functools.cache
def build(name: str) -> nn.Module:
    return BUILDERS[name]()


@pytest.mark.parametrize("name", BUILDERS)
def test_the_groups_partition_the_parameters_of_real_models(name: str) -> None:
    assert_partitions(group_parameters(build(name)), build(name))


@pytest.mark.parametrize("name", BUILDERS)
def test_the_head_of_real_models_is_found(name: str) -> None:
    assert [key for key, _ in group_parameters(build(name)).parameters("head")] == HEADS[name]


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "custom"])
def test_only_weights_of_layers_decay_in_real_models(name: str) -> None:
    layers = (nn.Conv2d, nn.Linear)
    partition = group_parameters(build(name))
    owners = {
        f"{path}.{leaf}": type(module)
        for path, module in build(name).named_modules()
        for leaf, _ in module.named_parameters(recurse=False)
    }
    decayed = [key for group in ("encoder", "body", "head") for key, _ in partition.parameters(group)]
    assert decayed
    assert [key for key in decayed if not (issubclass(owners[key], layers) and key.endswith(".weight"))] == []
    others = [key for group in ("norm", "bias") for key, _ in partition.parameters(group)]
    assert [key for key in others if issubclass(owners.get(key, nn.Module), layers) and key.endswith(".weight")] == []


def test_what_scales_is_norm_and_what_is_added_is_bias() -> None:
    groups = groups_of(build("custom"))
    norm = {
        "layer_scale", "gamma", "logit_scale", "activation.weight", "scale_norm.weight", "normed_conv.gain",
        "instance.weight", "instance.bias", "layer.weight", "layer.bias", "group.weight", "group.bias",
        "normalised.parametrizations.weight.original0",
    }  # fmt: skip
    bias = {
        "pos_embed", "cls_token", "relative_position_bias_table", "position_embeddings.weight", "head.bias",
        "attention.in_proj_bias", "attention.out_proj.bias", "memory.bias_ih_l0", "memory.bias_hh_l0",
        "query_proj.bias", "pos_embed_proj.bias", "normalised.bias",
    }  # fmt: skip
    body = {
        "words.weight", "normed_conv.weight", "attention.in_proj_weight", "attention.out_proj.weight",
        "memory.weight_ih_l0", "memory.weight_hh_l0", "query_proj.weight", "pos_embed_proj.weight",
        "normalised.parametrizations.weight.original1",
    }  # fmt: skip
    assert {name for name, group in groups.items() if group == "norm"} == norm
    assert {name for name, group in groups.items() if group == "bias"} == bias
    assert {name for name, group in groups.items() if group == "body"} == body


def test_a_timm_layer_norm_2d_is_a_norm_layer_by_type() -> None:
    rows = {row.name: row for row in group_parameters(build("timm ConvNeXt")).rows}
    assert rows["stem.1.weight"].reason == "norm layer: LayerNorm2d"


def test_a_norm_layer_is_known_by_type_where_neither_name_nor_dimension_says_so() -> None:
    class Whiten(nn.LayerNorm):
        pass

    groups = groups_of(nn.Sequential(Whiten((4, 3, 3)), nn.Linear(3, 2)))
    assert (groups["0.weight"], groups["0.bias"]) == ("norm", "norm")


def test_an_encoder_is_a_group_of_its_own() -> None:
    groups = groups_of(build("smp U-Net"))
    assert groups["encoder.conv1.weight"] == "encoder"
    assert groups["decoder.blocks.0.conv1.0.weight"] == "body"


@st.composite
def toy_models(draw: st.DrawFn) -> nn.Module:
    kinds: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(2, 2, 1),
        lambda: nn.Conv2d(2, 2, 3, bias=False),
        lambda: nn.BatchNorm2d(2),
        lambda: nn.Linear(2, 1),
        lambda: nn.Embedding(3, 2),
        nn.PReLU,
        lambda: nn.MultiheadAttention(2, 1),
        lambda: nn.Sequential(nn.GroupNorm(1, 2), nn.Conv1d(2, 2, 1)),
        nn.ReLU,
    ]
    layers = [kind() for kind in draw(st.lists(st.sampled_from(kinds), max_size=7))]
    for layer in layers:
        layer.requires_grad_(requires_grad=draw(st.booleans()))
    repeated = layers[: draw(st.integers(0, 1))]  # a module that is used twice has its parameters once
    return nn.Sequential(*layers, *repeated, nn.Linear(2, 2))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(model=toy_models())
def test_the_groups_partition_the_parameters_of_any_toy_model(model: nn.Module) -> None:
    partition = group_parameters(model)
    assert_partitions(partition, model)
    assert set(partition.groups) <= set(GROUPS)


# --- the head ---------------------------------------------------------------------------------------------------------


def test_without_a_usual_attribute_the_last_layer_by_registration_order_is_the_head() -> None:
    groups = groups_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1), nn.Softplus()))
    assert [name for name, group in groups.items() if group == "head"] == ["2.weight"]


def test_a_wrapper_with_one_child_is_looked_through() -> None:
    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.ModuleDict({"classifier": nn.Linear(4, 2), "projector": nn.Linear(4, 4)})

    assert groups_of(Task())["model.classifier.weight"] == "head"


def test_a_final_convolution_before_the_head_is_no_head() -> None:
    groups = groups_of(nn.ModuleDict({"final_conv": nn.Conv2d(3, 4, 1), "fc": nn.Linear(4, 2)}))
    assert (groups["final_conv.weight"], groups["fc.weight"]) == ("body", "head")


def test_the_head_can_be_named_as_a_container_or_by_glob() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
    assert [name for name, group in groups_of(model, head="b").items() if group == "head"] == [
        "b.0.weight",
        "b.1.weight",
    ]
    assert [name for name, group in groups_of(model, head="b.?").items() if group == "head"] == [
        "b.0.weight",
        "b.1.weight",
    ]
    assert groups_of(model, head="a")["a.weight"] == "head"


def test_a_head_that_is_not_found_says_how_to_name_it() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.ones(2, 2))

    with pytest.raises(DecayError, match=r"No head was found in Bare.*head='module\.name'.*rules="):
        group_parameters(Bare())
    assert group_parameters(Bare(), rules={"matrix": "head"}).groups == ("head",)


def test_a_head_name_that_does_not_exist_is_an_error_with_the_nearest() -> None:
    with pytest.raises(DecayError, match=r"head='segmentation_hed' names no module.*'segmentation_head'.*Top-level"):
        group_parameters(build("smp U-Net"), head="segmentation_hed")


# --- rules ------------------------------------------------------------------------------------------------------------


def test_rules_are_anchored_and_the_first_match_wins() -> None:
    model = UNet(3, 2, width=2, depth=1)
    partition = group_parameters(model, rules={"encoder.0.*.weight": "stem", "encoder.*": "body"})
    groups = {row.name: row.group for row in partition.rows}
    assert groups["encoder.0.0.weight"] == "stem"
    assert groups["encoder.1.1.bias"] == "body"
    assert partition.groups == ("body", "head", "norm", "bias", "stem")
    assert next(row.reason for row in partition.rows if row.group == "stem") == "rule 'encoder.0.*.weight'"
    with pytest.raises(DecayError, match=r"Rule 'ncoder\.0\.0\.weight\' matches no parameter"):
        group_parameters(model, rules={"ncoder.0.0.weight": "body"})


def test_all_faulty_rules_are_reported_at_once_with_the_nearest_names() -> None:
    model = UNet(3, 2, width=2, depth=1)
    with pytest.raises(DecayError) as caught:
        group_parameters(model, rules={"decodr.*": "body", "head.*": "frozen", "*": "norm", "head.bias": "bias"})
    text = str(caught.value)
    assert "Rule 'decodr.*' matches no parameter; rules are globs over whole names. Did you mean 'decoder.*'?" in text
    assert "Rule 'head.*': 'frozen' cannot be assigned" in text
    assert "Rule 'head.bias' has no effect: earlier rules already match all of its 1 parameters" in text


# --- sharing, freezing, wrapping --------------------------------------------------------------------------------------


def test_shared_parameters_have_one_row_that_names_the_others() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(5, 3)
            self.head = nn.Linear(3, 5)
            self.head.weight = self.words.weight

    model = Tied()
    partition = group_parameters(model)
    assert_partitions(partition, model)
    row = partition.rows[0]
    assert (len(partition.rows), row.name, row.group) == (2, "words.weight", "head")
    assert row.reason.endswith("shared with head.weight")


def test_frozen_parameters_are_listed_and_in_no_group_that_decays() -> None:
    model = UNet(3, 2, width=2, depth=1)
    model.encoder.requires_grad_(requires_grad=False)
    partition = group_parameters(model)
    assert {name.split(".")[0] for name, _ in partition.parameters("frozen")} == {"encoder"}
    assert "frozen" not in partition.groups
    assert_partitions(partition, model)


def compiled(model: nn.Module) -> nn.Module:
    return cast("nn.Module", torch.compile(model))


class FabricModuleStandIn(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._forward_module = model
        self._original_module = model


@pytest.mark.parametrize(
    "wrap",
    [
        compiled,
        nn.DataParallel,
        lambda model: FabricModuleStandIn(compiled(model)),
    ],
    ids=["compiled", "data parallel", "fabric over compiled"],
)
def test_a_wrapped_model_is_grouped_on_the_bare_one(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = UNet(3, 2, width=2, depth=1)
    wrapped = wrap(model)
    assert bare_module(wrapped) is model
    assert group_parameters(wrapped).rows == group_parameters(model).rows
    assert group_parameters(model).check_fits(wrapped) == ()


def test_a_part_that_is_compiled_keeps_its_names() -> None:
    model = UNet(3, 2, width=2, depth=1)
    before = group_parameters(model)
    model.head = cast("nn.Conv2d", compiled(model.head))
    assert group_parameters(model).rows[-1].name == "head.bias"
    assert [row.group for row in group_parameters(model).rows] == [row.group for row in before.rows]
    assert before.check_fits(model) == ()


def test_a_partition_says_what_no_longer_fits_the_model() -> None:
    stem = nn.Linear(2, 2)
    model = nn.ModuleDict({"stem": stem, "head": nn.Linear(2, 2)})
    stem.weight.requires_grad = False
    partition = group_parameters(model)
    model["head"] = nn.Linear(2, 3, bias=False)
    model["extra"] = nn.Linear(2, 2, bias=False)
    stem.weight.requires_grad = True
    assert partition.check_fits(model) == (
        "extra.weight is new",
        "head.bias is gone",
        "head.weight is another tensor",
        "stem.weight was frozen and is trainable now",
    )


def test_fully_sharded_data_parallel_with_flat_parameters_is_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Parameter(torch.ones(3))

    with pytest.raises(DecayError, match=r"flat parameters mix weights, norms and biases.*fully_shard"):
        group_parameters(nn.Sequential(FullyShardedDataParallel()))


def test_a_lazy_parameter_without_shape_is_an_error() -> None:
    model = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(DecayError, match=r"Parameters without a shape yet: 0\.weight.*Pass one batch"):
        group_parameters(model)


def test_a_model_without_trainable_parameters_is_an_error() -> None:
    with pytest.raises(DecayError, match=r"ReLU has no trainable parameter \(0 parameters in all\)"):
        group_parameters(nn.ReLU())


# --- the table and the optimizer's groups -----------------------------------------------------------------------------


def test_the_table_shows_every_parameter_with_its_reason_and_counts_each_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    lines = group_parameters(model).table().splitlines()
    assert lines[0].split() == ["group", "parameter", "shape", "module", "why"]
    assert lines[1].split()[:4] == ["body", "0.weight", "4x3x3x3", "Conv2d"]
    assert lines[1].endswith("4-d weight of Conv2d; feeds 1")
    assert lines[-4:] == [
        "body: 1 tensors, 108 numbers",
        "head: 1 tensors, 8 numbers",
        "norm: 2 tensors, 8 numbers",
        "bias: 2 tensors, 6 numbers",
    ]


def test_optimizer_groups_carry_an_explicit_weight_decay() -> None:
    partition = group_parameters(UNet(3, 2, width=2, depth=1))
    assert [group["weight_decay"] for group in optimizer_groups(partition)] == [0.0] * 5
    groups = optimizer_groups(partition, {"head": 0.5}, strength=0.1)
    assert {group["name"]: group["weight_decay"] for group in groups} == {
        "encoder": 0.1, "body": 0.1, "head": 0.05, "norm": 0.0, "bias": 0.0,
    }  # fmt: skip
    optimizer = torch.optim.AdamW(groups)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(partition.rows)


def test_the_default_multipliers_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        DEFAULT_MULTIPLIERS["norm"] = 1.0  # type: ignore[index]


def test_all_faulty_multipliers_are_reported_at_once() -> None:
    partition = group_parameters(UNet(3, 2, width=2, depth=1), rules={"head.weight": "haed"}, head="head")
    with pytest.raises(DecayError) as caught:
        group_multipliers(partition, {"bdy": 1.0, "norm": -1.0, "bias": float("nan")})
    text = str(caught.value)
    assert "Unknown group 'bdy'" in text
    assert "Did you mean 'body'?" in text
    assert "The multiplier of group 'norm' must be a finite number, 0 or more; saw -1.0." in text
    assert "saw nan" in text
    assert "Group 'haed' comes from a rule and has no default" in text


def test_a_one_class_head_is_a_head_although_it_has_one_number_a_channel() -> None:
    assert groups_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)))["1.weight"] == "head"


def test_a_linear_model_alone_is_its_own_head() -> None:
    assert groups_of(nn.Linear(3, 2)) == {"weight": "head", "bias": "bias"}


def test_grouping_leaves_the_model_as_it_was() -> None:
    model = UNet(3, 2, width=2, depth=1)
    before: list[tuple[str, Tensor]] = [(name, value.clone()) for name, value in model.state_dict().items()]
    group_parameters(model)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before)
    assert all(parameter.requires_grad for parameter in model.parameters())
