"""Read plain values from YAML, set them by dotted keys, and list their differences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from segdecay.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers of YAML 1.2: 1e-4 is a number, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_yaml(text: str) -> Any:
    """Plain values from YAML text; raises yaml.YAMLError.

    >>> load_yaml("[1e-4, 0.5, yes]")
    [0.0001, 0.5, True]
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """The dotted key and the value of one `--set KEY=VALUE`; the value is read as YAML.

    >>> parse_assignment("search.grid=[0, 1e-4]")
    ('search.grid', [0, 0.0001])

    Raises:
        ConfigError: the assignment has no "=", or its value is not YAML.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set takes key.path=value; saw '{assignment}'. Example: --set search.grid=[0,1,8]")
    try:
        return path, load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: '{text}' is not YAML. Example: --set search.grid=[0,1,8]") from error


def put_key(values: dict[str, Any], path: str, value: Any, said_by: str = "") -> str | None:
    """Set the value at a dotted key, in place; returns the fault that prevents it, or None.

    >>> values = {"search": {"folds": 3}}
    >>> put_key(values, "search.race", False), values
    (None, {'search': {'folds': 3, 'race': False}})
    >>> put_key(values, "search.folds.least", 3, "--set")
    "--set search.folds.least: 'folds' is a value, not a section."
    """
    *sections, key = path.split(".")
    place = values
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            return f"{said_by} {path}: '{section}' is a value, not a section.".lstrip()
        place = inner
    place[key] = list(value) if isinstance(value, tuple) else value
    return None


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


DEEPEST = 20  # levels of lists and mappings; dataset.yaml needs three
MOST_NODES = 100_000  # with every alias expanded


class _StrictLoader(yaml.SafeLoader):
    """YAML whose lists may be keys ([r, g, b]: road) and whose keys may not repeat."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"more than {DEEPEST} levels", None)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count(node, {}, ())
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for index, (key, value) in enumerate(node.value):
            if isinstance(key, yaml.SequenceNode):
                text = ",".join(str(part.value) for part in key.value)
                key = yaml.ScalarNode("tag:yaml.org,2002:str", text, key.start_mark, key.end_mark)  # noqa: PLW2901
                node.value[index] = (key, value)
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def _count(node: yaml.Node, counted: dict[int, int], above: tuple[int, ...]) -> int:
    """The number of nodes in `node`, itself included, with aliases expanded.

    Raises:
        ComposerError: more than MOST_NODES, or a node that contains itself.
    """
    if id(node) in above:
        raise yaml.composer.ComposerError(None, None, "an alias refers to a node that contains it", node.start_mark)
    if id(node) not in counted:
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for one in below for part in (one if isinstance(one, tuple) else (one,))]
        total = 1 + sum(_count(part, counted, (*above, id(node))) for part in parts)
        if total > MOST_NODES:
            text = f"more than {MOST_NODES} values when aliases are expanded"
            raise yaml.composer.ComposerError(None, None, text, node.start_mark)
        counted[id(node)] = total
    return counted[id(node)]


def _load_strictly(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error


def load_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; {} where it is empty. `source` names the file in messages.

    >>> load_mapping("colors: {[255, 0, 0]: road}", "dataset.yaml")
    {'colors': {'255,0,0': 'road'}}

    Raises:
        ConfigError: the text is not YAML, gives a key twice, is not a mapping, has more than DEEPEST levels, or more
            than MOST_NODES values.
    """
    values = _load_strictly(text, source)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{source} holds a {type(values).__name__}; a mapping of keys to values is needed.")
    return {str(key): value for key, value in values.items()}
