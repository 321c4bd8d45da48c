"""Where an option that a command does not have is found: a key for --set, or another command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

SEARCHED = "tune searches the strength: --set search.grid=[0,1,4]. One strength: segdecay train DATA --lambda 0.01."
ON_TUNE = {"--lambda": SEARCHED, "--strength": SEARCHED, "--weight-decay": SEARCHED, "--wd": SEARCHED}
EVERYWHERE = {
    "--weight-decay": "The strength of one training is --lambda, the regularizer --decay.",
    "--wd": "The strength of one training is --lambda, the regularizer --decay.",
    "--optimizer": "--set optimizer.name=NAME",
    "--loss": "--set loss.name=NAME",
    "--schedule": "--set schedule.name=NAME",
    "--learning-rate": "--set optimizer.lr=VALUE",
    "--batch": "--set training.batch_size=VALUE",
    "--n-folds": "--folds",
    "--output": "--out",
    "--gpus": "--device cuda, or --workers for trials at a time",
}


class HintingGroup(TyperGroup):
    """Commands whose error about an unknown option says where it is found."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            option = getattr(error, "option_name", None)
            near = getattr(error, "possibilities", None)
            command = getattr(getattr(error, "ctx", None), "info_name", None)
            if near is not None and isinstance(option, str) and isinstance(command, str):
                found = hint(option, command, self.commands)
                if found:
                    error.message = f"No such option: {option}. {found}"  # type: ignore[attr-defined]
                    error.possibilities = None  # type: ignore[attr-defined]
            raise


def hint(option: str, command: str, commands: Mapping[str, Any]) -> str:
    """What to type in place of an option that a command does not have; empty where nothing fits.

    >>> hint("--batch-size", "tune", {})
    'It is a key: --set training.batch_size=VALUE'
    """
    takes_keys = not commands or "--set" in _options(commands[command])
    if command == "tune" and option in ON_TUNE:
        return ON_TUNE[option]
    if takes_keys and option in EVERYWHERE:
        return f"Instead: {EVERYWHERE[option]}"
    is_search = command != "train"  # which has no use for the keys of a search
    name = option.strip("-").replace("-", "_")
    key = next((one for one in _keys() if one.endswith(f".{name}") and (is_search or "search." not in one)), None)
    if takes_keys and key is not None:
        return f"It is a key: --set {key}=VALUE"
    others = [name for name, one in commands.items() if option in _options(one)]
    return f"It is an option of {', '.join(f'segdecay {name}' for name in others)}." if others else ""


def _options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _keys() -> Iterator[str]:
    """Every key of a run, as in optimizer.lr."""
    import pydantic  # late: --help needs neither

    from segdecay.config.schema import RunConfig

    for name, section in RunConfig.model_fields.items():
        if isinstance(section.annotation, type) and issubclass(section.annotation, pydantic.BaseModel):
            for key, field in section.annotation.model_fields.items():
                yield f"{name}.{field.alias or key}"


def print_version(value: bool) -> None:
    """The version, and nothing else."""
    if value:
        from importlib.metadata import version

        typer.echo(f"segdecay {version('segdecay')}")
        raise typer.Exit
