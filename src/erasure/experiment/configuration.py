"""The sections of a configuration, and how a file becomes an experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from annotated_types import MinLen

from erasure.component import Call, Component, canonical, field_types
from erasure.config import Loaded, Node, Notice, from_python, load
from erasure.config.build import Builder, PartitionUse, SourceLocation
from erasure.data.contract import DataSource, Splitter
from erasure.data.preprocess.contract import Step
from erasure.errors import ConfigError, Diagnostic, Position, nearest
from erasure.experiment.brought_partitions import with_brought_partitions
from erasure.measures.contract import Measure
from erasure.registry.lookup import Registry
from erasure.training.predictor import Predictor
from erasure.types import NonNegativeInt, PositiveFloat, PositiveInt
from erasure.unlearners.contract import Unlearner

__all__ = [
    "DataSection",
    "EvaluatorSection",
    "Experiment",
    "Globals",
    "LabelledUnlearner",
    "Trace",
    "difference",
    "load_experiment",
]

_ROLES = ("train", "test", "forget", "retain")
"""Partitions that components read unless they are told otherwise."""

_OF_FRAGMENTS = ("class", "parameters")
"""What a published file has at its top if it is made to be included; it means nothing in an experiment."""

_KNOWN_SECTIONS = ("data", "predictor", "unlearners", "evaluator", "globals", "sweep", "experiment", "name", "$schema")


@dataclass(frozen=True, kw_only=True)
class DataSection(Component):
    """Where the data comes from and how it is cut.

    Args:
        data_source: The source.
        preprocess: Steps applied to its columns, after those that the source's own ``preprocess`` lists.
        partitions: Splitters, applied in order; ``all`` always exists.
        batch_size: Samples per step, unless a component says otherwise.
        split_seed: Seed of the splits; by default the run's.
        task: How labels are read, where the source cannot know; by default what the source says.
        standardize: Tables are centred and scaled by the mean and standard deviation of this partition; true takes the predictor's
            training set, false leaves them alone. Images and token matrices are never touched.
    """

    kind: ClassVar[str] = "data"

    data_source: DataSource
    preprocess: tuple[Step, ...] = ()
    partitions: tuple[Splitter, ...] = ()
    batch_size: PositiveInt = 64
    split_seed: NonNegativeInt | None = None
    task: Literal["classification", "binary", "multilabel"] | None = None
    standardize: bool | str = True


@dataclass(frozen=True, kw_only=True)
class Trace(Component):
    """Measuring while a method unlearns, after each of its epochs.

    Every epoch's weights are kept in the store. Time spent on keeping them is not the method's.

    Args:
        measures: What is measured after each epoch; the first one's first value decides where ``select`` compares.
        select: Which epoch's model is the result. ``last``: the method's own. ``closest-to-gold``: the one with the smallest gap to gold
            (an oracle: it needs gold). ``highest`` and ``lowest``: by the value itself. Ties go to the earliest epoch; epoch 0, the
            original, never competes.
    """

    kind: ClassVar[str] = "trace"

    measures: Annotated[tuple[Measure, ...], MinLen(1)]
    select: Literal["last", "closest-to-gold", "highest", "lowest"] = "last"


@dataclass(frozen=True, kw_only=True)
class EvaluatorSection(Component):
    """What is measured.

    Args:
        measures: The measures.
        floor_repeats: Further golds of other seeds for each original: the jury beside which methods are judged, and the noise floor. Five
            are the least with which one original may accuse a method (by a t-test), 19 without assumptions; ``erasure plan`` says what
            a design can find. 0 judges nobody.
        shared_golds: Originals of one split share the golds, those that measures ask for, and the gold shown: about half the price, but a
            shift must be about a quarter larger to be found. The first original and its gold are what all are compared with.
        trace: What is measured after each epoch of unlearning; nothing by default.
    """

    kind: ClassVar[str] = "evaluator"

    measures: tuple[Measure, ...] = ()
    floor_repeats: NonNegativeInt = 5
    shared_golds: bool = False
    trace: Trace | None = None


@dataclass(frozen=True, kw_only=True)
class Globals(Component):
    """Options of the whole run.

    Args:
        seed: Root of all random streams.
        cached: Whether results in the store are used again.
        memory_cap_gib: GiB of inputs that may be in memory. The inputs of a larger data set stay in the store's file, and batches are read
            from there while the last ones are learned from. Numbers and addresses are the same with and without it.
    """

    kind: ClassVar[str] = "globals"

    seed: NonNegativeInt = 0
    cached: bool = True
    memory_cap_gib: PositiveFloat | None = field(default=None, metadata={"address": False})


_SECTIONS: dict[str, type[Component]] = {
    "globals": Globals,
    "evaluator": EvaluatorSection,
    "predictor": Predictor,
    "data": DataSection,
}


@dataclass(frozen=True)
class LabelledUnlearner:
    """An unlearner as results name it.

    Args:
        unlearner: The method.
        key: Its registered name.
        label: Unique in the experiment.
    """

    unlearner: Unlearner
    key: str
    label: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Experiment:
    """A validated configuration.

    Args:
        name: Name of the configuration, by default its file's.
        data: Data and partitions.
        predictor: The training recipe.
        unlearners: The methods, in order.
        evaluator: The measures.
        globals: Seed and caching.
        notices: How the configuration was understood, where that is worth saying.
        places: Where each component is written.
    """

    name: str
    data: DataSection
    predictor: Predictor
    unlearners: tuple[LabelledUnlearner, ...]
    evaluator: EvaluatorSection
    globals: Globals
    notices: tuple[Notice, ...] = ()
    places: tuple[tuple[Component, SourceLocation], ...] = field(default=(), repr=False)

    def place_of(self, component: Component | None) -> SourceLocation:
        """Where a component of this experiment is written; an empty place if it is not from the configuration."""
        return next((place for built, place in self.places if built is component), SourceLocation())

    def canonical(self) -> dict[str, Any]:
        """The one JSON form of the experiment."""
        return {
            "data": canonical(self.data),
            "predictor": canonical(self.predictor),
            "unlearners": [canonical(entry.unlearner) for entry in self.unlearners],
            "evaluator": canonical(self.evaluator),
            "globals": canonical(self.globals),
        }


def load_experiment(
    configuration: Path | str | Mapping[str, Any], *, overrides: Sequence[str] = (), trust: Iterable[str] = ()
) -> Experiment:
    """Read, compose and check a configuration.

    Args:
        configuration: Path of a JSONC file, or the configuration as a mapping.
        overrides: ``path=value`` settings, applied after composition.
        trust: Modules whose classes the configuration may name beside the allowed ones.

    Raises:
        ConfigError: With every problem of the configuration.
    """
    if isinstance(configuration, Mapping):
        loaded, name = from_python(configuration, overrides), "experiment"
    else:
        path = Path(configuration)
        loaded, name = load(path, overrides), path.stem
    return _Assembly(loaded, Registry(trust), name).experiment()


class _Assembly:
    """Builds the sections and checks what holds between them."""

    def __init__(self, loaded: Loaded, registry: Registry, name: str) -> None:
        self.root, self.name = loaded.root, name
        self.builder = Builder(registry, propagated=loaded.propagated)
        self.builder.notices += loaded.notices

    def experiment(self) -> Experiment:
        self._refuse_fragments()
        self._check_sections()
        data = self._preprocessed(cast(DataSection | None, self._section("data", DataSection)))
        predictor = cast(Predictor | None, self._section("predictor", Predictor))
        unlearners = self._unlearners()
        evaluator = cast(EvaluatorSection | None, self._section("evaluator", EvaluatorSection))
        settings = cast(Globals | None, self._section("globals", Globals))
        if data is not None:
            data = with_brought_partitions(data, self.builder)
            self._check_partitions(data)
        self.builder.refuse_what_nothing_reads()
        if self.builder.problems:
            raise ConfigError(sorted(self.builder.problems, key=lambda p: (p.position, p.path)))
        assert data is not None and predictor is not None and evaluator is not None and settings is not None  # noqa: S101 - no problems
        return Experiment(
            name=self._name(),
            data=data,
            predictor=predictor,
            unlearners=unlearners,
            evaluator=evaluator,
            globals=settings,
            notices=tuple(self.builder.notices),
            places=tuple(self.builder.places),
        )

    def _refuse_fragments(self) -> None:
        """Say of a file that is made to be included that it is one."""
        held = [element.get("class") for element in (self.root.elements() if self.root.is_list else (self.root,))]
        is_part = bool(held) and None not in held and not any(self.root.get(key) for key in _SECTIONS)
        if self.root.is_object and not is_part:
            return
        message = "a configuration is an object"
        if is_part:
            message = f"this is no experiment but a part of one ({', '.join(str(name.value) for name in held[:2] if name)})"
        hint = f'include it where it belongs: {{"compose_part": "{self.root.position.file}"}}' if is_part else ""
        raise ConfigError([Diagnostic(message, position=self.root.position, hint=hint, kind="structure")])

    def _preprocessed(self, data: DataSection | None) -> DataSection | None:
        """The section with its steps around its source, where a source's own steps are too."""
        if data is None or not data.preprocess:
            return data
        made = self.builder.registry.resolve("Preprocessed", DataSource).cls(data_source=data.data_source, steps=data.preprocess)  # type: ignore[call-arg]
        place = next((place for built, place in self.builder.places if built is data.data_source), SourceLocation())
        self.builder.places.append((made, place))
        return data.replace(data_source=made, preprocess=())

    def _name(self) -> str:
        given = self.root.get("name")
        return str(given.value) if given is not None and isinstance(given.value, str) and given.value.strip() else self.name

    def _check_sections(self) -> None:
        for key, _ in self.root.items():
            if key in _KNOWN_SECTIONS:
                continue
            position = self.root.key_position(key)
            if key in _OF_FRAGMENTS or key.startswith("_"):
                self.builder.notices.append(Notice(f'section "{key}" is ignored', key, position))
                continue
            home = next((name for name, section in _SECTIONS.items() if key in field_types(section)), "")
            others = f"there are {', '.join(_KNOWN_SECTIONS)}; remarks are written behind //"
            hint = f'write it inside "{home}"' if home else nearest(key, _KNOWN_SECTIONS) or others
            self.builder.problems.append(Diagnostic(f'there is no section "{key}"', key, position, hint, "structure"))
        self._note_what_is_left_out()
        for key in ("data", "predictor"):
            if self.root.get(key) is None:
                close = next((k for k, _ in self.root.items() if k not in _KNOWN_SECTIONS and nearest(k, [key])), None)
                hint = f'did you mean "{key}" where it says "{close}"?' if close else ""
                position = self.root.key_position(close) if close else self.root.position
                self.builder.problems.append(Diagnostic(f'the section "{key}" is missing', key, position, hint, "structure"))
        self._note_missing_seed()

    def _note_what_is_left_out(self) -> None:
        """Say that nothing is unlearned or measured, where that was not written down."""
        if self.root.get("unlearners") is None:
            text = "there is no section unlearners: models are trained and measured, and none unlearns ([] says so without this notice)"
            self.builder.notices.append(Notice(text, "unlearners", self.root.position))
        evaluator = self.root.get("evaluator")
        inner = evaluator if evaluator is None or not evaluator.is_object else evaluator.get("parameters") or evaluator
        if inner is None or (inner.is_object and inner.get("measures") is None):
            text = "there are no evaluator.measures: nothing is measured ([] says so without this notice)"
            self.builder.notices.append(Notice(text, "evaluator", self.root.position))

    def _note_missing_seed(self) -> None:
        settings = self.root.get("globals")
        if settings is None or not settings.is_object or settings.get("seed") is None:
            position = settings.position if settings is not None else self.root.position
            self.builder.notices.append(Notice("globals.seed is not set; 0 is used", "globals.seed", position))

    def _section(self, key: str, slot: type[Component]) -> Component | None:
        node = self.root.get(key)
        if node is None:
            return None if key in {"data", "predictor"} else slot()
        return self.builder.build(node, slot, key)

    def _unlearners(self) -> tuple[LabelledUnlearner, ...]:
        node = self.root.get("unlearners")
        if node is None:
            return ()
        if not node.is_list:
            empty = node.value is None and not node.is_object
            hint = "this section is empty; write [] if no method is meant" if empty else "put it in [ ]"
            self.builder.problems.append(
                Diagnostic("expected a list of unlearners", "unlearners", node.position, hint, "structure")
            )
            return ()
        entries: list[tuple[Unlearner, str, str | None]] = []
        for number, element in enumerate(node.elements()):
            path = f"unlearners[{number}]"
            component = self.builder.build(element, Unlearner, path)
            if isinstance(component, Unlearner):
                entries.append((component, self.builder.keys[path], self.builder.labels.get(path)))
        return _with_labels(entries)

    def _check_partitions(self, data: DataSection) -> None:
        names = ["all"]
        defined: dict[int, list[str]] = {}
        for number, splitter in enumerate(data.partitions):
            defined[number] = list(names)
            names += [part for part in splitter.parts if part != "-"]
            self._check_names(splitter)
        for use in self.builder.uses:
            if _splitter_number(use) >= 0 and ".predictor." in use.path:
                continue  # a splitter that trains models of its own says itself what they are trained on
            if use.path.startswith("unlearners") and ".parameters.method." in use.path:
                continue  # a stream of requests gives its method the partitions of each request
            available = defined.get(_splitter_number(use), names)
            if use.name not in available:
                message = f'there is no partition "{use.name}"; there are {", ".join(available)}'
                if use.name in names:
                    message = f'the partition "{use.name}" is made only later; so far there are {", ".join(available)}'
                self.builder.problems.append(
                    Diagnostic(message, use.path, use.position, _partition_hint(use, available), "partition")
                )
        if isinstance(data.standardize, str) and data.standardize not in names:
            position = _position_of(self.root, ("data", "parameters", "standardize"))
            message = f'standardize: there is no partition "{data.standardize}"; there are {", ".join(names)}'
            path = "data.parameters.standardize"
            self.builder.problems.append(Diagnostic(message, path, position, nearest(data.standardize, names), "partition"))

    def _check_names(self, splitter: Splitter) -> None:
        names = [name for name in splitter.parts if name != "-"]
        twice = next((name for name in names if names.count(name) > 1), None)
        message = ""
        if "all" in names:
            message = 'parts_names: "all" always means the whole data set and cannot be defined again'
        elif twice is not None:
            both = "both" if len(splitter.parts) == 2 else "two"
            message = f'parts_names: {both} parts are called "{twice}"; name one of them "-" to throw it away'
        if message:
            place = next((place for built, place in self.builder.places if built is splitter), SourceLocation())
            self.builder.problems.append(Diagnostic(message, place.path, place.position, kind="partition"))


