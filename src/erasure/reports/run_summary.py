"""What a list of runs says of one run, and ``summary.json``, in which a run keeps it so that nobody has to judge it again."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy
import scipy

from erasure.analysis.overview import Overview
from erasure.durable import write_atomically
from erasure.records.reading import as_record
from erasure.records.run_folder import RUN_RECORD_FILE, RunFolder
from erasure.reports.figures.theme import VERDICT_MARKS

__all__ = [
    "JUDGING",
    "READ_FILES",
    "SUMMARY_FILE",
    "RunSummary",
    "ShownVerdict",
    "State",
    "judging_code",
    "read_summary",
    "summary_of",
    "write_summary",
]

State: TypeAlias = Literal["finished", "with failures", "unfinished", "damaged"]

SUMMARY_FILE = "summary.json"
READ_FILES = ("rows.parquet", RUN_RECORD_FILE, "trace.csv")
"""Files of a run that its summary is made from."""
JUDGING = (
    *("analysis/*.py", "records/*.py", "reports/run_summary.py", "reports/figures/theme.py"),
    *("catalogue.py", "durable.py", "errors.py", "intervals.py", "renamed.py", "types.py"),
)
"""Files of our package that a summary comes from, as patterns."""
_COLOURS = frozenset({"", *(colour for colour, _ in VERDICT_MARKS.values())})


@dataclass(frozen=True)
class ShownVerdict:
    """The verdict on one method of a run.

    Args:
        label: The method.
        title: The verdict in words.
        colour: Name of its colour.
    """

    label: str
    title: str
    colour: str


@dataclass(frozen=True)
class RunSummary:
    """One run as the list shows it.

    Args:
        name: Its path from the folder; ``.`` is the folder itself.
        state: How it ended.
        reason: Why it is not finished, or what failed.
        experiment: Name of the experiment.
        data: Name of the data set.
        date: When it was made, ISO 8601 in UTC.
        headline: What was forgotten and from what.
        methods: Names of the methods, each once, however many settings it was tried at.
        verdicts: Verdict on each setting, best first; retraining itself is left out.
        n_seeds: Repetitions.
        has_outputs: Whether it says where its models' outputs are, which looking at two models side by side needs.
        title: What people call it.
        note: What a reader of its verdicts must know.
    """

    name: str
    state: State
    reason: str = ""
    experiment: str = ""
    data: str = ""
    date: str = ""
    headline: str = ""
    methods: tuple[str, ...] = ()
    verdicts: tuple[ShownVerdict, ...] = ()
    n_seeds: int = 0
    has_outputs: bool = False
    title: str = ""
    note: str = ""

    def record(self) -> dict[str, Any]:
        """The run as JSON."""
        return asdict(self)


def summary_of(overview: Overview, name: str = "", date: str = "") -> RunSummary:
    """A run that was judged, as the list shows it.

    Args:
        overview: The run, judged.
        name: What it is called.
        date: When its files were written, where it does not say when it was made.
    """
    folder = overview.folder
    failures = folder.record.failures
    n_failed = len(failures) or sum(row.status in {"failed", "non-finite"} for row in folder.rows)
    labels = [verdict.label for verdict in overview.verdicts]
    keys = {model.label: model.key for model in folder.models if model.key}
    keys |= {row.label: row.unlearner for row in folder.rows if row.unlearner and row.label not in keys}
    reason = f"{failures[0].stage}: {failures[0].reason}" if failures else "some values could not be measured"
    return RunSummary(
        name=name,
        state="with failures" if n_failed else "finished",
        reason=reason if n_failed else "",
        experiment=folder.name,
        data=_data(folder),
        date=folder.record.created_at or date,
        headline=overview.headline,
        methods=tuple(dict.fromkeys(keys.get(label, label) for label in sorted(labels))),
        verdicts=tuple(
            ShownVerdict(j.label, j.title, VERDICT_MARKS[j.finding][0])
            for j in overview.verdicts
            if not j.is_exact or len(labels) == 1
        ),
        n_seeds=max((verdict.n for verdict in overview.verdicts), default=0),
        has_outputs=any(group.outputs for group in folder.groups),
        note="its values show nothing that could be forgotten" if overview.judged.report.has_nothing_to_forget else "",
    )


def _data(folder: RunFolder) -> str:
    described = folder.record.dataset
    return (described.name if described is not None else "") or next((row.dataset for row in folder.rows), "")


def write_summary(overview: Overview, directory: Path) -> None:
    """Write ``summary.json``, after the files that it sums up: it holds for these bytes and for the code that judged them.

    Raises:
        StoreError: If it cannot be written.
    """
    stamps = _stamps(directory)
    record = {"code": judging_code(), "files": _digests(directory), "stamps": stamps, "run": summary_of(overview).record()}
    write_atomically(directory / SUMMARY_FILE, f"{json.dumps(record, ensure_ascii=True, indent=1)}\n".encode())


def read_summary(directory: Path) -> RunSummary | None:
    """What :func:`write_summary` wrote, without a name; None if there is none, or it was made from other files or by other code."""
    try:
        kept = json.loads((directory / SUMMARY_FILE).read_bytes())
        if kept["code"] != judging_code():
            return None
        stamps = _stamps(directory)  # of copies, which have other times, all bytes are read
        if not (kept.get("stamps") == stamps and kept["files"].keys() == stamps.keys()) and kept["files"] != _digests(directory):
            return None
        found = as_record(RunSummary, kept["run"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found if found.date and all(each.colour in _COLOURS for each in found.verdicts) else None


def _stamps(directory: Path) -> dict[str, list[int]]:
    """Time of change and size of the files."""
    files = [directory / name for name in READ_FILES]
    found = {file.name: file.stat() for file in files if file.exists()}
    return {name: [facts.st_mtime_ns, facts.st_size] for name, facts in found.items()}


def _digests(directory: Path) -> dict[str, str]:
    files = [directory / name for name in READ_FILES]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.exists()}


@functools.cache
def judging_code() -> str:
    """Changes with our code that judges, wherever it is installed, and with the libraries that it judges with."""
    package = Path(__file__).parents[1]
    files = sorted(file for place in JUDGING for file in package.glob(place))
    code = [(file.relative_to(package).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return hashlib.sha256(repr((code, sys.version, numpy.__version__, scipy.__version__)).encode()).hexdigest()
