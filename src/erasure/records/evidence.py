"""What a run's ``report.json`` holds: the one description of the file, with its writer and its reader.

Figures, verdicts and the local page read these records and never the file. Everything but a name has a default, so that a run that
could not find something out leaves it away, and a file of an earlier version, which did not know it, is read all the same. Fields that
a later version adds are passed over. What a field means changes only with :data:`FORMAT`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure.catalogue import present_name
from erasure.durable import failure, write_atomically
from erasure.errors import StoreError
from erasure.records.figure_records import Curve, RepetitionRecord, ValueInterval
from erasure.records.reading import Unreadable, as_json, as_record
from erasure.records.rows import ModelRole
from erasure.types import Json

__all__ = [
    "FORMAT",
    "RUN_RECORD_FILE",
    "CommandRecord",
    "ConfigurationFile",
    "ConfigurationRecord",
    "DatasetRecord",
    "FailureRecord",
    "MeasureRecord",
    "MissingRecord",
    "ModelRecord",
    "RunRecord",
    "SettingRecord",
    "SourceRecord",
    "read_run_record",
    "write_run_record",
]

RUN_RECORD_FILE = "report.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ConfigurationFile:
    """A configuration as it was written: its path from the working directory, and its text."""

    file: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ConfigurationRecord:
    """What was run: the files as they stood, and the configuration with every default."""

    files: tuple[ConfigurationFile, ...] = ()
    canonical: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CommandRecord:
    """The command that gives the same numbers again; empty text if there is none. ``note`` says what it leaves out."""

    text: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """The data set.

    Args:
        name: Its name.
        source: Class of its source.
        modality: What a sample is: ``image``, ``table``, ``text``, ``graph``, or ``node`` or ``link`` of a graph.
        task: How labels are read.
        n: Number of samples.
        n_classes: Number of classes.
        x_shape: Shape of one sample.
        class_names: The first thousand names of classes.
        address: Its address in the store.
        fingerprint: What identifies its content.
        parameters: Parameters of its source.
    """

    name: str = ""
    source: str = ""
    modality: str = ""
    task: str = ""
    n: int = 0
    n_classes: int = 0
    x_shape: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    address: str = ""
    fingerprint: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """One model of one repetition.

    Args:
        label: How rows call it.
        role: What it is.
        retain: Partition that it was to keep.
        seed: Seed of training of its repetition.
        address: Its address in the store.
        problem: In a sweep over several problems, which one; empty otherwise.
        key: Registered name of the method; empty for the original and gold.
        exact: Whether the method retrains.
        forget: Partition that it was to forget.
        summary: What the method does, in a sentence.
        parameters: Parameters of the method by dotted names; None for the original and gold.
        failed: Why there is no model; empty if there is one.
        elapsed_s: Seconds that each request took.
        precompute_s: Seconds of one-off work.
        peak_memory_mib: Highest memory, in MiB.
        access: What a request of the method needs; empty for the original and gold.
        guarantee: What holds by proof, such as ``exact``; empty if unknown.
        assumptions: Under which it holds, or why there is none.
        kept_bytes: What has to be kept for the method between training and the requests.
        chosen_epoch: Epoch of unlearning that a rule of the trace chose; None without one.
    """

    label: str
    role: ModelRole
    retain: str = ""
    seed: int | None = None
    address: str = ""
    problem: str = ""
    key: str = ""
    exact: bool = False
    forget: str = ""
    summary: str = ""
    parameters: Mapping[str, Any] | None = None
    failed: str = ""
    elapsed_s: float | None = None
    precompute_s: float | None = None
    peak_memory_mib: float | None = None
    access: str = ""
    guarantee: str = ""
    assumptions: tuple[str, ...] = ()
    kept_bytes: int | None = None
    chosen_epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class MeasureRecord:
    """What a column of the tables means."""

    component: str = ""
    summary: str = ""
    answers: str = ""
    ideal: str | float | None = None
    higher_is_better: bool | None = None


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """Where a component comes from, and where it departs from there."""

    kind: str = ""
    name: str = ""
    summary: str = ""
    paper: str = ""
    code: str = ""
    deviations: tuple[str, ...] = ()
    bibtex: str = ""


@dataclass(frozen=True, kw_only=True)
class FailureRecord:
    """A stage that failed, and why."""

    stage: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class MissingRecord:
    """Something that the run could not keep, and why."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SettingRecord:
    """One setting of a sweep: its label, and configuration path to value."""

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run keeps beside its rows.

    Args:
        created_at: When the run ended; empty if nothing was kept.
        experiment: Name of the experiment.
        configuration: What was run.
        command: How to run it again.
        versions: Version of each library.
        machine: Where it ran, and how numbers were computed.
        dataset: The data.
        seeds: Axis to seed, of each repetition.
        models: Every model of every repetition.
        measures: What each column of the tables means.
        sources: Papers of methods and measures.
        curves: Curves that measures brought.
        gold_curves: The same on further golds.
        intervals: Intervals that measures gave to their own values.
        repetitions: Figures' numbers of the first repetition.
        failures: Stages that failed.
        missing: What could not be kept.
        sweep: Settings of the sweep that this is put together from; empty for a single run.
        level: Share of reports of retrained methods that may accuse any; less where the folder is looked at several times.
    """

    created_at: str = ""
    experiment: str = ""
    configuration: ConfigurationRecord | None = None
    command: CommandRecord = field(default_factory=CommandRecord)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    dataset: DatasetRecord | None = None
    seeds: tuple[Mapping[str, int], ...] = ()
    models: tuple[ModelRecord, ...] = ()
    measures: Mapping[str, MeasureRecord] = field(default_factory=dict)
    sources: tuple[SourceRecord, ...] = ()
    curves: tuple[Curve, ...] = ()
    gold_curves: tuple[Curve, ...] = ()
    intervals: tuple[ValueInterval, ...] = ()
    repetitions: tuple[RepetitionRecord, ...] = field(default=(), metadata={"key": "groups"})
    failures: tuple[FailureRecord, ...] = ()
    missing: tuple[MissingRecord, ...] = ()
    sweep: tuple[SettingRecord, ...] = ()
    level: float = 0.05

    @property
    def is_of_given_models(self) -> bool:
        """Whether it is the record of an audit, whose models somebody gave, and not of a run of a configuration."""
        return bool(self.created_at) and self.configuration is None and not self.sweep

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunRecord:
        """The evidence that JSON was made from.

        Raises:
            Unreadable: If a field has another type; names it.
        """
        return as_record(cls, record)

    def json(self) -> dict[str, Json]:
        """As JSON. What is not known is left out; numbers that are not finite become null."""
        return dict(as_json(self))

    @property
    def is_empty(self) -> bool:
        """Whether the run kept nothing beside its rows, as very old ones do."""
        return self == _NOTHING

    @property
    def canonical(self) -> Mapping[str, Any]:
        """The configuration with every default; empty if it is not known."""
        return self.configuration.canonical if self.configuration is not None else {}


_NOTHING = RunRecord()


def write_run_record(evidence: RunRecord, directory: Path) -> None:
    """Write ``report.json``.

    Raises:
        StoreError: If it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **evidence.json()}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_atomically(Path(directory) / RUN_RECORD_FILE, text.encode("utf-8", "replace"))


def read_run_record(directory: Path) -> RunRecord:
    """Read ``report.json``; of a run without it, empty evidence.

    Components get the names that they have today, so that runs of several versions can be compared.

    Raises:
        StoreError: If it cannot be read, or its format is another.
    """
    path = Path(directory) / RUN_RECORD_FILE
    if not path.exists():
        return _NOTHING
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise failure("read", path, error, option="RUN") from error
    except ValueError as error:
        raise StoreError(f"{path} is not JSON ({error}); run the experiment again.") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise StoreError(f"{path} is not of format {FORMAT}; run the experiment again with this version.")
    try:
        evidence = RunRecord.of(found)
    except Unreadable as error:
        raise StoreError(f"{path} is not as this version writes it ({error}); run the experiment again.") from error
    if evidence.configuration is None:
        return evidence
    configuration = dataclasses.replace(evidence.configuration, canonical=_renamed(evidence.configuration.canonical))
    return dataclasses.replace(evidence, configuration=configuration)


def _renamed(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {
            key: present_name(value) if key == "class" and isinstance(value, str) else _renamed(value)
            for key, value in node.items()
        }
    return [_renamed(each) for each in node] if isinstance(node, list) else node
