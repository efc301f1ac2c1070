"""What a component's docstring and fields say, as data: for ``erasure describe``, the editor schema and the documentation."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from erasure.catalogue import plural
from erasure.component import Component, canonical, component_slot, field_types
from erasure.config.slots import SLOTS
from erasure.registry.lookup import Registry

__all__ = ["parameters_of", "prose_of", "wrapping_type"]

_SECTION = re.compile(r"^(Args|Returns|Raises|Example|Source|Attributes|Class data):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.MULTILINE | re.DOTALL)


def prose_of(cls: type[Component]) -> str:
    """The docstring up to its first section."""
    text = inspect.getdoc(cls) or ""
    found = _SECTION.search(text)
    return (text[: found.start()] if found else text).strip()


def parameters_of(cls: type[Component]) -> list[dict[str, Any]]:
    """Name, type, default and description of each parameter, in the order of definition.

    Descriptions come from the ``Args`` sections of the class and of those it inherits from.
    """
    described: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Component):
            described |= _arguments(base.__dict__.get("__doc__") or "")
    types = field_types(cls)
    parameters = []
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = None
        if not required:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        parameters.append(
            {
                "name": field.name,
                "type": type_name(types[field.name]),
                "required": required,
                "default": _shown(default),
                "description": described.get(field.name, ""),
            }
        )
    return [*parameters, *_wrapping(cls, types)]


def _wrapping(cls: type[Component], types: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Parameters that put the component inside another one."""
    for name, (wrapper, parameter) in cls.wraps.items():
        if name not in types:
            annotation = wrapping_type(cls, name)
            text = f"Each is applied to what the one before it gives; ``{wrapper}`` with its ``{parameter}`` says the same."
            yield {"name": name, "type": type_name(annotation), "required": False, "default": [], "description": text}


def wrapping_type(cls: type[Component], name: str) -> Any:
    """The type of a parameter that puts the component inside another one."""
    wrapper, parameter = cls.wraps[name]
    slot = SLOTS[cls.kind]()
    return field_types(Registry().resolve(wrapper, slot).cls)[parameter]


def _arguments(docstring: str) -> dict[str, str]:
    text = inspect.cleandoc(docstring)
    sections = _SECTION.split(text)
    for title, body in zip(sections[1::2], sections[2::2], strict=False):
        if title == "Args":
            return {name: " ".join(description.split()) for name, description in _ARGUMENT.findall(body.strip("\n") + "\n")}
    return {}


def _shown(value: Any) -> Any:
    form = canonical(value)
    if isinstance(form, dict) and "call" in form:
        parameters = dict(value.parameters)
        return {"class": value.name, "parameters": parameters} if parameters else value.name
    return form


def type_name(annotation: Any) -> str:
    """A type as people would say it: ``number > 0``, ``list of whole number``, ``one of "a", "b"``."""
    from pydantic import ConfigDict, TypeAdapter

    slot = component_slot(annotation)
    if slot is not None:
        return f"list of {plural(slot.kind)}" if "tuple" in str(annotation) else slot.kind
    schema = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).json_schema()
    return _schema_name(schema)


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


def _schema_name(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_schema_name(option) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(f'"{value}"' for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "value")
    if kind == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_schema_name(items)}"
    if kind == "object":
        return "object"
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    name = _NAMES.get(kind, kind) if isinstance(kind, str) else " or ".join(_NAMES.get(k, k) for k in kind)
    return f"{name} {bounds}".strip()
