"""Plain values: from YAML text and files, changed by `--set`, compared. Knows nothing of what they mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from segdecay.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers of YAML 1.2: 1e-4 is a number, not a word."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_yaml(text: str) -> Any:
    """Plain values from YAML text; raises yaml.YAMLError.

    >>> load_yaml("[1e-4, 0.5, yes]")
    [0.0001, 0.5, True]
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def set_key(values: dict[str, Any], assignment: str) -> None:
    """Apply one `--set key.path=value` to plain values, in place; the value is read as YAML.

    Raises:
        ConfigError: no "=", or a path through something that is not a section.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set takes key.path=value; saw '{assignment}'. Example: --set search.grid=[0,1,8]")
    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: '{text}' is not YAML. Example: --set search.grid=[0,1,8]") from error
    *sections, key = path.split(".")
    place = values
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {path}: '{section}' is a value, not a section.")
        place = inner
    place[key] = value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML or not a mapping.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; a mapping of keys to values is needed.")
    return values


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lines "key: old → new" for every value in which two plain configurations differ.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    ['a.b: 1 → 3']
    """
    lines: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        one, other = old.get(key), new.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            lines += differences(one, other, f"{prefix}{key}.")
        elif one != other:
            lines.append(f"{prefix}{key}: {one} → {other}")
    return lines
