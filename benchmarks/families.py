"""Whether our groups agree with the authors' own, over all model families of timm and transformers.

    python benchmarks/families.py [--library timm|transformers] [--only NAME]

One model of each family is built on the meta device, transformers' from configurations with few layers. The authors'
groups are those of timm's `param_groups_weight_decay` with the model's own `no_weight_decay()`, and those of
transformers' Trainer without what carries `_no_weight_decay`. Ours are tried twice: as they are, where declarations
win, and by our rules alone. Differences are printed by the reason that we give for the parameter, with one name of
each; docs/audit.md explains them.
"""

from __future__ import annotations

import argparse
import re
import signal
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import nn

from segdecay.decay import groups as decay_groups
from segdecay.errors import DecayError

DECAYED = ("encoder", "body", "head")
LAYERS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
)
SMALL = ("atto", "femto", "pico", "nano", "xxs", "tiny", "small", "050", "_s", "18", "b0")
LIMIT_S = 60


@dataclass
class Tally:
    """What was counted of a library."""

    families: int = 0
    parameters: int = 0
    declared: int = 0  # parameters that their authors declare free of decay
    unbuilt: list[str] = field(default_factory=list)
    differences: dict[tuple[str, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    agreeing: Counter[str] = field(default_factory=Counter)  # families without a difference, by way


def timm_models(only: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The smallest architecture of every module of timm, by the words in its name."""
    import timm

    for module in sorted(timm.list_modules()):
        names = timm.list_models(module=module, exclude_filters=["*test*"])
        if not names or only not in module:
            continue
        name = min(names, key=lambda name: (not any(word in name for word in SMALL), len(name), name))
        yield f"{module}: {name}", lambda name=name: timm.create_model(name)  # type: ignore[misc]


def transformers_models(only: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every model type of transformers that AutoModel knows, with few layers."""
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    from_config: Any = AutoModel.from_config  # which has no types
    for kind in sorted(CONFIG_MAPPING.keys() & MODEL_MAPPING_NAMES.keys()):
        if only in kind:

            def build(kind: str = kind) -> Any:
                try:
                    return from_config(_shrunken(CONFIG_MAPPING[kind]()))
                except Exception:  # noqa: BLE001 - some configurations hold together only as they are
                    return from_config(CONFIG_MAPPING[kind]())

            yield kind, build


def _shrunken(config: Any) -> Any:
    """The configuration with at most two layers, in the parts inside of it too."""
    for one in (config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))):
        for name in LAYERS:
            if isinstance(getattr(one, name, None), int):
                setattr(one, name, min(getattr(one, name), 2))
        if isinstance(getattr(one, "layer_types", None), list):
            one.layer_types = one.layer_types[:2]
    return config


def spared_by_timm(model: nn.Module) -> tuple[set[str], set[str]]:
    """Names that timm's own groups do not decay, and those of them that the author declared."""
    from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]

    declare = getattr(model, "no_weight_decay", None)
    listed = set(declare()) if callable(declare) else set()
    groups = param_groups_weight_decay(model, weight_decay=0.1, no_weight_decay_list=tuple(listed))
    spared = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    names = dict(model.named_parameters())
    return {name for name, p in names.items() if id(p) in spared}, listed & names.keys()


def spared_by_transformers(model: nn.Module) -> tuple[set[str], set[str]]:
    """The same by transformers' Trainer and the flags that parameters carry."""
    from transformers import Trainer

    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    flagged = {name for name, p in model.named_parameters() if getattr(p, "_no_weight_decay", False)}
    return {name for name, _ in model.named_parameters() if name not in decayed} | flagged, flagged


LIBRARIES: dict[str, tuple[Any, Any]] = {
    "timm": (timm_models, spared_by_timm),
    "transformers": (transformers_models, spared_by_transformers),
}


def differences(model: nn.Module, spared: set[str], *, declarations: bool) -> list[tuple[str, str, str]]:
    """For each parameter that we place otherwise: who decays it, our reason, its name."""
    with mock.patch.object(
        decay_groups, "declared_undecayed", decay_groups.declared_undecayed if declarations else _none
    ):
        try:
            rows = decay_groups.group_parameters(model).rows
        except DecayError:  # no layer makes logits: any weight may stand for the head
            names = [name for name, p in model.named_parameters() if p.ndim > 1]
            rows = decay_groups.group_parameters(model, rules={names[-1]: "head"}).rows
    found = []
    for row in rows:
        if row.trainable and (row.group in DECAYED) == (row.name in spared):
            who = "we" if row.group in DECAYED else "they"
            reason = re.sub(r", shape [\dx]+|; shared.*", "", row.reason)
            found.append((f"{who} decay it", reason, row.name))
    return found


def _none(model: nn.Module, entries: Any) -> dict[int, tuple[str, str]]:
    del model, entries
    return {}


def compare(library: str, only: str = "", limit_s: int = 0) -> Tally:
    """Build every family of a library and count; with a limit, those that take longer are not built."""
    models, spared_by = LIBRARIES[library]
    tally = Tally()
    for name, build in models(only):
        if limit_s:
            signal.alarm(limit_s)
        try:
            with torch.device("meta"):
                model = build()
            spared, declared = spared_by(model)
        except Exception as error:  # noqa: BLE001 - another library's model may need what is not here
            tally.unbuilt.append(f"{name} ({type(error).__name__})")
            continue
        finally:
            if limit_s:
                signal.alarm(0)
        tally.families += 1
        tally.parameters += len(list(model.parameters()))
        tally.declared += len(declared)
        for way, declarations in (("with declarations", True), ("by rules alone", False)):
            found = differences(model, spared, declarations=declarations)
            tally.agreeing[way] += not found
            for who, reason, parameter in found:
                tally.differences[way, who, reason].append(f"{name}: {parameter}")
    return tally


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {LIMIT_S} s")


def show(library: str, tally: Tally) -> None:
    """Print the counts and every kind of difference."""
    print(f"{library}: {tally.families} families, {tally.parameters} parameters, {tally.declared} declared undecayed")
    print(f"not built: {len(tally.unbuilt)} {', '.join(tally.unbuilt)}")
    print(", ".join(f"{count} families agree {way}" for way, count in tally.agreeing.items()))
    for (way, who, reason), names in sorted(tally.differences.items(), key=lambda item: (item[0][0], -len(item[1]))):
        if way == "by rules alone" and tally.differences.get(("with declarations", who, reason)) == names:
            continue
        families = Counter(name.split(":")[0] for name in names)
        shown = ", ".join(list(families)[:6])
        print(f"{way} | {who} | {reason} | {len(names)} in {len(families)} families ({shown}) | {names[0]}")


def main() -> None:
    """Print both libraries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=sorted(LIBRARIES), action="append")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_long)
    for library in given.library or sorted(LIBRARIES):
        show(library, compare(library, given.only, LIMIT_S))


if __name__ == "__main__":
    main()
