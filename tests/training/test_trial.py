"""The steps before a search: a network whose output cannot be scored is told with both shapes."""

from __future__ import annotations

import pytest

from segdecay.errors import ModelError
from segdecay.testing.small_trials import small_trials
from segdecay.training.preflight import run_preflight


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            "return torch.zeros(len(images), 3, 16, 16)",
            r"The model returned \(3, 3, 16, 16\) for 3 images; logits of shape \(3, 2, 16, 16\) are needed",
        ),
        ("return {'out': images, 'aux': images}", "returned a dict of out, aux for 3 images; one tensor of logits"),
        ("return images, images", "returned a tuple for 3 images; .* Wrap the model in a module"),
    ],
    ids=["a class too many", "a dict as torchvision's", "a tuple"],
)
def test_what_is_no_logits_of_the_right_shape_is_told(lines: str, text: str) -> None:
    with small_trials() as trials:
        (task,) = trials.tasks("odd", 1, lines=lines)
        with pytest.raises(ModelError, match=text):
            run_preflight(task)
