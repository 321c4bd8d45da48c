"""The configuration of a run: strict pydantic models, read from plain values and written as YAML.

Only types and ranges are checked here; whether a name exists is checked by the package that builds the object.
The configuration and the data set identify a run; workers, device and quiet are not part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import Field

from segdecay.errors import ConfigError, did_you_mean, gather


def explain(error: pydantic.ValidationError, allowed_keys: Callable[[tuple[str | int, ...]], list[str]]) -> list[str]:
    """One line per fault: the key, what is wrong, the value found, and the nearest allowed word."""
    lines = []
    for fault in error.errors():
        path = tuple(fault["loc"])
        key = ".".join(str(part) for part in path)
        if fault["type"] == "extra_forbidden":
            allowed = allowed_keys(path)
            lines.append(
                f"Unknown key '{key}'; allowed here: {', '.join(allowed)}.{did_you_mean(str(path[-1]), allowed)}"
            )
        elif fault["type"] == "missing":
            lines.append(f"Key '{key}' is missing.")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            near = ""
            if fault["type"] == "literal_error" and isinstance(fault["input"], str):
                expected = str(fault.get("ctx", {}).get("expected", ""))
                near = did_you_mean(
                    fault["input"], [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
                )
            lines.append(f"{key}: {message[0].lower()}{message[1:]}; saw {fault['input']!r}.{near}")
    return lines


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = Annotated[tuple[int, int], Field(description="height, width in pixels")]
Task = Literal["segmentation", "classification"]  # what is labelled: every pixel, or the image


class Section(pydantic.BaseModel):
    """A part of the configuration: unknown keys are refused, values are frozen."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class AxisConfig(Section):
    """The strength axis of a user function; no decay is 0, or inf where lower is stronger."""

    name: str
    unit: str = ""
    grid: tuple[NonNegative, ...]
    stronger: Literal["higher", "lower"] = "higher"

    @pydantic.field_validator("grid", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class UserConfig(Section):
    """Training by a user function, in Python (docs/python.md)."""

    function: str | None = Field(None, description="name of the function that trains; null: segdecay trains")


def _are_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(one) in (int, float) for one in value)


