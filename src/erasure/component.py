"""Components: frozen, keyword-only dataclasses whose signature is their schema.

Data sources, splitters, models, unlearners and measures are all components. Making one is cheap (nothing trains, loads or
reads); its fields are its hyper-parameters; the same fields drive validation, ``erasure describe``, the editor schema, the
documentation and the cache address.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

from annotated_types import BaseMetadata, Interval

from erasure.catalogue import address_name
from erasure.errors import Diagnostic, InvalidParameters, nearest, with_article
from erasure.types import Json, PartitionReference, Source

__all__ = [
    "Call",
    "Component",
    "FieldDiagnostic",
    "canonical",
    "check_fields",
    "component_slot",
    "field_types",
    "partition_fields",
]

_C = TypeVar("_C", bound="Component")


@dataclass(frozen=True, kw_only=True)
class Component:
    """Base of everything a configuration can name.

    Class data:
        kind: The slot it fits: ``source``, ``splitter``, ``model``, ``unlearner``, ``measure``, …
        version: Raise it when the same parameters begin to give other numbers, so that older cached results are not reused.
        source: The paper it implements and its deviations.
        wraps: Further parameters that a configuration may give, each of which puts the component inside another one: parameter to
            the other's registered name and its parameter.
    """

    kind: ClassVar[str] = "component"
    version: ClassVar[int] = 1
    source: ClassVar[Source | None] = None
    wraps: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        converted, problems = check_fields(type(self), values)
        if problems:
            raise InvalidParameters([Diagnostic(p.message, path=f"{type(self).__name__}.{p.location}") for p in problems])
        for name, value in converted.items():
            object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Constraints between fields; raise ``InvalidParameters`` if one is broken."""

    def replace(self: _C, **changes: Any) -> _C:
        """The same component with other parameters."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)


@dataclass(frozen=True, kw_only=True)
class Call(Component):
    """A class or function of another library with its keyword arguments, such as ``torch.optim.Adam`` with ``lr=0.001``.

    Subclasses say where short names are looked up (``namespaces``) and what the target must be (``expects``, ``module:Class``;
    empty for any function).
    """

    namespaces: ClassVar[tuple[str, ...]] = ()
    expects: ClassVar[str] = ""

    path: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls: type[_CallT], name: str, **parameters: Any) -> _CallT:
        """Short way to write one from Python: ``Optimizer.of("Adam", lr=1e-3)``."""
        path = name if "." in name or not cls.namespaces else f"{cls.namespaces[0]}.{name}"
        return cls(path=path, parameters=parameters)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    def target(self) -> Callable[..., Any]:
        """The imported class or function.

        Raises:
            InvalidParameters: If the path cannot be imported.
        """
        return _imported(self.path)

    def __call__(self, *args: Any, **overrides: Any) -> Any:
        """Call the target with the bound parameters; ``overrides`` win."""
        return self.target()(*args, **{**self.parameters, **overrides})


_CallT = TypeVar("_CallT", bound=Call)


@functools.cache
def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        target: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidParameters(f'"{path}" cannot be imported ({error})') from error
    return target


@dataclass(frozen=True)
class FieldDiagnostic:
    """What is wrong with one field: ``location`` is the field's name, with an index or key where it is nested."""

    field: str
    location: str
    message: str
    hint: str = ""


def field_types(cls: type[Component]) -> dict[str, Any]:
    """Annotated type of each field of a component, resolved."""
    return dict(_field_types(cls))  # type: ignore[arg-type] # mypy takes the class for an instance


