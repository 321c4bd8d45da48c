"""The progress and the results of a run on a terminal: live bars, or one plain line per trial."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from segdecay.execution import Event
from segdecay.metrics.criteria import Criterion
from segdecay.runs.comparison import ComparedArm, Comparison
from segdecay.runs.records import Scores, StrengthRecord, axis_names, trial_from_json
from segdecay.runs.verdict import SettingSummary, Verdict
from segdecay.search.costs import Estimate, TrialCount, count_trials, seconds_of_trial
from segdecay.search.sentences import none_name, verdict_title
from segdecay.training.dead_classes import death_text, deaths_of, tolls
from segdecay.training.setup import count_batches, count_epochs, strength_of
from segdecay.training.user_api import regularizer_of
from segdecay.utils.console import build_console
from segdecay.utils.files import read_json
from segdecay.workflows.advice import advice_lines


def show(value: float | None, digits: str = ".3f") -> str:
    """A number, or n/a."""
    return "n/a" if value is None else format(value, digits)


def _first_upper(text: str) -> str:
    return text if text.startswith("mIoU") else text[:1].upper() + text[1:]


def strength_cells(strength: StrengthRecord) -> tuple[str, str, str]:
    """Axis value, τ and λ; a dash where τ is infinite or has no meaning."""
    tau = "–" if strength.timescale_epochs is None else f"{strength.timescale_epochs:.3g}"
    return f"{strength.value:g}", tau, show(strength.lambda_, ".4g")


NARROW: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}  # eight columns in 80 characters


def settings_table(verdict: Verdict) -> Table:
    """Every strength with its scores."""
    table = Table(
        title=f"{_first_upper(verdict.criterion_name)} by strength ({verdict.regularizer})",
        title_justify="left",
        **NARROW,
    )
    shown = _strength_columns(verdict)
    titles = (axis_names(verdict.strength.axis)[1], "τ epochs", "λ")
    for name in (
        *(titles[index] for index in shown),
        verdict.criterion_name,
        "± SE",
        "train",
        "gap",
    ):
        table.add_column(name, justify="right")
    table.add_column(f"difference from {none_name(verdict.strength.axis)}", justify="right", no_wrap=True)
    for row in verdict.settings:
        cells = strength_cells(row.strength)
        table.add_row(*(cells[index] for index in shown), *_scores(row), style=_style(row, verdict))
    return table


def _strength_columns(verdict: Verdict) -> list[int]:
    """Which of value, τ and λ have a meaning on this axis."""
    strengths = [row.strength for row in verdict.settings]
    has_tau = any(strength.timescale_epochs is not None for strength in strengths)
    has_lambda = verdict.strength.axis != "lambda" and any(strength.lambda_ is not None for strength in strengths)
    return [0, *([1] if has_tau else []), *([2] if has_lambda else [])]


def _style(row: SettingSummary, verdict: Verdict) -> str:
    if row.dropped:
        return "dim"
    return "bold" if row.strength.value == verdict.strength.value else ""


def _scores(row: SettingSummary) -> tuple[str, ...]:
    if row.dropped:
        return ("left out", "", "", "", "")
    difference = ""
    if row.difference is not None and row.difference.interval is not None:
        low, high = row.difference.interval
        difference = f"{row.difference.mean or 0:+.3f} [{low:+.3f}, {high:+.3f}]"
    return show(row.mean), show(row.standard_error), show(row.train_mean), show(row.gap, "+.3f"), escape(difference)


def settings_left_out(verdict: Verdict) -> list[str]:
    """One line for every strength without a score, with the reason."""
    symbol = axis_names(verdict.strength.axis)[1]
    return [f"left out: {symbol} = {row.strength.value:g}: {row.dropped}" for row in verdict.settings if row.dropped]


def classes_table(verdict: Verdict) -> Table:
    """Every class without decay and at the chosen strength, or at the best one if no decay is chosen."""
    of_images = verdict.task == "classification"
    table = Table(title=f"{'Recall' if of_images else 'IoU'} by class", title_justify="left", **NARROW)
    table.add_column("class", overflow="fold")
    compared = "best" if verdict.strength.is_none else "chosen"
    none = none_name(verdict.strength.axis)
    for name in ("images" if of_images else "pixels", none, compared, "interval of the difference"):
        table.add_column(name, justify="right")
    for row in verdict.classes:
        interval = row.difference_interval
        text = "" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"
        table.add_row(escape(row.name), f"{row.support:,}", show(row.zero), show(row.chosen), escape(text))
    return table


NOTE = (
    "Arms that share a letter cannot be told apart (all pairs, Holm). In every fold an arm is scored at the strength "
    "that the other folds chose. Costs and all pairs are in the report."
)


def arms_table(comparison: Comparison) -> Table:
    """The arms from the best to the worst, in 80 columns; only the column `chosen` wraps."""
    table = Table(
        title=f"{comparison.criterion} by arm; paired differences from no decay, with Holm's intervals and p",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    table.add_column("arm", no_wrap=True)
    for name in ("letters", comparison.criterion, "from no decay", "its interval", "p", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("chosen")
    for arm in comparison.arms:
        table.add_row(arm.name, *_cells(arm, comparison))
    return table


def _cells(arm: ComparedArm, comparison: Comparison) -> tuple[str, ...]:
    pair = next((one for one in comparison.pairs if {one.first, one.second} == {arm.name, "none"}), None)
    sign = -1 if pair is not None and pair.first == "none" else 1
    to_none, low_high, p = ("", "", "")
    if pair is not None:
        to_none, p = signed(sign * pair.difference), f"{pair.p_holm:.2g}"
        if pair.interval is not None:
            low, high = sorted(sign * end for end in pair.interval)
            low_high = f"{signed(low)} {signed(high)}"
    counted = Counter(arm.chosen).most_common() if arm.axis else []
    chosen = ", ".join(f"{value}\u00a0×{n}" for value, n in counted)
    return arm.letters, show(arm.mean), to_none, low_high, p, show(arm.gap, "+.3f"), chosen


def left_out(comparison: Comparison) -> list[str]:
    """One line for every strength that could not be scored, with the reason."""
    return [
        f"left out: {arm.name} {one.shown}: {one.dropped}"
        for arm in comparison.arms
        for one in arm.strengths
        if one.dropped is not None
    ]


def signed(value: float) -> str:
    """A difference in three digits, without a sign if it is 0.

    >>> signed(-0.0), signed(-0.0001), signed(0.0123)
    ('0.000', '-0.000', '+0.012')
    """
    return "0.000" if value == 0 else f"{value:+.3f}"


if TYPE_CHECKING:
    from segdecay.search.study import Study
    from segdecay.training.preflight import Preflight
    from segdecay.workflows.compare import Compared
    from segdecay.workflows.train import Trained
    from segdecay.workflows.tune import Tuned


def show_duration(seconds: float) -> str:
    """A duration in words.

    >>> show_duration(42), show_duration(200), show_duration(9000)
    ('42 s', '3 min 20 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def show_trials(count: TrialCount) -> str:
    """The number of trials of a search, and of its whole grid.

    >>> show_trials(TrialCount(7, 12, 45)), show_trials(TrialCount(8, 8, 27)), show_trials(TrialCount(6, 6, 6))
    ("7 to 12 of the grid's 45", "at most 8 of the grid's 27", '6')
    """
    if count.most == count.whole:
        return f"{count.whole}"
    return (
        f"{count.least} to {count.most} of the grid's {count.whole}"
        if count.least < count.most
        else (f"at most {count.most} of the grid's {count.whole}")
    )


def show_estimate(found: Estimate) -> str:
    """The estimated cost of a search, as text."""
    trials = found.trials
    honest = f", up to {trials.honest} more for the bias-corrected score" if trials.honest else ""
    already = f", {found.finished} of them finished" if found.finished else ""
    least, most = show_duration(found.seconds_least), show_duration(found.seconds_most)
    times = most if least == most else f"{least} to {most}"
    refits = f"up to {found.refits} refit{'s' if found.refits > 1 else ''}"
    whole, kept, cache = (f"{size / 1e6:.0f} MB" for size in (found.disk_bytes, found.kept_bytes, found.cache_bytes))
    lines = (
        f"trials: {show_trials(trials)}{already}{honest}, then {refits}, {found.workers} at a time",
        f"time: {times}, at {found.seconds_a_trial:.1f} s per trial, from a few steps timed on this machine",
        f"disk: up to {whole} in the run's folder, of which {kept} are kept; decoded data in the cache: {cache}",
        "Nothing was trained, and nothing was written to the run's folder.",
    )
    return "\n".join(lines)


HONEST = {
    "bbc-cv": "bias-corrected score of the selected setting (BBC-CV)",
    "nested": "bias-corrected score of the whole procedure (nested cross-validation)",
    "holdout": "score of the selected setting on a held-out fold",
}


def show_honest(honest: Mapping[str, Any]) -> str:
    """The bias-corrected score with its interval.

    >>> show_honest({"method": "holdout", "mean": 0.5, "interval": (0.4, 0.6)})
    'score of the selected setting on a held-out fold: 0.500 (0.400 to 0.600)'
    """
    low, high = honest["interval"]
    return f"{HONEST[honest['method']]}: {honest['mean']:.3f} ({low:.3f} to {high:.3f})"


def _estimate(study: Study, preflight: Preflight | None, left: int, workers: int) -> str:
    """Estimated time and disk of so many trials and a refit; empty without a preflight."""
    if preflight is None:
        return ""
    size, epochs = study.config.training.batch_size, count_epochs(study.config)
    pool = count_batches(len(study.dataset.part("train", "val")), size) * epochs
    seconds = seconds_of_trial(study, preflight.seconds_a_batch) * left / workers + preflight.seconds_a_batch * pool
    disk = (workers * preflight.checkpoint_bytes + 2 * preflight.checkpoint_bytes) / 1e6
    return f": about {show_duration(seconds)}, up to {disk:.0f} MB for weights"


class ConsoleWatcher:
    """Prints to a console; on a terminal, bars and the time left stay at the bottom."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._live = console.is_terminal and not quiet
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}  {task.fields[left]}"),
            console=console,
        )
        self._trials: dict[str, TaskID] = {}
        self._all: TaskID | None = None
        self._total = self._done = 0
        self._epochs_done = 0.0
        self._epochs_of: dict[str, int] = {}
        self._start: float | None = None  # of the first training: reading data says nothing of how long one takes
        self._workers = 1
        self._criterion: Criterion | None = None  # of a search

    def __enter__(self) -> Self:
        if self._live:
            self._bars.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._live:  # stopping bars that never started prints an empty line
            self._bars.stop()

    def say(self, line: str) -> None:
        """One line, unless quiet."""
        if not self._quiet:
            self._console.print(escape(line), highlight=False, soft_wrap=True)

    def plan(self, study: Study, grid: Sequence[float], preflight: Preflight | None, refits: int, workers: int) -> None:
        """Print the plan: trials, refits, and for the built-in loop an estimate of time and disk."""
        self._criterion = study.criterion
        count = count_trials(study, grid)
        n_trials = count.most + count.honest
        finished = sum(study.ledger.record(task.folder) is not None for value in grid for task in study.tasks(value))
        self._total, self._workers = n_trials + refits, workers
        strengths = [strength_of(study.config, value, study.pool_images, size=study.size) for value in grid]
        label = axis_names(strengths[0].axis)[1]
        shown = ", ".join(
            f"{s.value:g}" + ("" if s.lambda_ is None or s.axis == "lambda" else f" (λ {s.lambda_:.3g})")
            for s in strengths
        )
        self.say(
            f"{study.dataset.name}: {study.fold_images} training images per fold, {len(study.folds.folds)} folds by "
            f"{study.folds.method}; {regularizer_of(study.config)}, {label} = {shown}"
        )
        already = f", {finished} of them finished" if finished else ""
        final = f"then up to {refits} refit{'s' if refits > 1 else ''}, " if refits else ""
        honest = f", up to {count.honest} for the bias-corrected score" if count.honest else ""
        self.say(
            f"{show_trials(count)} trials{already}{honest}, {final}"
            f"{workers} at a time{_estimate(study, preflight, n_trials - finished, workers)}; more if the strongest is "
            "best."
        )
        self._done = finished
        if self._live:
            self._all = self._bars.add_task("all", total=self._total, completed=finished, unit="trials", left="")

    def begin(self, criterion: Criterion, trainings: int, finished: int, workers: int) -> None:
        """Count trials from here."""
        self._criterion, self._total, self._done, self._workers = criterion, trainings, finished, workers
        if self._live:
            self._all = self._bars.add_task("all", total=trainings, completed=finished, unit="trials", left="")

    def counter(self, name: str) -> Callable[[int, int], None]:
        """A bar of steps; called with (finished, all)."""
        if not self._live:
            return lambda _done, _steps: None
        bar = self._bars.add_task(escape(name), total=None, unit="steps", left="")
        return lambda done, steps: self._bars.update(bar, completed=done, total=steps)

    def event(self, event: Event) -> None:
        """Move the bars, or print a line for a trial that ended."""
        task, epochs = event.task, count_epochs(event.task.config)
        name = f"{task.setting} {'refit' if task.fold < 0 else f'fold {task.fold + 1}'}"
        if len(task.config.search.seeds) > 1:
            name += f" seed {task.seed}"
        self._start = time.monotonic() if self._start is None else self._start
        if event.kind == "started":
            self._epochs_of.setdefault(name, 0)
            if self._live:
                self._trials[name] = self._bars.add_task(escape(name), total=epochs, unit="epochs", left="")
        elif event.kind == "progress":
            self._epochs_done += 1
            self._epochs_of[name] = event.epoch
            if name in self._trials:
                self._bars.update(self._trials[name], completed=event.epoch)
        elif event.kind == "again":
            if name in self._trials:
                self._bars.remove_task(self._trials.pop(name))
            self.say(f"warning: {name}: {event.reason}")
        else:
            self._done += 1
            if name in self._trials:
                self._bars.remove_task(self._trials.pop(name))
            self.say(f"[{self._done}/{max(self._total, self._done)}] {name}: {self._ending(event)}{self._left(epochs)}")
            self._alarm(event, name)
        if self._all is not None:
            self._bars.update(
                self._all, completed=self._done, total=max(self._total, self._done), left=self._left(epochs).strip(" ·")
            )

    def _alarm(self, event: Event, name: str) -> None:
        """Print one line about the classes that died in a trial."""
        path = event.task.folder / "trial.json"
        died = deaths_of(trial_from_json(read_json(path))) if event.kind == "finished" and path.exists() else ()
        if died:
            self.say(f"warning: {name}: died: {', '.join(death_text(death) for death in died)}")

    def _score(self, scores: Scores, task: str) -> str:
        """A score with its name: by the criterion of the search, or the default one of the task."""
        if self._criterion is not None:
            return f"{self._criterion.name} {self._criterion.of_record(scores):.3f}"
        if task == "classification":
            return f"balanced accuracy {scores.balanced_accuracy:.3f}"
        return f"mIoU {scores.miou:.3f}"

    def _ending(self, event: Event) -> str:
        if event.kind == "failed":
            return f"failed: {event.reason}"
        record = trial_from_json(read_json(event.task.folder / "trial.json"))
        if record.status == "diverged":
            return f"diverged: {record.reason}"
        label = record.extra.get("task", "segmentation")
        train = f"train {self._score(record.train, label)}, " if record.train else ""
        kind = "test" if event.task.fold < 0 and not event.task.scores_on_the_way else "validation"
        scored = f"{kind} {self._score(record.validation, label)}, " if record.validation else ""
        return f"{scored}{train}{show_duration(record.seconds)}"

    def _left(self, epochs: int) -> str:
        """Time left, from the mean time of all epochs so far."""
        if not self._epochs_done or self._done >= self._total or self._start is None:
            return ""
        pace = (time.monotonic() - self._start) / self._epochs_done
        running = sum(done for done in self._epochs_of.values() if done < epochs)
        left = max(0.0, (self._total - self._done) * epochs - running)
        return f" · about {show_duration(left * pace)} left"

    def conclude(self, done: Tuned) -> None:
        """Print the verdict, its tables, test scores and paths."""
        console, verdict = self._console, done.verdict
        none = next((row.strength.value for row in verdict.settings if row.strength.is_none), None)
        title = verdict_title(verdict.kind, verdict.strength.axis, none)
        if not self._quiet:
            console.print(settings_table(verdict))
            for line in settings_left_out(verdict):
                console.print(escape(line), highlight=False, soft_wrap=True)
            console.print(classes_table(verdict))
        console.print(f"\n[bold]{title}[/]: {escape(verdict.sentence)}", highlight=False, soft_wrap=True)
        for caution in verdict.cautions:
            text = f"caution ({caution.figure}): {caution.sentence}"
            console.print(escape(text), highlight=False, soft_wrap=True)
        paths = sorted(done.run.glob("trials/*/*/trial.json"))
        for toll in tolls([trial_from_json(read_json(path)) for path in paths]):
            console.print(f"warning: {escape(toll.sentence)}", highlight=False, soft_wrap=True)
        if verdict.honest is not None and verdict.kind != "undertrained":
            console.print(show_honest(verdict.honest), highlight=False, soft_wrap=True)
        if verdict.test is not None:
            scores = ", ".join(f"{name} {show(found.score)}" for name, found in verdict.test.by_role().items())
            console.print(f"test {verdict.criterion_name} of the refits, scored once: {scores}", highlight=False)
        if verdict.advice:
            console.print(
                "\nwhat to do:\n" + escape("\n".join(advice_lines(verdict.advice))), highlight=False, soft_wrap=True
            )
        if verdict.paste and not self._quiet:
            console.print("\nlines to paste:\n")
            console.print(escape(verdict.paste), highlight=False, soft_wrap=True)
        model = f"model: {done.model}\n" if done.model is not None else ""
        console.print(f"\n{model}report: {done.report}", highlight=False, soft_wrap=True)

    def conclude_comparison(self, done: Compared) -> None:
        """Print the table of arms, its sentence, and the path of the page."""
        if not self._quiet:
            self._console.print(arms_table(done.comparison))
            self._console.print(NOTE, highlight=False, soft_wrap=True)
        for line in left_out(done.comparison):
            self._console.print(escape(line), highlight=False, soft_wrap=True)
        self._console.print(f"\n{escape(done.comparison.sentence)}", highlight=False, soft_wrap=True)
        self._console.print(f"report: {done.report}", highlight=False, soft_wrap=True)

    def conclude_training(self, done: Trained) -> None:
        """Print scores and paths of a single training."""
        record = done.record
        for name, scores in (("train", record.train), ("validation", record.validation)):
            if scores is not None:
                task = record.extra.get("task", "segmentation")
                worst = min(scores.recall) if task == "classification" and scores.recall else scores.worst
                shown = f"{name} {self._score(scores, task)}, worst class {worst:.3f}"
                self._console.print(shown, highlight=False)
        self._console.print(f"model: {done.model}\nreport: {done.report}", highlight=False, soft_wrap=True)


@contextmanager
def build_watcher(*, quiet: bool, as_json: bool) -> Iterator[ConsoleWatcher]:
    """A watcher on standard output, or on standard error if the output is JSON."""
    console = build_console(err=as_json)
    with ConsoleWatcher(console, quiet=quiet) as watcher:
        yield watcher
