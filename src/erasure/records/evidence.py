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
from erasure.records.reading import Unreadable, as_json, as_record
from erasure.records.rows import ModelRole
from erasure.types import Json

__all__ = [
    "EVIDENCE_FILE",
    "FORMAT",
    "ClassShare",
    "CommandRecord",
    "ConfigurationFile",
    "ConfigurationRecord",
    "Curve",
    "DatasetRecord",
    "Evidence",
    "FailureRecord",
    "ForgottenRecord",
    "GroupRecord",
    "Histogram",
    "Histograms",
    "LayerChanges",
    "Layers",
    "MeasureRecord",
    "MissingRecord",
    "ModelRecord",
    "PartitionSize",
    "Roc",
    "RocRange",
    "Rocs",
    "SampleSide",
    "SettingRecord",
    "SourceRecord",
    "StoredOutputs",
    "ValueInterval",
    "ValuesByName",
    "ValuesOf",
    "read_evidence",
    "write_evidence",
]

EVIDENCE_FILE = "report.json"
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
        modality: What a sample is: ``image``, ``table``, ``text`` or ``graph``.
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
class Curve:
    """A curve that a measure brought for a figure.

    Args:
        label: The model.
        role: What it is; ``further gold`` for one that tables do not show.
        measure: The measure, as rows call it.
        partition: What was measured.
        seed: Seed of training of the repetition.
        address: Address of the values.
        over: What its interval is over: ``samples`` or ``models``.
        kind: What the curve is, such as ``roc``.
        fpr: Of a ROC curve, the false-positive rates.
        tpr: Of a ROC curve, the true-positive rates.
        n_members: Of a ROC curve, how many samples were to be found.
        more: What else the measure brought, by its own names.
    """

    label: str
    role: str
    measure: str = ""
    partition: str = ""
    seed: int | None = None
    address: str = ""
    over: str = ""
    kind: str = ""
    fpr: tuple[float, ...] = ()
    tpr: tuple[float, ...] = ()
    n_members: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict, metadata={"rest": True})


@dataclass(frozen=True, kw_only=True)
class ValueInterval:
    """The interval that a measure gave to its own value, ``over`` samples or models."""

    label: str
    role: str
    measure: str
    partition: str
    seed: int | None = None
    address: str = ""
    over: str = ""
    value: float | None = None
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PartitionSize:
    """A partition and how many samples it has."""

    name: str
    n: int


@dataclass(frozen=True, kw_only=True)
class ClassShare:
    """How many samples of a class were to be forgotten, of those that were trained on."""

    name: str = field(metadata={"key": "class"})
    forget: int
    training: int


@dataclass(frozen=True, kw_only=True)
class ForgottenRecord:
    """What was to be forgotten, of how much."""

    n: int
    n_training: int
    classes: tuple[ClassShare, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of one model's samples of one partition, ``n`` in all."""

    label: str
    partition: str
    n: int
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Counts between common edges."""

    edges: tuple[float, ...]
    series: tuple[Histogram, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Roc:
    """True-positive rates of an attack on one model, with a band and the area below the curve."""

    label: str
    tpr: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class RocRange:
    """Lowest and highest true-positive rates that retrained models have."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rocs:
    """ROC curves at common false-positive rates."""

    fpr: tuple[float, ...]
    series: tuple[Roc, ...] = ()
    gold: RocRange | None = None


@dataclass(frozen=True, kw_only=True)
class ValuesOf:
    """A value for each name, of one model's samples of one partition; None where it has no samples."""

    label: str
    partition: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class ValuesByName:
    """Accuracies of classes, or of groups of samples; ``n_classes`` may be more than the names that are kept."""

    names: tuple[str, ...]
    rows: tuple[ValuesOf, ...] = ()
    n_classes: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerChanges:
    """How much each layer of one model changed, as a share of its weights."""

    label: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Changes of layers; ``n_layers`` may be more than the names that are kept."""

    names: tuple[str, ...]
    rows: tuple[LayerChanges, ...] = ()
    n_layers: int = 0


@dataclass(frozen=True, kw_only=True)
class SampleSide:
    """Samples that a method forgot least, or most (``side``), with losses of its model, of gold and of the original."""

    label: str
    side: str
    ids: tuple[int, ...] = ()
    loss: tuple[float | None, ...] = ()
    gold: tuple[float | None, ...] = ()
    original: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoredOutputs:
    """Where the store has the outputs of one model on one partition."""

    label: str
    partition: str
    address: str


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """What was kept of the models of the first repetition that are compared with one another.

    Args:
        retain: Partition that methods were to keep.
        forget: Partition that they were to forget; of a stream of requests, that of the last.
        requests: Of a stream of several requests, the partitions of all; empty otherwise.
        training: Partition that the original was trained on.
        heldout: Partition that no model saw; empty if there is none.
        seed: Seed of training.
        problem: In a sweep over several problems, which one.
        partitions: Sizes of the partitions.
        forgotten: What was to be forgotten.
        losses: Losses of samples.
        confidences: Log-odds of the right label.
        rocs: An attack by the loss.
        classes: Accuracy of each class.
        groups: Accuracy of each group of samples.
        layers: Changes of weights.
        samples: The samples that were forgotten least and most.
        outputs: Where the store has the outputs.
    """

    retain: str = ""
    forget: str = ""
    requests: tuple[str, ...] = ()
    training: str = ""
    heldout: str = ""
    seed: int | None = None
    problem: str = ""
    partitions: tuple[PartitionSize, ...] = ()
    forgotten: ForgottenRecord | None = None
    losses: Histograms | None = None
    confidences: Histograms | None = None
    rocs: Rocs | None = None
    classes: ValuesByName | None = None
    groups: ValuesByName | None = None
    layers: Layers | None = None
    samples: tuple[SampleSide, ...] = ()
    outputs: tuple[StoredOutputs, ...] = ()


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
class Evidence:
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
        groups: Figures' numbers of the first repetition.
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
    groups: tuple[GroupRecord, ...] = ()
    failures: tuple[FailureRecord, ...] = ()
    missing: tuple[MissingRecord, ...] = ()
    sweep: tuple[SettingRecord, ...] = ()
    level: float = 0.05

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Evidence:
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


_NOTHING = Evidence()


def write_evidence(evidence: Evidence, directory: Path) -> None:
    """Write ``report.json``.

    Raises:
        StoreError: If it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **evidence.json()}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_atomically(Path(directory) / EVIDENCE_FILE, text.encode("utf-8", "replace"))


def read_evidence(directory: Path) -> Evidence:
    """Read ``report.json``; of a run without it, empty evidence.

    Components get the names that they have today, so that runs of several versions can be compared.

    Raises:
        StoreError: If it cannot be read, or its format is another.
    """
    path = Path(directory) / EVIDENCE_FILE
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
        evidence = Evidence.of(found)
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