@functools.cache
def _field_types(cls: Any) -> Mapping[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def _walk(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _walk(argument)


def component_slot(annotation: Any) -> type[Component] | None:
    """The component class that a field's annotation asks for, or None if the field holds plain data."""
    for part in _walk(annotation):
        if isinstance(part, type) and issubclass(part, Component):
            return part
    return None


def partition_fields(cls: type[Component]) -> tuple[str, ...]:
    """Names of the fields that refer to partitions."""
    return tuple(
        name
        for name, annotation in field_types(cls).items()
        if any(isinstance(part, PartitionReference) for part in _walk(annotation))
    )


@functools.cache
def _adapter(cls: Any, name: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    annotation = field_types(cls)[name]
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return TypeAdapter(annotation)
    return TypeAdapter(annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value


def _accepts(annotation: Any, wanted: type) -> bool:
    return any(part is wanted for part in _walk(annotation))


def check_fields(cls: type[Component], values: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldDiagnostic]]:
    """Check values against the fields of a component.

    Lists become tuples, ``"true"``/``"false"`` become booleans where the field is one, whole numbers become floats where the
    field is one; nothing else is converted.

    Args:
        cls: The component class.
        values: Field name to value; may leave out fields that have defaults.

    Returns:
        The converted values, and every problem found: unknown names, missing fields, wrong types, values out of range.
    """
    from pydantic import ValidationError

    types = field_types(cls)
    problems = [
        FieldDiagnostic(name, name, f"unknown parameter of {cls.__name__}; it has {_listed(types)}", nearest(name, types))
        for name in values
        if name not in types
    ]
    required = {
        f.name
        for f in dataclasses.fields(cls)
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(values))
    problems += [FieldDiagnostic(name, name, f'the required parameter "{name}" of {cls.__name__} is missing') for name in missing]
    converted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            continue
        value = _frozen(value)
        if isinstance(value, str) and value.lower() in {"true", "false"} and _accepts(types[name], bool):
            value = value.lower() == "true"
        try:
            converted[name] = _adapter(cls, name).validate_python(value)  # type: ignore[arg-type] # the same
        except ValidationError as error:
            problems += _field_problems(cls, name, value, error)
            continue
        if isinstance(converted[name], float) and math.isnan(converted[name]):
            problems.append(FieldDiagnostic(name, name, "expected a number, found NaN"))
    return converted, problems


def _field_problems(cls: type[Component], name: str, value: Any, error: Any) -> list[FieldDiagnostic]:
    slot = component_slot(field_types(cls)[name])
    if slot is not None and not isinstance(value, tuple):
        return [FieldDiagnostic(name, name, f"expected {with_article(slot.kind)}, found {_found(value)}")]
    seen: dict[str, FieldDiagnostic] = {}
    details = error.errors(include_url=False, include_context=False)
    for detail in details:
        if detail["type"] == "too_short" and any(len(other["loc"]) > len(detail["loc"]) for other in details):
            continue  # what is wrong with an item is said; the library counts only those that are right
        inner = "".join(f"[{part}]" for part in detail["loc"] if isinstance(part, int))
        bounds = _bounds(field_types(cls)[name]) if detail["type"].startswith(("greater_than", "less_than")) else ""
        message, found = bounds or _expected(detail["msg"]), detail["input"]
        text = f"{message}, found {_found(found)}"
        location = f"{name}{inner}"
        if location in seen:
            text = f"{seen[location].message.rpartition(', found ')[0]}, or {text.removeprefix('expected ')}"
        choices = re.findall(r'"([^"]*)"', message)
        hint = nearest(found, choices) if isinstance(found, str) else _as_share(message, found)
        seen[location] = FieldDiagnostic(name, location, text, hint)
    return list(seen.values())


def _as_share(message: str, found: Any) -> str:
    """What to write for a percentage where a share up to 1 is expected; empty where it is something else."""
    is_percentage = message.endswith("less than or equal to 1") and isinstance(found, int | float) and 1 < found < 100
    return f"{found:g} % is written {found / 100:g}" if is_percentage else ""


_BOUNDS = {"gt": "greater than", "ge": "greater than or equal to", "lt": "less than", "le": "less than or equal to"}


def _bounds(annotation: Any) -> str:
    """The whole range that a number must be in, where the annotation has just one."""
    found = [
        f"{words} {getattr(part, side):g}" for part in _walk(annotation) for side, words in _BOUNDS.items() if _has(part, side)
    ]
    return f"expected {' and '.join(found)}" if len(found) in {1, 2} else ""


def _has(part: Any, side: str) -> bool:
    return isinstance(part, BaseMetadata | Interval) and isinstance(getattr(part, side, None), int | float)


def _expected(message: str) -> str:
    """The sentence of pydantic in the words of our other messages."""
    message = message.replace("Input should be", "expected").replace("a valid ", "a ").replace("a integer", "an integer")
    message = message.replace("a tuple", "a list")
    message = re.sub(r"^(?:Tuple|List|Value) should have (.*?) after validation, not (\d+)$", r"expected \1, not \2", message)
    return message.replace("'", '"')


def _found(value: Any) -> str:
    """A value as the configuration would write it, cut to a readable length."""
    if isinstance(value, Component):
        return type(value).__name__
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "no parameters"


def canonical(value: Any) -> Json:
    """The one JSON form of a component or a parameter: defaults filled in, aliases resolved, keys sorted.

    Two spellings of the same experiment have the same canonical form, and therefore the same cache address. A component goes by its
    registered name (``unlearner:SCRUB``), which a move of its code does not change. Fields with
    ``metadata={"address": False}`` (labels, notes) are left out, those with ``{"address": "changed"}`` where they have their default:
    a field that came later leaves the addresses of those who do not use it as they were.

    Raises:
        TypeError: If a value has no JSON form.
    """
    if isinstance(value, Call):
        return {"call": value.path, "parameters": _call_parameters(value)}
    if isinstance(value, Component):
        cls: Any = type(value)
        parameters = {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value) if _is_addressed(f, value)}
        return {"class": address_name(cls.kind, cls), "version": cls.version, "parameters": dict(sorted(parameters.items()))}
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(canonical(item) for item in value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    raise TypeError(f"{type(value).__name__} has no canonical form: {value!r}")


def _is_addressed(field: dataclasses.Field[Any], value: Component) -> bool:
    rule = field.metadata.get("address", True)
    return bool(getattr(value, field.name) != field.default if rule == "changed" else rule)


def _call_parameters(call: Call) -> Json:
    given = {name: canonical(value) for name, value in call.parameters.items()}
    try:
        signature = inspect.signature(call.target())
    except (TypeError, ValueError):
        return dict(sorted(given.items()))
    for name, parameter in signature.parameters.items():
        if name in given or parameter.default is inspect.Parameter.empty:
            continue
        try:
            given[name] = canonical(parameter.default)
        except TypeError:
            continue
    return dict(sorted(given.items()))
