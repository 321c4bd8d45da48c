"""What a run is asked to do: strict, from YAML, to YAML.

Checks shape and range only; whether a name exists is checked by the room that builds the thing (its `build_x`). Two
runs are the same when this configuration and the data are; workers, device and quiet are not part of it.
"""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import yaml
from pydantic import Field

from segdecay.errors import ConfigError, gather
from segdecay.key_faults import explain
from segdecay.search_config import SearchConfig
from segdecay.sections import AxisConfig, NonNegative, OwnConfig, Positive, Section, Size, Task

__all__ = [
    "AugmentConfig", "AxisConfig", "BalancingConfig", "DataConfig", "DecayConfig", "LossConfig", "ModelConfig",
    "OptimizerConfig", "OwnConfig", "RunConfig", "ScheduleConfig", "SearchConfig", "Section", "Size",
    "Task", "TrainingConfig", "parse_config", "to_plain", "to_yaml",
]  # fmt: skip


class DataConfig(Section):
    """Where the data lies and how it is read."""

    path: str = Field(description="a folder, a dataset.yaml, digits, cifar10:FOLDER or torchvision:NAME")
    size: Size | None = Field(None, description="resize every image and mask to H, W; null keeps the size of the files")

    @pydantic.field_validator("size", mode="before")
    @classmethod
    def _size_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("size")
    @classmethod
    def _size_is_sane(cls, value: Size | None) -> Size | None:
        if value is not None and not all(8 <= side <= 16384 for side in value):
            raise ValueError("each side must be from 8 to 16384 pixels")
        return value


class ModelConfig(Section):
    """Which network, from which weights."""

    name: str = Field(
        "unet-tiny",
        description="unet-tiny, unet-small, small-cnn (labels of images), smp:ARCHITECTURE, or package.module:build",
    )
    width: int | None = Field(None, ge=1, le=512, description="U-Net only: channels of the first level")
    depth: int | None = Field(None, ge=1, le=7, description="U-Net only: how often the resolution is halved")
    norm: Literal["batch", "group"] = Field("batch", description="U-Net only")
    dropout: float = Field(0.0, ge=0, lt=1, description="U-Net only: Dropout2d probability, at the two deepest levels")
    encoder: str = Field("resnet18", description="smp only: a timm or smp encoder by name")
    pretrained: bool = Field(False, description="smp only: load the encoder's weights from the hub")
    weights: str | None = Field(None, description="start from this local .safetensors or .pth (weights only)")


