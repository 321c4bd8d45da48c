"""Dead classes: classes that a training learns at some epoch and no longer predicts at its end, by strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segdecay.runs.records import StrengthRecord, TrialRecord, axis_names, kind_of

LIVED = 0.05  # IoU from which a class counts as learnt
DEAD = 0.001  # IoU up to which a class counts as dead


@dataclass(frozen=True)
class Death:
    """A class that reached `best` after `best_epoch` and has IoU 0 from the score after `epoch` to the end."""

    name: str
    best: float  # IoU
    best_epoch: int
    epoch: int


def dead_classes(
    curve: Sequence[Mapping[str, Any]],  # lines with "epoch" and, where it was scored, "validation_iou" (C,)
    names: Sequence[str],
    support: Sequence[int],  # (C,) validation pixels
) -> tuple[Death, ...]:
    """Classes whose validation IoU was LIVED or more at some epoch and is DEAD or less at the last one.

    A class without validation pixels has no score and cannot die. Scores are taken at few epochs (8 and the last one):
    a class that is learnt and lost between two of them is not found.

    >>> curve = [{"epoch": e, "validation_iou": [0.9, pole]} for e, pole in ((1, 0.2), (2, 0.3), (3, 0.0), (4, 0.0))]
    >>> dead_classes(curve, ("road", "pole"), (500, 20))
    (Death(name='pole', best=0.3, best_epoch=2, epoch=3),)
    """
    readings = [(int(line["epoch"]), line["validation_iou"]) for line in curve if line.get("validation_iou")]
    found = []
    for index, name in enumerate(names):
        values = [(epoch, iou[index]) for epoch, iou in readings if iou[index] is not None]
        if not support[index] or not values or values[-1][1] > DEAD:
            continue
        best_epoch, best = max(values, key=lambda reading: reading[1])
        if best >= LIVED:
            epoch = next(epoch for at, (epoch, _) in enumerate(values) if all(v <= DEAD for _, v in values[at:]))
            found.append(Death(name, best, best_epoch, epoch))
    return tuple(found)


def plain(deaths: Sequence[Death]) -> list[dict[str, Any]]:
    """The JSON of a record's `extra.died`."""
    return [asdict(death) for death in deaths]


def deaths_of(record: TrialRecord) -> tuple[Death, ...]:
    """The dead classes of a record; empty for records of older versions."""
    return tuple(Death(**one) for one in record.extra.get("died", ()))


def death_text(death: Death) -> str:
    """One clause.

    >>> death_text(Death("pole", 0.3, 20, 30))
    'pole (IoU 0.300 after epoch 20, 0 from epoch 30 on)'
    """
    return f"{death.name} (IoU {death.best:.3f} after epoch {death.best_epoch}, 0 from epoch {death.epoch} on)"


@dataclass(frozen=True)
class Toll:
    """A class that died at a strength, with the trials (fold, seed) in which it did, and the number of all trials."""

    strength: StrengthRecord
    name: str
    deaths: tuple[tuple[int, int, Death], ...]  # fold, seed, how
    trainings: int

    @property
    def sentence(self) -> str:
        """The warning about this class."""
        axis, value = self.strength.axis, self.strength.value
        at = f"with no {kind_of(axis)}" if self.strength.is_none else f"at {axis_names(axis)[1]} = {value:g}"
        seeds = len({seed for _, seed, _ in self.deaths}) > 1
        which = ", ".join(
            f"fold {fold + 1}{f' seed {seed}' if seeds else ''} from epoch {death.epoch} on"
            for fold, seed, death in self.deaths
        )
        best = max(death.best for _, _, death in self.deaths)
        return (
            f"{self.name} died {at} in {len(self.deaths)} of {self.trainings} trials ({which}): its validation score "
            f"had reached {best:.3f} and fell to 0."
        )


def tolls(records: Sequence[TrialRecord]) -> tuple[Toll, ...]:
    """The strengths and the classes that died at them, in the order of the records."""
    found = []
    for value in dict.fromkeys(record.strength.value for record in records):
        own = [record for record in records if record.strength.value == value and record.validation is not None]
        deaths = [(record.fold, record.seed, death) for record in own for death in deaths_of(record)]
        for name in dict.fromkeys(death.name for _, _, death in deaths):
            mine = tuple(sorted((one for one in deaths if one[2].name == name), key=lambda one: one[:2]))
            found.append(Toll(own[0].strength, name, mine, len(own)))
    return tuple(found)