def _partition_hint(use: PartitionUse, available: Sequence[str]) -> str:
    """What to do about a name that no partition has; a role's name is answered by how roles are given, not by another role."""
    if use.name not in _ROLES:
        return nearest(use.name, available)
    others = [name for name in available if name not in (*_ROLES, "all")]
    field_name = use.path.rpartition(".")[2]
    example = others[0] if len(others) == 1 else "NAME"
    return f'call the partition "{use.name}" in parts_names, or say here which one it is: "{field_name}": "{example}"'


def _splitter_number(use: PartitionUse) -> int:
    """Index of the splitter that a use belongs to, or -1."""
    before, found, after = use.path.partition("partitions[")
    return int(after.partition("]")[0]) if found and before.startswith("data") else -1


def _position_of(node: Node, keys: Sequence[str]) -> Position:
    for key in keys:
        inner = node.get(key)
        if inner is None:
            break
        node = inner
    return node.position


def _with_labels(entries: Sequence[tuple[Unlearner, str, str | None]]) -> tuple[LabelledUnlearner, ...]:
    """Give every unlearner a unique label: its own, its registered name, or the name with what sets it apart."""
    counts = Counter(label or key for _, key, label in entries)
    labelled: list[LabelledUnlearner] = []
    taken: Counter[str] = Counter()
    for unlearner, key, given in entries:
        label = given or key
        if counts[label] > 1:
            twins = [other for other, other_key, other_given in entries if (other_given or other_key) == label]
            apart = difference(unlearner, twins) if given is None else ""
            label = f"{label} ({apart})" if apart else label
        taken[label] += 1
        if taken[label] > 1:
            label = f"{label} #{taken[label]}"
        labelled.append(LabelledUnlearner(unlearner, key, label))
    return tuple(labelled)


