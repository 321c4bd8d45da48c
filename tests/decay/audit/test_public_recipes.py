"""Ten public and ten broken recipes: nothing right is called wrong, and no mistake is missed."""

from __future__ import annotations

import pytest
from decay_recipes import BROKEN, PUBLIC, Recipe

from segdecay.decay import Audit, audit

RECIPES = {**PUBLIC, **BROKEN}


def audited(recipe: Recipe) -> Audit:
    program = recipe.build()
    return audit(program.model, program.optimizers, program.loss, step=program.step, **program.options)


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_wrong_is_told_and_nothing_else_is_called_wrong(name: str) -> None:
    recipe, found = RECIPES[name], audited(RECIPES[name])
    assert set(found.codes("wrong")) == set(recipe.wrong)
    assert set(recipe.told) <= set(found.codes())
    assert set(found.codes()) & set(recipe.silent) == set()
