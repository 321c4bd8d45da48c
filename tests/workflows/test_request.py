"""A configuration is asked about its names once, where it is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segdecay.errors import ConfigError
from segdecay.execution.options import Execution
from segdecay.search.joint import space
from segdecay.training import names
from segdecay.workflows import prepare
from segdecay.workflows.progress import build_watcher
from segdecay.workflows.request import build_config


class _EnoughError(Exception):
    """The search is about to touch its folder."""


def test_each_package_is_asked_once_for_a_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = Counter[str]()

    def counted(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            asked[name] += 1
            return check(*arguments)

        return count

    for module, name in ((names, "check_training"), (space, "check_joint")):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))

    def enough(*_arguments: Any) -> None:
        raise _EnoughError

    monkeypatch.setattr(prepare, "check_folder", enough)
    config = build_config("digits", None, None, {})
    with build_watcher(quiet=True, as_json=False) as watcher, pytest.raises(_EnoughError):
        prepare.prepare(config, tmp_path, Execution(), watcher)
    assert asked == {"check_training": 1, "check_joint": 1}


def test_faults_of_all_packages_are_told_together() -> None:
    wrong = ["model.name=unet-tyni", "optimizer.name=adem", "schedule.name=cosin", "search.joint=[lrr]"]
    wrong += ["search.criterion=worts"]
    with pytest.raises(ConfigError) as told:
        build_config("digits", None, wrong, {"decay.regularizer": "decopled"})
    for said in ("'unet-tiny'", "'adam'", "'cosine'", "'lr'", "'worst'", "'decoupled'"):
        assert f"Did you mean {said}?" in str(told.value)
