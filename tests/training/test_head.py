"""The parts of the second stage: rows of the head, caps, counts of examples; and what is refused before training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_folder import Folder
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import small_config, small_task
from torch import nn

from segdecay.decay import group_parameters
from segdecay.decay.regularizers.max_norm import norm_cap
from segdecay.errors import DecayError, ModelError
from segdecay.training.class_weights import count_examples
from segdecay.training.head import HeadWeight, RowCap, cap_rows_, head_weights, row_norms
from segdecay.training.preflight import run_preflight
from segdecay.workflows.request import check_names


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A folder of its own for models by module:function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return iter([None])


def _head_weight(shape: tuple[int, ...], dim: int, seed: int) -> HeadWeight:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return HeadWeight("head.weight", nn.Parameter(weight), dim)


@given(st.integers(0, 1000), st.sampled_from([0, 1]), st.floats(0.1, 4.0))
@settings(max_examples=30, deadline=None)
def test_capped_rows_are_scaled_back_to_the_cap_and_the_others_untouched(seed: int, dim: int, cap: float) -> None:
    head = _head_weight((4, 5, 1, 1), dim, seed)
    before = head.parameter.detach().clone()
    cap_rows_([RowCap(head, cap)])
    for k in range(before.shape[dim]):
        row, found = before.select(dim, k), head.parameter.detach().select(dim, k)
        length = float(row.norm())
        assert torch.equal(found, row) == (length <= cap)
        assert torch.allclose(found, row * min(1.0, cap / length), rtol=1e-5, atol=1e-6)


def test_the_cap_is_a_share_of_the_way_from_the_smallest_norm_to_the_largest() -> None:
    norms = row_norms(torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 1.0]]))
    assert norms == pytest.approx([5.0, 10.0, 1.0])
    assert [norm_cap(norms, share) for share in (0.0, 0.1, 1.0)] == pytest.approx([1.0, 1.9, 10.0])


def test_rows_are_outputs_also_of_a_transposed_convolution_and_not_of_a_norm_layer() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)))
    found = head_weights(group_parameters(plain, rules={"1.*": "head"}))
    assert [(head.name, head.dim) for head in found] == [("1.1.weight", 0)]
    turned = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ConvTranspose2d(6, 4, 2))
    (head,) = head_weights(group_parameters(turned))
    assert len(row_norms(head.parameter, head.dim)) == 4


def test_a_class_of_its_own_below_a_transposed_convolution_has_the_same_rows() -> None:
    class Up(nn.ConvTranspose2d):
        pass

    (head,) = head_weights(group_parameters(nn.Sequential(nn.Conv2d(3, 6, 3), Up(6, 4, 2))))
    assert (head.dim, len(row_norms(head.parameter, head.dim))) == (1, 4)


def test_examples_are_images_or_components_and_never_pixels(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    one = np.zeros((6, 8), dtype=np.uint8)
    one[:2, :2] = 1
    one[2, 2] = 1  # touches at a corner: the same component
    one[5, 5:8] = 1  # a second one
    two = np.zeros((6, 8), dtype=np.uint8)
    two[:, 3] = 1  # one component that parts the background in two
    for name, mask in zip("abc", (one, two, np.zeros((6, 8), dtype=np.uint8)), strict=True):
        folder.mask(name, mask)
    dataset = folder.dataset()
    assert count_examples(dataset, (0, 1, 2), "images").tolist() == [3, 2]
    assert count_examples(dataset, (0, 1, 2), "components").tolist() == [4, 3]
    assert count_examples(dataset, (2,), "components").tolist() == [1, 0]


def test_ignored_pixels_are_no_example(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[0, 0], mask[3, 3] = 1, 255
    folder.mask("a", mask)
    folder.spec("classes: [background, road]\nignore: [255]\n")
    dataset = folder.dataset()
    assert count_examples(dataset, (0,), "images").tolist() == [1, 1]
    assert count_examples(dataset, (0,), "components").tolist() == [1, 1]


def _preflight(shapes: Path, **sections: Any) -> None:
    balancing = {"epochs": 1, **sections.pop("balancing", {})}
    task, _ = small_task(Path("unused"), small_config(shapes, balancing=balancing, **sections))
    run_preflight(task)


def test_a_model_without_a_head_is_refused_before_training(shapes: Path) -> None:
    with pytest.raises(ModelError, match=r"no weight of this model is in the group 'head'.*decay\.head"):
        _preflight(shapes, decay={"rules": {"head.*": "body"}})


def test_a_parametrised_head_is_refused_before_training(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "normed_head.py").write_text(
        "from torch import nn\n"
        "from torch.nn.utils.parametrizations import weight_norm\n"
        "def build(in_channels, classes):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), weight_norm(nn.Conv2d(4, classes, 1)))\n"
    )
    model = {"name": "normed_head:build", "width": None, "depth": None}
    with pytest.raises(ModelError, match="parametrization"):
        _preflight(shapes, model=model)


def test_a_step_that_would_decay_past_zero_is_refused_before_training(shapes: Path) -> None:
    with pytest.raises(DecayError):
        _preflight(shapes, balancing={"lr": 0.5, "decay": 2.0})


def test_a_preflight_reports_the_partition_of_the_first_stage(shapes: Path) -> None:
    task, _ = small_task(Path("unused"), small_config(shapes, balancing={"epochs": 1}))
    assert "frozen" not in {row.group for row in run_preflight(task).partition.rows}


def test_both_answers_to_class_frequencies_at_once_are_refused(shapes: Path) -> None:
    config = small_config(shapes, balancing={"epochs": 3}, loss={"logit_adjustment": 1.0})
    (fault,) = check_names(config)
    assert "balancing.epochs=3 and loss.logit_adjustment=1" in fault
    for sections in ({"balancing": {"epochs": 3}}, {"loss": {"logit_adjustment": 1.0}}):
        assert check_names(small_config(shapes, **sections)) == []
