"""Ten public and ten broken recipes: nothing right is called wrong, and no mistake is missed."""

from __future__ import annotations

import pytest
from decay_recipes import BROKEN, PUBLIC, Recipe

from segdecay.decay import Audit, audit

# As the audit is before it can see a training step: to be emptied.
MISSED = {
    "schedule-free",
    "decay by hand before Adam",
    "the mean of squares",
    "a penalty on a copy",
    "a penalty on buffers",
    "a hook beside AdamW",
    "η·λ above (1−√μ)²",
    "the logits layer is spared",
    "by hand and by AdamW's default",
    "a name that promises decoupling",
    "a penalty in each part of the batch",
}
MISTAKEN = {"schedule-free", "decay by hand before Adam", "the logits layer is spared"}
RECIPES = {**PUBLIC, **BROKEN}


def audited(recipe: Recipe) -> Audit:
    program = recipe.build()
    return audit(program.model, program.optimizers, program.loss, **program.options)


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_wrong_is_told_and_nothing_else_is_called_wrong(name: str) -> None:
    recipe, found = RECIPES[name], audited(RECIPES[name])
    is_missed = not set(recipe.wrong) <= set(found.codes("wrong")) or not set(recipe.told) <= set(found.codes())
    is_mistaken = bool(set(found.codes("wrong")) - set(recipe.wrong) or set(found.codes()) & set(recipe.silent))
    assert (name in MISSED, name in MISTAKEN) == (is_missed, is_mistaken)
