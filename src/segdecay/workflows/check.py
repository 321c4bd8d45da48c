"""A check of a data set: every file is read, and the folds are planned; nothing is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segdecay.config.schema import RunConfig, parse_config
from segdecay.data.checks.findings import CheckReport, Finding
from segdecay.data.dataset import Dataset
from segdecay.data.loading import Watch, read_dataset
from segdecay.data.splits.folds import FoldPlan, check_folds, plan_folds
from segdecay.errors import DataError
from segdecay.utils.tables import data_frame, html_list, html_table
from segdecay.workflows.request import Config, build_config, collect_values

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Checked:
    """What `check` returns; a notebook shows findings and classes."""

    dataset: Dataset | None  # None where files have faults
    report: CheckReport  # of the files: classes and images of every part
    findings: tuple[Finding, ...]  # of files and folds, the worst first
    folds: FoldPlan | None  # None where no folds can be made
    is_strict: bool = False

    @property
    def is_wrong(self) -> bool:
        """Whether a training would refuse the data; with strict, warnings too."""
        levels = ("wrong", "warning") if self.is_strict else ("wrong",)
        return self.dataset is None or any(finding.level in levels for finding in self.findings)

    def __repr__(self) -> str:
        counts = Counter(finding.level for finding in self.findings)
        found = ", ".join(f"{level} {counts[level]}" for level in ("wrong", "warning", "note") if counts[level])
        images = ", ".join(f"{part} {n}" for part, n in self.report.images.items())
        return f"Checked({found or 'no findings'}; images: {images}; {len(self.report.classes)} classes)"

    def _repr_html_(self) -> str:
        rows = [
            (row.name, f"{row.pixels:,}", f"{row.share:.2%}", row.images, row.groups) for row in self.report.classes
        ]
        table = html_table(["class", "pixels", "share", "images", "groups"], rows)
        return f"<div>{html_list(f'{one.level}: {one.message}' for one in self.findings)}{table}</div>"

    def classes_dataframe(self) -> pd.DataFrame:
        """One row a class: pixels, share, images, groups, and validation pixels (or images) of every fold."""
        counts = () if self.folds is None else self.folds.table
        return data_frame(
            asdict(row) | {f"fold {fold}": n for fold, n in enumerate(counts[index] if counts else (), 1)}
            for index, row in enumerate(self.report.classes)
        )

    def findings_dataframe(self) -> pd.DataFrame:
        """One row a finding, the worst first."""
        return data_frame(asdict(finding) for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """What `segdecay check --json` prints."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "classes": [asdict(row) for row in self.report.classes],
            "images": self.report.images,
            "fingerprint": None if self.dataset is None else self.dataset.fingerprint,
            "class_by_fold": None if self.folds is None else self.folds.table,
        }


def check_config(
    data: str | None, config: Config, changes: Sequence[str] | Mapping[str, Any] | None, options: Mapping[str, Any]
) -> RunConfig:
    """The configuration of a check; where no name of a network or a loss is given, torch is not imported for it.

    Raises:
        ConfigError: listing all faults.
    """
    if config is None and not changes:
        return parse_config(collect_values(data, None, None, options))
    return build_config(data, config, changes, options)


def check(
    config: RunConfig, *, cache: Path | None = None, cache_limit: int | None = None, watch: Watch | None = None
) -> Checked:
    """Read every file and plan the folds; faults are findings, not errors.

    Args:
        config: data, folds and seed are read.
        cache: folder of decoded data; None takes $SEGDECAY_CACHE, else the user's.
        cache_limit: bytes.
        watch: is told the number of pairs read.

    Raises:
        DataError, ConfigError: DATA does not exist, or its description is not valid.
    """
    dataset, report = read_dataset(config.data, cache=cache, cache_limit=cache_limit, watch=watch)
    findings, plan = list(report.findings), None
    if dataset is not None:
        try:
            plan = plan_folds(dataset, config)
            findings += check_folds(plan, dataset, allow_missing=config.search.allow_missing)
        except DataError as error:
            findings.append(Finding("wrong", "folds", None, str(error)))
    return Checked(dataset, report, tuple(findings), plan, config.search.strict)