def difference(component: Component, twins: Sequence[Component]) -> str:
    """The parameters in which a component differs from its namesakes, as ``name=value``; at most three.

    What the parts of its like have is compared where they are made of the same parts; others are told apart by these.
    """
    forms, own = [_given(twin) for twin in twins], _given(component)
    made_of = [name for name in own if _parts(component, name)]
    alike = [form for form in forms if all(form.get(name) == own[name] for name in made_of)]
    names = dict.fromkeys(name for form in (own, *alike) for name in form)
    varying = [name for name in made_of if len(alike) < len(forms)]
    varying += [name for name in names if name in own and any(form.get(name) != own[name] for form in alike)]
    return ", ".join(f"{name}={own[name]}" for name in varying[:3])[:80]


def _parts(component: Component, name: str) -> tuple[Component, ...]:
    """The components in a parameter that holds several."""
    value = getattr(component, name, None)
    return tuple(part for part in value if isinstance(part, Component)) if isinstance(value, tuple) else ()


def _given(component: Component) -> dict[str, str]:
    """Parameters by short name, with those of calls and inner components among them; by the part's name where several have it."""
    given: dict[str, str] = {}
    for name in field_types(type(component)):
        value = getattr(component, name)
        if isinstance(value, Call):
            given |= {name: value.name, **{inner: str(v) for inner, v in value.parameters.items()}}
        elif isinstance(value, Component):
            given |= {name: type(value).__name__, **_given(value)}
        elif parts := _parts(component, name):
            given[name] = "+".join(type(part).__name__ for part in parts)
            of_parts = [(type(part).__name__, _given(part)) for part in parts]
            shared = Counter(inner for _, form in of_parts for inner in form)
            for part, form in of_parts:
                given |= {f"{part}.{inner}" if shared[inner] > 1 or inner == name else inner: form[inner] for inner in form}
        else:
            given[name] = str(value)
    return given
