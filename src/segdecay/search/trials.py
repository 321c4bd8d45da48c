"""The trials of a search or a comparison: which are finished, which are missing, and why one failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from segdecay.config.schema import RunConfig
from segdecay.data.dataset import Dataset
from segdecay.data.splits.folds import FoldPlan
from segdecay.data.transforms.user import UserTransform
from segdecay.execution import Event
from segdecay.metrics.bootstrap import Counts, known_groups
from segdecay.metrics.criteria import Criterion, build_criterion
from segdecay.runs.records import TrialRecord
from segdecay.runs.verdict import Cost
from segdecay.search.ledger import Ledger
from segdecay.training.setup import TrialTask


@dataclass
class TrialStore:
    """All trials over the same folds and seeds."""

    config: RunConfig
    dataset: Dataset
    folds: FoldPlan
    ledger: Ledger
    _: KW_ONLY
    checkpoint_every_s: float = 5.0
    transform: UserTransform | None = None  # a callable of the user's, given in Python
    failures: dict[Path, str] = field(default_factory=dict)  # of this session, by the trial's folder

    def note(self, event: Event) -> None:
        """Record a failed trial."""
        if event.kind == "failed":
            self.failures[event.task.folder] = event.reason or "failed"

    @property
    def criterion(self) -> Criterion:
        """The criterion that scores every setting."""
        dataset = self.dataset
        return build_criterion(self.config.search, dataset.classes, dataset.task, dataset.exclude_from_mean)

    @property
    def groups(self) -> list[list[str]] | None:
        """The group of every validation image, fold by fold, in the order of the matrices; None: no groups."""
        return known_groups([[self.dataset.items[i].group for i in fold.validation] for fold in self.folds.folds])

    def missing(self, tasks: Sequence[TrialTask]) -> list[TrialTask]:
        """The trials that are not finished, fold by fold, so that an unfinished search can compare whole folds."""
        order = sorted(range(len(tasks)), key=lambda i: (tasks[i].seed, tasks[i].fold, i))
        return [tasks[i] for i in order if self.ledger.record(tasks[i].folder) is None]

    def records(self, tasks: Sequence[TrialTask]) -> list[TrialRecord]:
        """The records of the trials that are finished."""
        found = [self.ledger.record(task.folder) for task in tasks]
        return [record for record in found if record is not None]

    def reason_dropped(self, tasks: Sequence[TrialTask]) -> str | None:
        """The reason why a setting with these trials cannot be scored; None if it can."""
        for task in tasks:
            if self.ledger.record(task.folder) is None:
                return f"failed in fold {task.fold + 1}: {self.failures.get(task.folder, 'unfinished')}"
        records = self.records(tasks)
        lost = [record for record in records if record.status != "finished"]
        if not lost:
            return None
        trainings = f"{len(records)} training{'s' if len(records) > 1 else ''}"
        return f"{lost[0].status} in {len(lost)} of {trainings}: {lost[0].reason}"

    def counts(self, tasks: Sequence[TrialTask]) -> dict[int, list[Counts]]:
        """The counts of finished trials by fold, one entry per seed."""
        found: dict[int, list[Counts]] = {fold: [] for fold in sorted({task.fold for task in tasks})}
        for task in tasks:
            found[task.fold].append(Counts.of(self.ledger.confusions(task.folder)))
        return found


def cost_of(records: Sequence[TrialRecord]) -> Cost:
    """The cost of these trainings."""
    seconds = sum(record.seconds for record in records)
    return Cost(len(records), sum(record.epochs for record in records), round(seconds, 1))
