"""The JSON Schema (draft 2020-12) of configurations, made from the registry and the fields of the components."""

from __future__ import annotations

from typing import get_args

from erasure.catalogue import ALSO_KNOWN_AS
from erasure.component import Call, Component, component_slot, field_types
from erasure.config.docs import parameters_of, prose_of, wrapping_type
from erasure.config.slots import SLOTS
from erasure.errors import ConfigError
from erasure.experiment.configuration import DataSection, EvaluatorSection, Globals, Trace
from erasure.registry.lookup import Registry
from erasure.training.predictor import Predictor
from erasure.types import Json

__all__ = ["configuration_schema"]

_SECTIONS: dict[str, type[Component]] = {
    "data": DataSection,
    "predictor": Predictor,
    "evaluator": EvaluatorSection,
    "globals": Globals,
}
_NOTE = "[cC][oO][mM][mM][eE][nN][tT]"
_COMPOSE = "^compose"
_FREE = {_COMPOSE: {"type": "string"}, _NOTE: True}
"""Keys that may stand anywhere: names of files whose content joins, and notes."""
_COMPOSED = {"not": {"patternProperties": {_COMPOSE: False}}}
"""Holds for an object with a key that composes: what it will contain is in another file."""
_DOTTED = {"pattern": r"\.", "description": "A class by its dotted path, ours or upstream's."}


def configuration_schema() -> Json:
    """The schema.

    Names of this package and of installed plugins are listed with their parameters; dotted paths (upstream's classes, other
    libraries') are allowed wherever a component is, with any parameters. Alternatives are told apart by ``if``, not by ``anyOf``,
    so that an editor marks the wrong parameter and not the whole section.
    """
    definitions: dict[str, Json] = {kind: _slot(kind) for kind in SLOTS}
    definitions |= {"trace": _section(Trace), "call": _call()}
    properties: dict[str, Json] = {name: _section(cls) for name, cls in _SECTIONS.items()}
    properties |= {
        "name": {"type": "string", "description": "Name of the experiment; by default that of its file."},
        "unlearners": {
            "description": "The methods, in order.",
            "if": {"type": "object"},
            "then": _COMPOSED,
            "else": {"type": ["array", "null"], "items": _item("unlearner")},
        },
        "experiment": {"type": "object", "description": "Parameters that are copied into several sections."},
        "$schema": {"type": "string"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ERASURE configuration",
        "type": "object",
        "properties": properties,
        "patternProperties": _FREE,
        "if": {"patternProperties": {_COMPOSE: False}},
        "then": {"required": ["data", "predictor"]},
        "$defs": definitions,
    }


def _section(cls: type[Component]) -> Json:
    """A section with or without ``class`` and ``parameters`` around it."""
    parameters = _parameters(cls)
    inside = {"properties": {"class": {"type": "string"}, "parameters": parameters}, "required": ["parameters"]}
    return {
        "type": "object",
        "description": prose_of(cls),
        "if": {"anyOf": [{"required": ["class"]}, {"required": ["parameters"]}]},
        "then": {"if": {"properties": {"class": _DOTTED}, "required": ["class"]}, "else": inside},
        "else": parameters,
    }


def _slot(kind: str) -> Json:
    """Everything that a place for one kind of component takes."""
    registry, names, rules = Registry(), [], []
    for name in registry.names(kind):
        try:
            cls = registry.resolve(name, SLOTS[kind]()).cls
        except ConfigError:
            continue  # a plugin that cannot be imported here
        spellings = [name, *(other for other, target in ALSO_KNOWN_AS.get(kind, {}).items() if target == name)]
        names += [{"const": spelling, "description": prose_of(cls).partition("\n")[0]} for spelling in spellings]
        then = {"properties": {"parameters": _parameters(cls)}} | ({"required": ["parameters"]} if _required(cls) else {})
        rules.append({"if": {"properties": {"class": {"enum": spellings}}, "required": ["class"]}, "then": then})
    known = {"type": "string", "anyOf": [*names, _DOTTED]}
    node = {
        "type": "object",
        "properties": {
            "class": known,
            "parameters": {"type": ["object", "null"]},
            "label": {"type": "string", "description": "How results call it."},
        },
        "if": _COMPOSED,
        "else": {"required": ["class"], "allOf": rules},
    }
    return {"if": {"type": "object"}, "then": node, "else": known}


def _required(cls: type[Component]) -> list[str]:
    return [p["name"] for p in parameters_of(cls) if p["required"]]


def _parameters(cls: type[Component]) -> Json:
    properties = {}
    for parameter in parameters_of(cls):
        described = {"description": parameter["description"]} if parameter["description"] else {}
        default = {} if parameter["required"] else {"default": parameter["default"]}
        properties[parameter["name"]] = {**_field(cls, parameter["name"]), **described, **default}
    required = {"if": _COMPOSED, "else": {"required": _required(cls)}} if _required(cls) else {}
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": _FREE,
        "additionalProperties": False,
        **required,
    }


def _field(cls: type[Component], name: str) -> Json:
    from pydantic import ConfigDict, TypeAdapter

    annotation = field_types(cls)[name] if name in field_types(cls) else wrapping_type(cls, name)
    slot = component_slot(annotation)
    if slot is None:
        schema: Json = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).json_schema()
        return {"anyOf": [schema, {"enum": ["true", "false", "True", "False"]}]} if schema.get("type") == "boolean" else schema
    one = _item("call" if issubclass(slot, Call) else slot.kind)
    several = one if "tuple" not in str(annotation) else {"if": {"type": "array"}, "then": {"items": one}, "else": one}
    return several if type(None) not in get_args(annotation) else {"if": {"not": {"type": "null"}}, "then": several}


def _item(kind: str) -> Json:
    return {"$ref": f"#/$defs/{kind}"}


def _call() -> Json:
    node = {
        "properties": {"class": {"type": "string"}, "parameters": {"type": ["object", "null"]}},
        "if": _COMPOSED,
        "else": {"required": ["class"]},
    }
    return {
        "description": "A class or function of another library, such as Adam.",
        "type": ["string", "object"],
        "if": {"type": "object"},
        "then": node,
    }
