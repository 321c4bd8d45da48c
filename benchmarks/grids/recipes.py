"""The recipes of the atlas: what is trained on which data set, base recipes first, then one change at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Change = Literal[
    "base", "fitted", "half width", "double width", "half length", "double length", "half the images", "SGD", "seed 1"
]
STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # total decay D
STRONGER = 16.0  # added where the best mean is at the strongest
FOLDS = 3
WIDTH = 12  # of unet-tiny
SGD_RATE = 0.05
FITTED = 3  # times the length of the base recipe


@dataclass(frozen=True)
class Recipe:
    """What a grid is trained with; everything else is the default of `segdecay tune`.

    Attributes:
        data: name of the data set.
        epochs: of every trial.
        size: height and width of the images, px; None: as they are.
        change: what differs from the base recipe of the data set.
        width: channels of the first level of the U-Net.
        share: of the training images of every fold, whole groups.
    """

    data: str
    epochs: int
    size: tuple[int, int] | None = None
    change: Change = "base"
    width: int = WIDTH
    share: float = 1.0
    sgd: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the record: the data set and the change."""
        return f"{self.data.removesuffix('-small')}-{self.change.replace(' ', '-').lower()}"

    def config(self, path: str) -> dict[str, Any]:
        """Plain values of the run's configuration."""
        data: dict[str, Any] = {"path": path} | ({"size": list(self.size)} if self.size else {})
        search = {"grid": list(STRENGTHS), "folds": FOLDS, "race": False, "seeds": [self.seed]}
        values: dict[str, Any] = {"data": data, "search": search, "training": {"epochs": self.epochs}}
        if self.width != WIDTH:
            values["model"] = {"width": self.width}
        if self.sgd:
            values["optimizer"] = {"name": "sgd", "lr": SGD_RATE, "momentum": 0.9}
            values["decay"] = {"regularizer": "l2"}  # as torch.optim.SGD(weight_decay=λ)
        return values


# Images × pixels × epochs is about 1e7: with images this small 200 to 800 steps fit into a short trial. The last four
# come last since three of them were recorded before (record_grid.py), at other lengths, and the fourth has no masks.
BASE = (
    Recipe("carrot-weed-small", 30, (40, 40)),
    Recipe("retina-vessels-small", 27, (48, 48)),
    Recipe("steel-defects-small", 40, (32, 32)),
    Recipe("pipe-defects-small", 72, (32, 56)),
    Recipe("blood-cells-small", 40, (32, 32)),
    Recipe("horses-small", 27, (32, 48)),
    Recipe("coffee-leaf-small", 20, (32, 64)),
    Recipe("feral-cats-small", 40, (32, 32)),
    Recipe("powerline-aerial-small", 31, (40, 40)),
    Recipe("particles-em-small", 32, (32, 40)),
    Recipe("nuclei-small", 27, (48, 48)),
    Recipe("camvid-small", 12, (36, 48)),
    Recipe("cifar10-small", 4),
    Recipe("digits", 40),
)
LONGER = ("retina-vessels-small", "carrot-weed-small", "steel-defects-small", "blood-cells-small", "horses-small")
CHANGED = ("retina-vessels-small", "carrot-weed-small")
AGAIN = ("retina-vessels-small", "carrot-weed-small", "steel-defects-small", "pipe-defects-small")


def _changes(base: Recipe) -> tuple[Recipe, ...]:
    """The base recipe with one thing changed at a time."""
    return (
        replace(base, change="half width", width=base.width // 2),
        replace(base, change="double width", width=base.width * 2),
        replace(base, change="half length", epochs=base.epochs // 2),
        replace(base, change="double length", epochs=base.epochs * 2),
        replace(base, change="half the images", share=0.5),
        replace(base, change="SGD", sgd=True),
    )


def _recipes() -> tuple[Recipe, ...]:
    by_data = {base.data: base for base in BASE}
    fitted = [replace(by_data[data], change="fitted", epochs=FITTED * by_data[data].epochs) for data in LONGER]
    changed = [one for data in CHANGED for one in _changes(by_data[data])]
    again = [replace(by_data[data], change="seed 1", seed=1) for data in AGAIN]
    return (*BASE, *fitted, *changed, *again)


RECIPES = _recipes()
