"""YAML that a person wrote, to plain values: lists as keys, no key twice, no nest and no alias without bound."""

from __future__ import annotations

from typing import Any

import yaml

from segdecay.errors import ConfigError

DEEPEST = 20  # levels of lists and mappings; dataset.yaml needs three
MOST_NODES = 100_000  # with every alias written out


class _Loader(yaml.SafeLoader):
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
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' stands twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def _count(node: yaml.Node, counted: dict[int, int], above: tuple[int, ...]) -> int:
    """Nodes below one, aliases written out.

    Raises:
        ComposerError: too many, or a node that holds itself.
    """
    if id(node) in above:
        raise yaml.composer.ComposerError(None, None, "an alias of what it stands in", node.start_mark)
    if id(node) not in counted:
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for one in below for part in (one if isinstance(one, tuple) else (one,))]
        total = 1 + sum(_count(part, counted, (*above, id(node))) for part in parts)
        if total > MOST_NODES:
            text = f"more than {MOST_NODES} values when aliases are written out"
            raise yaml.composer.ComposerError(None, None, text, node.start_mark)
        counted[id(node)] = total
    return counted[id(node)]


def _load(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error


def load_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; {} where it is empty. `source` names the file in messages.

    >>> load_mapping("colors: {[255, 0, 0]: road}", "dataset.yaml")
    {'colors': {'255,0,0': 'road'}}

    Raises:
        ConfigError: not YAML, a key twice, no mapping, or nests and aliases beyond what a person writes.
    """
    values = _load(text, source)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{source} holds a {type(values).__name__}; a mapping of keys to values is needed.")
    return {str(key): value for key, value in values.items()}
