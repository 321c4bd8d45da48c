"""What a command or a Python call asks for, as one checked configuration.

A file (or its values) comes first, then `--set` or `set=`, then the options or keywords that were given.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from segdecay.errors import ConfigError, gather, unknown

if TYPE_CHECKING:
    from segdecay.config.schema import CompareConfig, RunConfig

Config: TypeAlias = "RunConfig | Mapping[str, Any] | str | Path | None"
Trackers: TypeAlias = "list[tuple[str, str | None]]"  # names with their places, None where none is given
TRACKERS = ("tensorboard", "mlflow")
SWITCHES = ("search.race",)  # off is an answer there; elsewhere it only means that the option was not given


KEYS = {  # an option of a command, and the keyword of its function, to the key that it sets
    "decay": "decay.regularizer",
    "lambda_": "decay.lambda",
    "strength": "decay.value",
    "grid": "search.grid",
    "rule": "search.rule",
    "search": "search.joint",
    "points": "search.points",
    "race": "search.race",
    "honest": "search.honest",
    "model": "model.name",
    "folds": "search.folds",
    "epochs": "training.epochs",
    "size": "size",
    "seed": "seed",
    "strict": "search.strict",
    "allow_missing": "search.allow_missing",
    "transform": "augment.transform",
}


def keys_of(**options: Any) -> dict[str, Any]:
    """Options by their names on the command line, or keywords, as keys of a configuration.

    >>> keys_of(decay="l2", folds=3, race="off", search="lr, head")
    {'decay.regularizer': 'l2', 'search.folds': 3, 'search.race': False, 'search.joint': ['lr', 'head']}

    Raises:
        ConfigError: a value that cannot be parsed.
    """
    found = {KEYS[name]: value for name, value in options.items()}
    if "race" in options:
        found[KEYS["race"]] = parse_switch("--race", options["race"])
    if "search" in options:
        found[KEYS["search"]] = parse_names(options["search"])
    if options.get("grid") is not None:
        found[KEYS["grid"]] = [float(value) for value in options["grid"]]
    return found


def parse_switch(name: str, value: str | bool | None) -> bool | None:
    """The text "on" or "off" as a boolean; a boolean and None stay what they are.

    >>> parse_switch("--race", "off")
    False

    Raises:
        ConfigError: anything else.
    """
    if value is None or isinstance(value, bool):
        return value
    if value not in ("on", "off"):
        raise ConfigError(f"{name} takes on or off; saw '{value}'.")
    return value == "on"


def parse_names(names: str | Sequence[str] | None) -> list[str] | None:
    """Names that are separated by commas, or a sequence of names.

    >>> parse_names("lr, head"), parse_names(["lr"])
    (['lr', 'head'], ['lr'])
    """
    if names is None:
        return None
    return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)


def parse_trackers(asked: str | Sequence[str] | None) -> Trackers:
    """Trackers by name, each with the place that follows a colon.

    >>> parse_trackers("tensorboard,mlflow:http://127.0.0.1:5000")
    [('tensorboard', None), ('mlflow', 'http://127.0.0.1:5000')]

    Raises:
        ConfigError: an unknown name, or one twice; all are listed.
    """
    words = parse_names(asked) or []
    found = [(name, place or None) for name, _, place in (word.partition(":") for word in words)]
    names = [name for name, _ in found]
    faults = [unknown("tracker", name, TRACKERS) for name in names if name not in TRACKERS]
    faults += [f"tracker '{name}' is listed twice." for name in dict.fromkeys(names) if names.count(name) > 1]
    if asked is not None and not found:
        faults.append(f"--track takes {' or '.join(TRACKERS)}; saw {asked!r}.")
    gather(ConfigError, faults)
    return found


def parse_size(size: str | Sequence[int]) -> tuple[int, int]:
    """Height and width from "HxW", or from a pair.

    >>> parse_size("96x128"), parse_size((96, 128))
    ((96, 128), (96, 128))

    Raises:
        ConfigError: anything else.
    """
    pair = None if isinstance(size, str) else tuple(size)
    if pair is not None and len(pair) == 2 and all(isinstance(side, int) for side in pair):
        return pair[0], pair[1]
    text = str(size)
    found = re.fullmatch(r"(\d+)[x×](\d+)", text.strip().lower())
    if not found:
        raise ConfigError(f"--size takes HxW in pixels, for example 96x128; saw '{text}'.")
    return int(found[1]), int(found[2])


def parse_budget(text: str | None) -> tuple[float | None, int | None]:
    """Seconds or trials; one of the two is None.

    >>> parse_budget("30m"), parse_budget("1.5h"), parse_budget("20trials"), parse_budget(None)
    ((1800.0, None), (5400.0, None), (None, 20), (None, None))

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return None, None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|trials)", text.strip().lower())
    amount = float(found[1]) if found else 0.0
    if not found or amount <= 0 or (found[2] == "trials" and amount != int(amount)):
        raise ConfigError(
            f"--budget takes a time or a number of trainings, as in 90s, 30m, 2h, 20trials; saw '{text}'."
        )
    if found[2] == "trials":
        return None, int(amount)
    return amount * {"s": 1, "m": 60, "h": 3600}[found[2]], None


