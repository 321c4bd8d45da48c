"""A trained model as an ONNX file for other programs, compared with the model before it is kept.

The file takes images of any size. The exporter of torch that traces is used: it needs no onnxscript and takes 1.5 s
where the one that captures programs takes 30 s; whether what it wrote computes the same is measured, not assumed.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segdecay.errors import ConfigError, ModelError, gather, need, unknown
from segdecay.inference.bundle import Bundle, find_bundle, load_bundle
from segdecay.models.unet import UNet
from segdecay.models.zoo import logits_of, padding_stride
from segdecay.utils.files import write_bytes

FORMATS = ("onnx",)
OPSET, OPSETS = 17, range(13, 21)  # 13: the first with all operators of our networks; 20: the last of the exporter
SIZES = ((64, 64), (96, 160), (77, 53))  # of the check: square, oblong, and of no multiple
MOST_DIFFERENCE = 1e-4  # of the largest logit; between torch and onnxruntime on one CPU it is some 1e-6
LEAST_AGREEMENT = 0.999  # share of pixels with the same label; logits that are equal but for rounding may swap
INPUT, LOGITS, LABELS = "image", "logits", "labels"
TRACED_PX = 64  # least side of the image that is traced; a multiple of every stride is taken


class MismatchError(ModelError):
    """The file would compute something else than the model."""


@dataclass(frozen=True)
class SizeCheck:
    """The file against the model on one random image. largest_difference: of a logit; None where labels come out."""

    height: int
    width: int
    largest_difference: float | None
    largest_logit: float
    agreement: float  # share of pixels with the same label

    @property
    def is_equal(self) -> bool:
        """Whether both compute the same but for rounding."""
        bound = MOST_DIFFERENCE * max(1.0, self.largest_logit)
        is_near = self.largest_difference is None or self.largest_difference <= bound
        return is_near and self.agreement >= LEAST_AGREEMENT


@dataclass(frozen=True)
class Exported:
    """What `export` returns."""

    path: Path
    opset: int
    bytes: int
    checks: tuple[SizeCheck, ...]

    def to_dict(self) -> dict[str, Any]:
        """What `segdecay export --json` prints."""
        return {**asdict(self), "path": str(self.path)}


class _Exportable(nn.Module):
    """The network with what surrounds it: normalisation, padding to its stride, cropping, labels."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, bundle: Bundle, *, normalise: bool, argmax: bool) -> None:
        super().__init__()
        self.model, self.normalise, self.argmax = bundle.model, normalise, argmax
        self.is_labels = bundle.task == "classification"
        net = bundle.model  # a U-Net pads by itself, by amounts that the trace would keep as constants
        self.stride = 2**net.depth if isinstance(net, UNet) else padding_stride(net)
        shape = (1, bundle.bands, 1, 1)
        self.register_buffer("mean", torch.tensor(bundle.mean, dtype=torch.float32).view(shape))
        self.register_buffer("deviation", torch.tensor(bundle.deviation, dtype=torch.float32).view(shape))

    def forward(
        self,
        image: Tensor,  # (N, B, H, W) float32, normalised, or 0 … 255
    ) -> Tensor:  # (N, C, H, W) float32 logits, or (N, H, W) uint8 labels; without H and W where images have one label
        height, width = image.shape[-2:]
        values = (image - self.mean) / self.deviation if self.normalise else image
        if not self.is_labels:
            values = F.pad(values, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        logits: Tensor = self.model(values)
        logits = logits.flatten(1) if self.is_labels else logits[..., :height, :width]
        return logits.argmax(dim=1).to(torch.uint8) if self.argmax else logits


def export(
    run: Path,
    *,
    to: str = "onnx",
    out: Path | None = None,
    normalise: bool = False,
    argmax: bool = False,
    opset: int = OPSET,
    model: str | None = None,
) -> Exported:
    """Write a model for another program; it is compared with the model on three sizes first.

    Args:
        run: the folder of a run, or of its model.
        to: "onnx".
        out: the file; None: model.onnx beside model.safetensors.
        normalise: the file takes bands of 0 … 255 and normalises them; otherwise the caller does, with `mean` and
            `deviation` of the file's metadata.
        argmax: the file returns labels (N, H, W) uint8 in place of logits (N, C, H, W).
        opset: 13 to 20.
        model: for a model of your own code, the same package.module:build again.

    Raises:
        ConfigError: options that do not exist; all together.
        MissingPartError: onnx or onnxruntime is not installed.
        RunError, ModelError: no model there, or one that cannot be exported.
        MismatchError: the file computes something else; then none is written.
    """
    faults = [] if to in FORMATS else [f"--to: {unknown('format', to, FORMATS)}"]
    if opset not in OPSETS:
        faults.append(f"--opset takes {OPSETS[0]} to {OPSETS[-1]}; saw {opset}.")
    if out is not None and out.suffix != ".onnx":
        faults.append(f"--out takes a file named .onnx; saw {out}.")
    gather(ConfigError, faults)
    need("onnx", extra="onnx")
    need("onnxruntime", extra="onnx")
    target = find_bundle(run) / "model.onnx" if out is None else out
    bundle = load_bundle(run, model=model)
    content = with_metadata(onnx_bytes(bundle, normalise=normalise, argmax=argmax, opset=opset), bundle, {
        "normalised_inside": normalise, "argmax_inside": argmax, "opset": opset,
    })  # fmt: skip
    checks = tuple(check_size(content, bundle, size, normalise=normalise, argmax=argmax) for size in SIZES)
    wrong = [_told(one) for one in checks if not one.is_equal]
    gather(MismatchError, wrong, f"The ONNX file does not compute what the model does, so {target} was not written:"
           if wrong else "")  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, content)
    return Exported(target, opset, len(content), checks)


