"""YAML text to a plain mapping: lists may be keys, keys may not repeat. Knows nothing of what the keys mean."""

from __future__ import annotations

from typing import Any

import yaml

from segdecay.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML whose lists may be keys ([r, g, b]: road) and whose keys may not repeat."""

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


def load_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; {} where it is empty. `source` names the file in messages.

    >>> load_mapping("colors: {[255, 0, 0]: road}", "dataset.yaml")
    {'colors': {'255,0,0': 'road'}}

    Raises:
        ConfigError: not YAML, a key twice, or no mapping.
    """
    try:
        values = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{source} holds a {type(values).__name__}; a mapping of keys to values is needed.")
    return {str(key): value for key, value in values.items()}