class LossConfig(Section):
    """The original loss, over the valid pixels (docs/losses.md)."""

    name: str = Field("cross_entropy", description="one of docs/losses.md, or a sum as in cross_entropy+dice")
    options: dict[str, float] = Field(default_factory=dict, description="of the losses named, by option")
    factors: tuple[Positive, ...] | None = Field(None, description="of the losses in a sum, in order; null: 1 each")
    class_weights: str | tuple[float, ...] = Field(
        "inverse_sqrt", description="none, median, inverse_sqrt, effective_number, or one number a class in order"
    )
    class_weights_count: Literal["images", "components"] = Field(
        "images", description="effective_number only: what is counted of a class"
    )
    class_weights_beta: float = Field(0.9999, ge=0, lt=1, description="effective_number only: β")
    logit_adjustment: NonNegative = Field(
        0.0, description="τ of τ·log(class share), added to the logits in the loss; 1 is the usual value, 0 is off"
    )

    @pydantic.field_validator("factors", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("class_weights", mode="before")
    @classmethod
    def _weights_are_a_name_or_numbers(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if not isinstance(value, (list, tuple)) or not all(type(one) in (int, float) for one in value):
            raise ValueError("must be a name or a list of numbers, one a class")
        return tuple(value)


class OptimizerConfig(Section):
    """The rule of the update, without any decay of its own."""

    name: str = Field("adamw", description="adamw, adam or sgd")
    lr: Positive = Field(0.003, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    betas: tuple[float, float] = (0.9, 0.999)

    @pydantic.field_validator("betas", mode="before")
    @classmethod
    def _betas_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class ScheduleConfig(Section):
    """How the learning rate moves over the steps."""

    name: str = Field("cosine", description="cosine, poly or constant")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps spent on a linear rise from 0")
    power: Positive = Field(0.9, description="poly only")


class AugmentConfig(Section):
    """What is drawn anew for every training image; validation and test images are never touched."""

    crop: Size | Literal["auto"] | None = Field(
        "auto", description="auto crops only where image sizes differ or exceed 512"
    )
    flip: Literal["data", "none", "horizontal", "both"] = Field("data", description="data: what dataset.yaml allows")
    pad: int = Field(
        0, ge=0, le=256, description="pixels of black around every image, of which a window of its size is cropped"
    )
    degrees: float = Field(0.0, ge=0, le=180, description="largest turn")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size")
    shift: float = Field(0.0, ge=0, lt=1, description="largest shift, in shares of the side")
    brightness: float = Field(0.0, ge=0, le=1, description="largest change, in shares of the range")
    contrast: float = Field(0.0, ge=0, lt=1, description="largest relative change")
    class_crops: float = Field(
        0.0, ge=0, le=1, description="share of the draws made by class: a class, an image with it, a window around it"
    )
    copy_paste: float = Field(0.0, ge=0, le=1, description="share of the images that get instances of rare classes")
    copy_paste_classes: tuple[str, ...] = Field(
        (), description="names; empty: those with fewer training pixels than the median class"
    )
    copy_paste_least_px: int = Field(16, ge=1, description="pixels of the smallest instance that is pasted")

    @pydantic.field_validator("crop", "copy_paste_classes", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class TrainingConfig(Section):
    """How long and in which portions one cell trains."""

    epochs: int = Field(80, ge=1, le=100_000)
    batch_size: int = Field(8, ge=1, le=4096)
    accumulate: int = Field(1, ge=1, description="micro-batches summed before a step")
    clip_norm: Positive | None = Field(1.0, description="largest gradient norm; null for none")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    deterministic: bool = Field(True, description="refuse kernels whose result varies from call to call")


class DecayConfig(Section):
    """Which rule, on which parameters, how hard relative to the searched strength."""

    policy: str = Field("decoupled", description="see: segdecay policies")
    options: dict[str, Any] = Field(default_factory=dict, description="of the policy, see: segdecay policies NAME")
    groups: dict[str, float] = Field(
        default_factory=dict, description="multiplier of the strength by group; default body 1, head 1, norm 0, bias 0"
    )
    rules: dict[str, str] = Field(default_factory=dict, description="glob over parameter names: group")
    head: str | None = Field(None, description="name of the last layer, if it is not found")
    axis: AxisConfig | None = Field(
        None, description="of tune(train=function) only: an axis of its own (docs/python.md)"
    )
    value: NonNegative | None = Field(None, description="train only: strength on the axis")
    lambda_: NonNegative | None = Field(None, alias="lambda", description="train only: strength as the optimizer's λ")

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class BalancingConfig(Section):
    """A second stage of every training, of the head alone, for rare classes (docs/rare.md)."""

    epochs: int = Field(0, ge=0, le=100_000, description="of the second stage, after training.epochs; 0 is off")
    beta: float = Field(0.9999, ge=0, lt=1, description="β of the class-balanced loss; 0 weighs all classes alike")
    count: Literal["images", "components"] = Field("images", description="what the loss counts of a class")
    decay: NonNegative = Field(0.1, description="λ on the head's weights: they are multiplied by 1 − lr·λ every step")
    lr: Positive | None = Field(None, description="peak learning rate; null takes optimizer.lr")
    max_norm_share: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="cap of row norms, from the smallest (0) to the largest (1) at its start; null: none",
    )


class RunConfig(Section):
    """Everything that makes a run what it is."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    decay: DecayConfig = DecayConfig()
    balancing: BalancingConfig = BalancingConfig()
    search: SearchConfig = SearchConfig()
    own: OwnConfig = OwnConfig()
    seed: int = Field(0, ge=0, lt=2**31)


def _allowed_keys(path: tuple[str | int, ...]) -> list[str]:
    """The keys that stand beside a misspelt one."""
    section: type[pydantic.BaseModel] = RunConfig
    for part in path[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)):
            return []
        section = annotation
    return [field.alias or name for name, field in section.model_fields.items()]


def parse_config(values: dict[str, Any]) -> RunConfig:
    """A checked configuration from plain values.

    Raises:
        ConfigError: listing every unknown key and every value out of range.
    """
    try:
        return RunConfig.model_validate(values)
    except pydantic.ValidationError as error:
        lines = explain(error, _allowed_keys)
        gather(ConfigError, lines)
        raise AssertionError from error  # gather always raises here: a validation error has faults


def to_plain(config: pydantic.BaseModel) -> dict[str, Any]:
    """Plain values that YAML and JSON can hold; `parse_config` reads them back to an equal configuration."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(config: pydantic.BaseModel) -> str:
    """The configuration as YAML, in the order of its sections."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    return text