def onnx_bytes(bundle: Bundle, *, normalise: bool, argmax: bool, opset: int) -> bytes:
    """The content of an ONNX file of a model; N, H and W are free.

    Raises:
        ModelError: the model does something that ONNX, or its exporter, cannot.
    """
    whole = _Exportable(bundle, normalise=normalise, argmax=argmax).eval()
    side = int(np.lcm(whole.stride, TRACED_PX))
    axes = {0: "N", 2: "H", 3: "W"}
    name = LABELS if argmax else LOGITS
    returned = {0: "N"} if bundle.task == "classification" else {0: "N", 1: "H", 2: "W"} if argmax else axes
    try:
        with torch.inference_mode(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # of the tracer, about constants: the check of three sizes tells
            torch.onnx.export(
                whole,
                (torch.zeros(1, bundle.bands, side, side),),
                Path(folder) / "model.onnx",
                input_names=[INPUT],
                output_names=[name],
                dynamic_axes={INPUT: axes, name: returned},
                opset_version=opset,
                dynamo=False,
            )
            return (Path(folder) / "model.onnx").read_bytes()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ModelError(f"The model cannot be exported to ONNX: {type(error).__name__}: {first}") from error


def with_metadata(content: bytes, bundle: Bundle, more: dict[str, Any]) -> bytes:
    """The file with classes, normalisation and card of the model in its metadata, each as JSON."""
    import onnx

    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph)
    graph.producer_name, graph.producer_version = "segdecay", version("segdecay")
    card = None if bundle.card is None else bundle.card.model_dump(mode="json", exclude={"trained_on": {"hashes"}})
    values = {
        "classes": bundle.classes,
        "task": bundle.task,
        "bands": bundle.bands,
        "mean": bundle.mean,
        "deviation": bundle.deviation,
        "size": bundle.size,  # H, W that images are resized to first; null: as they are
        "card": card,
        **more,
    }
    onnx.helper.set_model_props(graph, {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()})
    return bytes(graph.SerializeToString())


def check_size(content: bytes, bundle: Bundle, size: tuple[int, int], *, normalise: bool, argmax: bool) -> SizeCheck:
    """Run the file in onnxruntime and the model in torch on one random image of this size (H, W).

    Raises:
        ModelError: the file cannot be run.
    """
    runtime = need("onnxruntime", extra="onnx")
    pixels = np.random.default_rng(size).integers(0, 256, (1, bundle.bands, *size)).astype(np.float32)
    shape = (1, bundle.bands, 1, 1)
    mean, deviation = (np.asarray(one, np.float32).reshape(shape) for one in (bundle.mean, bundle.deviation))
    normal = (pixels - mean) / deviation
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {INPUT: pixels if normalise else normal})
    except Exception as error:
        raise ModelError(f"The ONNX file cannot be run on {size[0]} x {size[1]} pixels: {error}") from error
    with torch.inference_mode():
        expected = logits_of(bundle.model, torch.from_numpy(normal)).cpu().numpy()
    expected = expected.reshape(found.shape) if bundle.task == "classification" and not argmax else expected
    labels = found if argmax else found.argmax(axis=1)
    truth = expected.argmax(axis=1).reshape(labels.shape)
    largest = None if argmax else float(np.abs(found - expected).max())
    return SizeCheck(*size, largest, float(np.abs(expected).max()), float((labels == truth).mean()))


def _told(one: SizeCheck) -> str:
    difference = "" if one.largest_difference is None else f"logits differ by up to {one.largest_difference:.3g}, "
    return (
        f"{one.height} x {one.width} pixels: {difference}labels agree on {one.agreement:.2%}; allowed: "
        f"{MOST_DIFFERENCE:g} of the largest logit ({one.largest_logit:.3g}), {LEAST_AGREEMENT:.1%}. If the network "
        "computes with its input's size, write it with tensor operations."
    )
