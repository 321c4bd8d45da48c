"""What a comparison is asked to do: a configuration that all arms share, the arms, and how many strengths each has."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic import Field

from segdecay.config import RunConfig, Section
from segdecay.errors import ConfigError, gather
from segdecay.key_faults import explain

STRENGTHS = 3


class CompareSection(Section):
    """Which arms, and how hard each is tuned: the same for all."""

    arms: tuple[str, ...] = Field(("none", "decoupled"), min_length=1, description="see: segdecay compare --help")
    strengths: int = Field(STRENGTHS, ge=1, le=50, description="tried of every arm beside none, in every fold")
    grids: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="by arm: so many strengths of your own in place of the default ones"
    )

    @pydantic.field_validator("arms", mode="before")
    @classmethod
    def _tuple_from_list(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and not value:
            raise ValueError("no arm is named; name at least one beside none")
        return tuple(value) if isinstance(value, list) else value

    @pydantic.field_validator("grids", mode="before")
    @classmethod
    def _tuples_from_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}


class CompareConfig(RunConfig):
    """A run's configuration with what is compared; everything else is the same for all arms."""

    compare: CompareSection = CompareSection()

    @property
    def shared(self) -> RunConfig:
        """What all arms share, as a training takes it."""
        return RunConfig.model_construct(**{name: getattr(self, name) for name in RunConfig.model_fields})


def compare_config(shared: RunConfig, section: dict[str, Any]) -> CompareConfig:
    """A checked configuration of a comparison.

    >>> asked = compare_config(RunConfig.model_validate({"data": {"path": "digits"}}), {"arms": ["none", "l1"]})
    >>> asked.compare.arms, asked.shared.data.path
    (('none', 'l1'), 'digits')

    Raises:
        ConfigError: listing every unknown key and every value out of range.
    """
    try:
        parsed = CompareSection.model_validate(section)
    except pydantic.ValidationError as error:
        gather(ConfigError, [f"compare: {line}" for line in explain(error, _allowed_keys)])
        raise AssertionError from error  # gather always raises here: a validation error has faults
    return CompareConfig.model_construct(
        **{name: getattr(shared, name) for name in RunConfig.model_fields}, compare=parsed
    )


def _allowed_keys(path: tuple[str | int, ...]) -> list[str]:
    return list(CompareSection.model_fields) if len(path) == 1 else []