def parse_limit(text: str | None) -> int | None:
    """Bytes of --cache-limit; None stays None.

    Raises:
        ConfigError: it is no size.
    """
    from segdecay.data.cache import parse_bytes

    return None if text is None else parse_bytes(text)


def default_out(data: str) -> Path:
    """runs/NAME for a data set."""
    path = Path(data)
    name = path.parent.resolve().name if path.suffix in (".yaml", ".yml") else path.resolve().name
    return Path("runs") / name


def default_lr_out(data: str) -> Path:
    """runs/NAME-lr, beside the searches of a data set."""
    run = default_out(data)
    return run.with_name(f"{run.name}-lr")


def build_config(
    data: str | None,
    config: Config,
    changes: Sequence[str] | Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> RunConfig:
    """The checked configuration of a run; faults of shape, range and names are reported together.

    Args:
        data: data.path; None where `config` has it.
        config: a file of keys, or its values.
        changes: "KEY=VALUE" of --set, or keys to values.
        options: dotted keys to values; None means that the option was not given.

    Raises:
        ConfigError: listing all faults.
    """
    values = collect_values(data, config, changes, options)
    from segdecay.config.schema import parse_config  # late: --help needs no pydantic

    try:
        built = parse_config(values)
    except ConfigError as error:
        gather(ConfigError, [*_lines(error), *_faulty_names(values)])
        raise
    gather(ConfigError, check_names(built))
    return built


def check_names(config: RunConfig) -> list[str]:
    """Every name that does not exist and every pair that has no meaning, asked once of each package.

    It is asked where a configuration is built; the workflows take it as it is.
    """
    from segdecay.metrics.criteria import check_criterion  # late: --help needs no torch
    from segdecay.models.zoo import check_model_name
    from segdecay.search.joint.space import check_joint
    from segdecay.training.names import check_training

    faults = [*check_model_name(config.model.name), *check_criterion(config.search)]
    return [*faults, *check_training(config), *check_joint(config)]


def build_compare_config(
    data: str | None,
    config: Config,
    changes: Sequence[str] | Mapping[str, Any] | None,
    options: Mapping[str, Any],
    section: Mapping[str, Any],
) -> CompareConfig:
    """The checked configuration of a comparison; `section` has what was given for its keys below `compare`.

    Raises:
        ConfigError: listing all faults.
    """
    from segdecay.config.schema import parse_compare, parse_config

    values = collect_values(data, config, changes, options)
    given = values.pop("compare", {})
    if not isinstance(given, dict):
        raise ConfigError(f"compare: a section of keys is needed; saw {given!r}.")
    given |= {key: value for key, value in section.items() if value is not None}
    faults: list[str] = []
    shared = compared = None
    try:
        shared = parse_config(values)
    except ConfigError as error:
        faults += _lines(error)
    try:
        compared = parse_compare(shared or parse_config({"data": {"path": "x"}}), given)
    except ConfigError as error:
        faults += _lines(error)
    gather(ConfigError, faults)
    if compared is None:
        raise AssertionError("a comparison without a configuration has faults")
    return compared


def collect_values(
    data: str | None,
    config: Config,
    changes: Sequence[str] | Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Plain values, unchecked: as `build_config`.

    Raises:
        ConfigError: listing every key that leads nowhere.
    """
    from segdecay.utils.yaml import parse_assignment, put_key  # late, so that the command line answers fast

    values, faults = _plain(config), list[str | None]()
    values.pop("command", None)  # a run.yaml names its command
    if isinstance(changes, Mapping):
        faults += [put_key(values, str(path), value, "set") for path, value in changes.items()]
    else:
        for assignment in changes or ():
            try:
                faults.append(put_key(values, *parse_assignment(assignment), "--set"))
            except ConfigError as error:
                faults.append(str(error))
    for path, value in {"data.path": data, **options}.items():
        if value is None or (value is False and path not in SWITCHES):
            continue
        if path == "size":
            faults.append(put_key(values, "data.size", parse_size(value)))
        else:
            faults.append(put_key(values, path, value))
    gather(ConfigError, [fault for fault in faults if fault])
    return values


def _plain(config: Config) -> dict[str, Any]:
    from segdecay.config.schema import RunConfig

    if config is None:
        return {}
    if isinstance(config, RunConfig):
        return config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(config, Mapping):
        return copy.deepcopy(dict(config))
    from segdecay.utils.yaml import read_yaml  # late, as above

    return read_yaml(Path(config))


def _lines(error: ConfigError) -> list[str]:
    return [line.removeprefix("- ") for line in str(error).splitlines()]


def _faulty_names(values: dict[str, Any]) -> list[str]:
    """Faults of names in values that are not a configuration yet, so that all are told at once."""
    from segdecay.config.schema import RunConfig

    names = {"model": "name", "optimizer": "name", "schedule": "name", "decay": "regularizer", "search": "criterion"}
    kept: dict[str, Any] = {"data": {"path": "x"}}
    for section, key in names.items():
        given = values.get(section)
        if isinstance(given, dict) and isinstance(given.get(key), str):
            kept[section] = {key: given[key]}
    return check_names(RunConfig.model_validate(kept))


def config_from_keywords(
    data: Any,
    config: Config,
    changes: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    *,
    function: Any = None,
    axis: Any = None,
) -> RunConfig:
    """The checked configuration of a Python call: as `build_config`, with `set=`, `train=` and `axis=` as they came.

    Raises:
        ConfigError: listing all faults.
    """
    from segdecay.data.user_data import UserData
    from segdecay.training.user_api import name_of

    faults, given = _faults_of_keywords(data, config, changes), dict(options)
    if function is not None:
        faults += [] if callable(function) else [f"train= takes a function of (setting, fold, seed); saw {function!r}."]
        given |= {"user.function": name_of(function), **_axis_keys(axis, faults)}
    elif axis is not None:
        faults.append(
            "axis= is only for a user function, train=. Without one the axis follows from decay= and optimizer.name."
        )
    gather(ConfigError, faults)
    path = f"({data.name}, described)" if isinstance(data, UserData) else None if data is None else str(data)
    return build_config(path, config, changes, given)


def compare_config_from_keywords(
    data: Any,
    config: Config,
    changes: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    section: Mapping[str, Any],
) -> CompareConfig:
    """The checked configuration of `segdecay.compare`: as `build_compare_config`.

    Raises:
        ConfigError: listing all faults.
    """
    gather(ConfigError, _faults_of_keywords(data, config, changes))
    return build_compare_config(None if data is None else str(data), config, changes, options, section)


def _faults_of_keywords(data: Any, config: Config, changes: Any) -> list[str]:
    from segdecay.data.formats import ALLOWED

    faults = []
    if changes is not None and not isinstance(changes, Mapping):
        faults.append(f"set= takes a mapping of keys to values, as in {{'training.epochs': 5}}; saw {changes!r}.")
    values = _plain(config)
    if data is None and not (isinstance(values.get("data"), dict) and "path" in values["data"]):
        faults.append(f"data= is needed: {ALLOWED}.")
    return faults


def _axis_keys(axis: Any, faults: list[str]) -> dict[str, Any]:
    """The keys of an axis: the caller's own, or that of a regularizer and an optimizer of ours."""
    from segdecay.training.user_api import Axis

    if axis is None:
        return {}
    if isinstance(axis, Axis):
        return {"decay.axis": axis.to_config().model_dump(mode="json")}
    if isinstance(axis, Sequence) and len(axis) == 2 and all(isinstance(one, str) for one in axis) and len(axis[0]) > 1:
        return {"decay.regularizer": axis[0], "optimizer.name": axis[1]}
    faults.append(
        "axis= takes segdecay.Axis(name, grid), or a regularizer and an optimizer as in ('decoupled', 'adamw'); saw "
        f"{axis!r}."
    )
    return {}
