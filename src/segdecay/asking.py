"""What a caller in Python asked for, as the configuration and the watcher that the command line would have built.

Knows keywords and words; nothing of training.
"""

from __future__ import annotations

import copy
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segdecay.cli.options import build_config
from segdecay.cli.watching import ConsoleWatcher, build_watcher
from segdecay.config import RunConfig
from segdecay.data.described import OwnData
from segdecay.data.sources import ALLOWED
from segdecay.errors import ConfigError, gather
from segdecay.plain import read_yaml
from segdecay.training.own import Axis, name_of

Config = RunConfig | Mapping[str, Any] | str | Path | None


def config_of(
    data: Any,
    config: Config,
    changes: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    *,
    function: Any = None,
    axis: Any = None,
) -> RunConfig:
    """The checked configuration: the file or values, then `set`, then the keywords that were given.

    Raises:
        ConfigError: listing all faults.
    """
    values = _values(config)
    faults = _set(values, {**_plain(changes), **{key: one for key, one in options.items() if one is not None}})
    if function is not None:
        faults += [] if callable(function) else [f"train= takes a function of (setting, fold, seed); saw {function!r}."]
        faults += _set(values, {"own.function": name_of(function), **_axis(axis, faults)})
    elif axis is not None:
        faults.append("axis= goes with train=, a function of your own. Choose ours by decay= and optimizer.name.")
    gather(ConfigError, faults)
    path = None
    if data is not None:
        path = f"({data.name}, described)" if isinstance(data, OwnData) else str(data)
    elif not isinstance(values.get("data"), dict) or "path" not in values["data"]:
        raise ConfigError(f"data= is needed: {ALLOWED}.")
    built: RunConfig = build_config(path, values, None, {})
    return built


def values_of(
    data: Any, config: Config, changes: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Plain values, unchecked: the file or values, then `set`, then the keywords that were given.

    Raises:
        ConfigError: a key that leads nowhere, or no data.
    """
    values = _values(config)
    given = {key: one for key, one in {"data.path": data, **options}.items() if one is not None}
    gather(ConfigError, _set(values, {**_plain(changes), **given}))
    if "path" not in values.get("data", {}):
        raise ConfigError(f"data= is needed: {ALLOWED}.")
    return values


def _values(config: Config) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, RunConfig):
        return config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(config, Mapping):
        return copy.deepcopy(dict(config))
    return read_yaml(Path(config))


def _plain(changes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if changes is not None and not isinstance(changes, Mapping):
        raise ConfigError(f"set= takes a mapping of keys to values, as in {{'training.epochs': 5}}; saw {changes!r}.")
    return changes or {}


def _set(values: dict[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """Put values at their dotted keys, in place; what cannot be put."""
    faults = []
    for path, value in changes.items():
        *sections, key = str(path).split(".")
        place: Any = values
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            faults.append(f"set: {path} leads through a value, not a section.")
            continue
        place[key] = list(value) if isinstance(value, tuple) else value
    return faults


def _axis(axis: Any, faults: list[str]) -> dict[str, Any]:
    """An axis of the caller's own, or a policy and optimizer of ours, as keys."""
    if axis is None:
        return {}
    if isinstance(axis, Axis):
        return {"decay.axis": axis.to_config().model_dump(mode="json")}
    if isinstance(axis, Sequence) and len(axis) == 2 and all(isinstance(one, str) for one in axis) and len(axis[0]) > 1:
        return {"decay.policy": axis[0], "optimizer.name": axis[1]}
    faults.append(
        "axis= takes segdecay.Axis(name, grid), or a policy and an optimizer as in ('decoupled', 'adamw'); saw "
        f"{axis!r}."
    )
    return {}


def main_reason() -> str | None:
    """Why workers cannot start from the script that is run; None where they can."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None or not Path(file).is_file():
        return None
    if "__name__" in Path(file).read_text(encoding="utf-8", errors="replace"):
        return None
    return f'{Path(file).name} has no `if __name__ == "__main__":`, so every worker would run it anew'


def refuse_devices(devices: int) -> None:
    """Refuse several devices to a script of which no process can be started.

    Raises:
        ConfigError: each of them would be a process that runs the script anew.
    """
    reason = main_reason() if devices > 1 else None
    if reason is not None:
        raise ConfigError(f"devices={devices}: {reason}. Put the call below that line, or use one device.")


def refuse_worker() -> None:
    """Refuse to begin a run while a worker imports the script that began it.

    Raises:
        ConfigError: it does.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "A worker imports this script and would start the same run again. Put the call below "
            '`if __name__ == "__main__":`, or take workers=0.'
        )


@contextmanager
def watching(workers: int | None, *, quiet: bool) -> Iterator[tuple[int | None, ConsoleWatcher]]:
    """How many workers can be had from here, and who is told how it goes."""
    refuse_worker()
    if workers is not None and (not isinstance(workers, int) or workers < 0):
        raise ConfigError(f"workers= takes 0 (this process) or more; saw {workers!r}.")
    with build_watcher(quiet=quiet, as_json=False) as watcher:
        reason = None if workers == 0 else main_reason()
        if reason is not None:
            watcher.say(f"Trainings run in this process, one after the other: {reason}.")
        yield 0 if reason is not None else workers, watcher