class SearchConfig(Section):
    """The strengths, the folds, and the choice between the strengths."""

    grid: tuple[float, ...] | None = Field(
        None, description="strengths on the axis; null: the default grid of the axis"
    )
    race: bool = Field(True, description="train only the trials that may change the verdict; false: the whole grid")
    folds: int | None = Field(
        None, ge=2, le=100, description="null: 5, or 4 or 3 if groups or classes do not allow more"
    )
    method: Literal["groups", "leave-one-group-out", "blocks", "given"] | None = Field(
        None, description="how folds are made; null: as in dataset.yaml"
    )
    block_gap: int = Field(2, ge=0, description="blocks only: frames left out on each side of a validation block")
    seeds: tuple[int, ...] = (0,)
    rule: Literal["best", "one-se"] = "best"
    joint: tuple[str, ...] = Field(
        (), description="searched together with the strength: lr, head, encoder, dropout, class_weights (docs/joint.md)"
    )
    points: int = Field(24, ge=6, le=10_000, description="joint only: number of points, a third of them without decay")
    sampler: Literal["tpe", "gp", "qmc", "random"] = Field("tpe", description="joint only: Optuna's sampler")
    ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="joint only: ranges [low, high] by name; defaults in docs/joint.md"
    )
    criterion: str | None = Field(
        None,
        description="miou, worst (class), weighted (by pixels), classes (the mean of named ones), accuracy (the share "
        "that is right), or balanced_accuracy (the mean recall of the classes); null: miou for masks, "
        "balanced_accuracy for labels of images",
    )
    criterion_classes: tuple[str, ...] = Field((), description="names of classes; with criterion: classes only")
    max_class_loss: float | None = Field(
        None,
        ge=0,
        le=1,
        description="largest loss of IoU (or recall) of any class against no decay; null: no limit",
    )
    honest: Literal["bbc-cv", "nested", "holdout"] = Field(
        "bbc-cv",
        description="the bias-corrected score: computed, by a search without each fold, or on a held-out fold",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence of every interval")
    resamples: int = Field(2000, ge=100, le=100_000, description="number of bootstrap resamples")
    strict: bool = Field(False, description="treat warnings about the data as errors")
    allow_missing: bool = Field(False, description="continue if a class cannot be scored or learned in some folds")

    @pydantic.field_validator("ranges", mode="before")
    @classmethod
    def _ranges_from_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: tuple(map(float, one)) if _are_numbers(one) else one for name, one in value.items()}

    @pydantic.field_validator("grid", "seeds", "criterion_classes", "joint", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("grid")
    @classmethod
    def _grid_is_sane(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (len(set(value)) != len(value) or not value or not all(one >= 0 for one in value)):
            raise ValueError("must be distinct numbers, each at least 0")
        return value

    @pydantic.model_validator(mode="after")
    def _classes_fit_the_criterion(self) -> Self:
        if (self.criterion == "classes") != bool(self.criterion_classes):
            raise ValueError("criterion: classes and criterion_classes: [names] go together; give both or neither")
        return self


class DataConfig(Section):
    """The data set and its size."""

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
    """The network and its initial weights."""

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
    weights: str | None = Field(None, description="initial weights: a local .safetensors or .pth file (weights only)")


class LossConfig(Section):
    """The training loss without decay terms, over the valid pixels (docs/losses.md)."""

    name: str = Field("cross_entropy", description="a loss of docs/losses.md, or a sum such as cross_entropy+dice")
    options: dict[str, float] = Field(default_factory=dict, description="options of the named losses")
    factors: tuple[Positive, ...] | None = Field(
        None, description="factors of the losses in a sum, in order; null: 1 each"
    )
    class_weights: str | tuple[float, ...] = Field(
        "inverse_sqrt", description="none, median, inverse_sqrt, effective_number, or one number per class in order"
    )
    class_weights_count: Literal["images", "components"] = Field(
        "images", description="effective_number only: what is counted for a class"
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
            raise ValueError("must be a name or a list of numbers, one per class")
        return tuple(value)


class OptimizerConfig(Section):
    """The optimizer, without weight decay."""

    name: str = Field(
        "adamw", description="adamw, adam, sgd, rmsprop, lion, muon, torch:NAME, timm:NAME or package.module:build"
    )
    lr: Positive = Field(0.003, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    betas: tuple[float, float] = Field((0.9, 0.999), description="adamw and adam only")
    options: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of the optimizer, as {momentum: 0.9} of rmsprop"
    )

    @pydantic.field_validator("betas", mode="before")
    @classmethod
    def _betas_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class ScheduleConfig(Section):
    """The learning rate over the steps."""

    name: str = Field("cosine", description="cosine, poly, step, one-cycle, constant or warmup-stable-decay")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises linearly from 0")
    power: Positive = Field(0.9, description="poly only")
    milestones: tuple[float, ...] = Field(
        (0.5, 0.75), description="step only: shares of the steps after the warm-up where the rate falls"
    )
    factor: float = Field(0.1, gt=0, lt=1, description="step only: by which the rate falls")
    cooldown: float = Field(
        0.2, gt=0, le=1, description="warmup-stable-decay only: last share of the steps, where the rate falls to 0"
    )

    @pydantic.field_validator("milestones", mode="before")
    @classmethod
    def _milestones_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < share < 1 for share in value) or list(value) != sorted(set(value)):
            raise ValueError(f"shares between 0 and 1 in rising order are needed, as [0.5, 0.75]; saw {list(value)}")
        return value


class AugmentConfig(Section):
    """Random changes of training images; validation and test images are not changed."""

    crop: Size | Literal["auto"] | None = Field(
        "auto", description="auto crops only where image sizes differ or exceed 512"
    )
    flip: Literal["data", "none", "horizontal", "both"] = Field("data", description="data: what dataset.yaml allows")
    pad: int = Field(
        0, ge=0, le=256, description="width of a black border added before a window of the image's size is cropped"
    )
    degrees: float = Field(0.0, ge=0, le=180, description="largest rotation")
    scale: float = Field(0.0, ge=0, lt=1, description="largest relative change of size")
    shift: float = Field(0.0, ge=0, lt=1, description="largest shift, as a share of the side")
    brightness: float = Field(0.0, ge=0, le=1, description="largest change, as a share of the range")
    contrast: float = Field(0.0, ge=0, lt=1, description="largest relative change")
    class_crops: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the images drawn by class: a class, an image with it, a window around it (docs/rare.md)",
    )
    copy_paste: float = Field(
        0.0, ge=0, le=1, description="share of the images into which instances of rare classes are pasted"
    )
    copy_paste_classes: tuple[str, ...] = Field(
        (), description="class names; empty: classes with fewer training pixels than the median class"
    )
    copy_paste_least_px: int = Field(16, ge=1, description="size in pixels of the smallest pasted instance")
    transform: str | None = Field(
        None, description="package.module:name of a function that changes each image and mask, before the keys above"
    )

    @pydantic.field_validator("crop", "copy_paste_classes", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class TrainingConfig(Section):
    """Length, batches and precision of a trial."""

    epochs: int = Field(80, ge=1, le=100_000)
    batch_size: int = Field(8, ge=1, le=4096)
    accumulate: int = Field(1, ge=1, description="micro-batches whose gradients are summed before a step")
    clip_norm: Positive | None = Field(1.0, description="largest gradient norm; null: no clipping")
    precision: Literal["auto", "32-true", "tf32", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on a GPU that has it, else 32-true; run.yaml has what was taken"
    )
    deterministic: Literal["auto"] | bool = Field(
        "auto",
        description="kernels that repeat a result to the bit. auto: where they exist; true: layers without are refused",
    )


class DecayConfig(Section):
    """The regularizer, its parameter groups, and the multiplier of the strength for each group."""

    regularizer: str = Field("decoupled", description="see: segdecay regularizers")
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the regularizer, see: segdecay regularizers NAME"
    )
    groups: dict[str, float] = Field(
        default_factory=dict, description="multiplier of the strength by group; default body 1, head 1, norm 0, bias 0"
    )
    rules: dict[str, str] = Field(default_factory=dict, description="pattern of parameter names: group")
    head: str | None = Field(None, description="name of the last layer, if it is not found automatically")
    axis: AxisConfig | None = Field(None, description="tune(train=function) only: the user's axis (docs/python.md)")
    value: NonNegative | None = Field(None, description="train only: strength on the axis")
    lambda_: NonNegative | None = Field(None, alias="lambda", description="train only: strength as the optimizer's λ")

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class BalancingConfig(Section):
    """A second stage of every trial that trains only the head, for rare classes (docs/rare.md)."""

    epochs: int = Field(0, ge=0, le=100_000, description="epochs of the second stage, after training.epochs; 0: off")
    beta: float = Field(0.9999, ge=0, lt=1, description="β of the class-balanced loss; 0 weighs all classes alike")
    count: Literal["images", "components"] = Field("images", description="what is counted for a class")
    decay: NonNegative = Field(0.1, description="λ on the head's weights: they are multiplied by 1 − lr·λ every step")
    lr: Positive | None = Field(None, description="peak learning rate; null takes optimizer.lr")
    max_norm_share: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="cap of the head's row norms, from the smallest (0) to the largest (1) at the start; null: no cap",
    )


