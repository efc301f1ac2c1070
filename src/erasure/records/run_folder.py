"""A run's folder as reports read it: rows, trace, and what the run kept beside them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from erasure.durable import failure
from erasure.errors import StoreError
from erasure.records.collection import uncollected
from erasure.records.evidence import RUN_RECORD_FILE, ModelRecord, RunRecord, read_run_record
from erasure.records.figure_records import RepetitionRecord
from erasure.records.rows import Row, read_rows
from erasure.records.sweep_folder import Setting, merged_evidence, merged_jury, merged_rows, problems, read_settings, suffixes

__all__ = ["ROLE_PARTITIONS", "RUN_RECORD_FILE", "RunFolder", "TracePoint"]

ROLE_PARTITIONS = ("forget", "retain", "test")


@dataclass(frozen=True)
class TracePoint:
    """One value measured during unlearning.

    Args:
        epoch: Epoch of the method; 0 is the original.
        label: The method.
        measure: The measure.
        partition: What it was measured on.
        value: The value, or None.
        gold: Gold's value, or None.
        seed: Seed of the repetition.
    """

    epoch: int
    label: str
    measure: str
    partition: str
    value: float | None
    gold: float | None
    seed: str = ""


@dataclass(frozen=True, eq=False)
class RunFolder:
    """What is in the folder of a run.

    Args:
        rows: The result rows, without those of further golds.
        record: What the run kept beside them; empty if it kept nothing.
        trace: What was measured during unlearning.
        directory: Where it was read from.
        problems: Of a sweep over several problems (forget sets, originals), the name and the part of each; empty for one problem.
        jury: Rows of further golds, beside which methods are judged; empty for runs that kept none.
    """

    rows: Sequence[Row]
    record: RunRecord = field(default_factory=RunRecord)
    trace: Sequence[TracePoint] = ()
    directory: Path | None = None
    problems: Sequence[tuple[str, RunFolder]] = ()
    jury: Sequence[Row] = ()

    @classmethod
    @uncollected()
    def load(cls, directory: Path | str) -> RunFolder:
        """Read a folder; one of an older run, without ``report.json``, gives rows alone, and one of a sweep all its settings.

        Raises:
            StoreError: If there are no rows, or a file cannot be read.
        """
        directory = Path(directory)
        points = read_settings(directory)
        if not points:
            evidence = read_run_record(directory)
            rows, jury = _parted(read_rows(directory))
            return cls(rows, evidence, _trace(directory / "trace.csv"), directory, jury=jury)
        settings = [
            Setting(label, values, rows, read_run_record(folder), jury)
            for folder, label, values in points
            for rows, jury in [_parted(read_rows(folder))]
        ]
        traces = [_trace(folder / "trace.csv") for folder, _, _ in points]
        return cls.of_settings(settings, traces, directory)

    @classmethod
    def of_settings(
        cls, settings: Sequence[Setting], traces: Sequence[Sequence[TracePoint]] = (), directory: Path | None = None
    ) -> RunFolder:
        """Settings of a sweep as one run, with a part for each of several problems.

        Args:
            settings: The settings.
            traces: What was measured during unlearning in each; nothing by default.
            directory: Where they were read from.
        """
        names = suffixes(settings)
        trace: dict[TracePoint, None] = {}
        for points, suffix in zip(traces, names, strict=False):
            trace |= {replace(p, label=p.label + suffix.get(("unlearned", p.label), "")): None for p in points}
        apart = problems(settings)
        parts = [
            (name, cls.of_settings([settings[i] for i in members], [traces[i] for i in members] if traces else (), directory))
            for name, members in (apart if len(apart) > 1 else ())
        ]
        rows, jury = tuple(merged_rows(settings, names)), tuple(merged_jury(settings, names))
        return cls(rows, merged_evidence(settings, names), tuple(trace), directory, parts, jury)

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.record.experiment or next((row.experiment for row in self.rows), "") or "experiment"

    @property
    def retraining(self) -> frozenset[str]:
        """Labels of the methods that retrain; a run that kept no models is told by the registered name that its version had for it."""
        if self.models:
            return frozenset(model.label for model in self.models if model.exact)
        return frozenset(row.label for row in self.rows if row.unlearner == "GoldModel")

    @property
    def groups(self) -> Sequence[RepetitionRecord]:
        """What was kept of each group of models that are compared with one another."""
        return self.record.repetitions

    @property
    def models(self) -> Sequence[ModelRecord]:
        """Every model of every repetition."""
        return self.record.models

    def model(self, label: str) -> ModelRecord | None:
        """The first repetition's model of a label; None if nothing is known about it."""
        return next((model for model in self.models if model.label == label), None)

    def partitions(self, role: str) -> frozenset[str]:
        """Names of the partitions that play a role: ``forget``, ``retain`` or ``test``."""
        names = {{"forget": group.forget, "retain": group.retain, "test": group.heldout}[role] for group in self.groups}
        if role == "forget":  # all of a stream of requests and not the last part alone; of a graph its nodes or edges too
            names |= {name for group in self.groups for name in (*group.requests, *group.also_forgotten)}
        return frozenset(filter(None, names)) or frozenset({role})


def _parted(rows: Sequence[Row]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows that are shown, and those of further golds."""
    jury = tuple([row for row in rows if row.number])
    return (tuple([row for row in rows if not row.number]) if jury else tuple(rows)), jury


def _trace(path: Path) -> Sequence[TracePoint]:
    if not path.exists():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(
                TracePoint(
                    epoch=int(record["epoch"]),
                    label=record["label"],
                    measure=record["measure"],
                    partition=record["partition"],
                    value=_number(record["value"]),
                    gold=_number(record["gold"]),
                    seed=record["seed_train"],
                )
                for record in csv.DictReader(file)
            )
    except OSError as error:
        raise failure("read", path, error, option="RUN") from error
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is not a trace of this version ({error}); run the experiment again.") from error


def _number(text: str) -> float | None:
    return float(text) if text else None