class RunConfig(Section):
    """The complete configuration of a run."""

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
    user: UserConfig = UserConfig()
    seed: int = Field(0, ge=0, lt=2**31)


STRENGTHS = 3


class CompareSection(Section):
    """The compared arms and the strengths tried for each; every arm gets the same number."""

    arms: tuple[str, ...] = Field(("none", "decoupled"), min_length=1, description="see: segdecay compare --help")
    strengths: int = Field(STRENGTHS, ge=1, le=50, description="strengths tried per arm beside no decay, in every fold")
    grids: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="by arm: as many strengths, in place of the default ones"
    )

    @pydantic.field_validator("arms", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and not value:
            raise ValueError("no arm is named; name at least one besides none")
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("grids", mode="before")
    @classmethod
    def _tuples_from_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}


class CompareConfig(RunConfig):
    """The configuration of a comparison: a run's configuration, the same for all arms, and the section `compare`."""

    compare: CompareSection = CompareSection()

    @property
    def shared(self) -> RunConfig:
        """The configuration that all arms share."""
        return RunConfig.model_construct(**{name: getattr(self, name) for name in RunConfig.model_fields})


def _allowed_keys(path: tuple[str | int, ...], root: type[pydantic.BaseModel] = RunConfig) -> list[str]:
    """The keys that are allowed in the section of an unknown key."""
    section = root
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


def parse_compare(shared: RunConfig, section: dict[str, Any]) -> CompareConfig:
    """A checked configuration of a comparison.

    >>> asked = parse_compare(RunConfig.model_validate({"data": {"path": "digits"}}), {"arms": ["none", "l1"]})
    >>> asked.compare.arms, asked.shared.data.path
    (('none', 'l1'), 'digits')

    Raises:
        ConfigError: listing every unknown key and every value out of range.
    """
    try:
        parsed = CompareSection.model_validate(section)
    except pydantic.ValidationError as error:
        lines = explain(error, lambda path: _allowed_keys(path, CompareSection))
        gather(ConfigError, [f"compare: {line}" for line in lines])
        raise AssertionError from error  # gather always raises here: a validation error has faults
    return CompareConfig.model_construct(
        **{name: getattr(shared, name) for name in RunConfig.model_fields}, compare=parsed
    )


def to_plain(config: pydantic.BaseModel) -> dict[str, Any]:
    """Plain values that YAML and JSON can hold; `parse_config` reads them back to an equal configuration."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(config: pydantic.BaseModel) -> str:
    """The configuration as YAML, in the order of its sections."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    return text
