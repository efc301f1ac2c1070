"""The JSON Schema (draft 2020-12) of configurations, made from the registry and the fields of the components."""

from __future__ import annotations

from erasure.component import Call, Component, component_slot, field_types
from erasure.config.docs import parameters_of, prose_of
from erasure.config.slots import SLOTS
from erasure.errors import ConfigError
from erasure.experiment.configuration import DataSection, EvaluatorSection, Globals, Trace
from erasure.registry.builtins import ALSO_KNOWN_AS
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
_NOTES = {"^compose": {"type": "string"}, "[cC][oO][mM][mM][eE][nN][tT]": True}


def configuration_schema() -> Json:
    """The schema; names of upstream and dotted paths are allowed wherever a component is."""
    definitions: dict[str, Json] = {kind: _slot(kind) for kind in SLOTS}
    definitions |= {"trace": _parameters(Trace), "call": _call()}
    properties: dict[str, Json] = {name: _section(cls) for name, cls in _SECTIONS.items()}
    properties |= {
        "name": {"type": "string", "description": "Name of the experiment; by default that of its file."},
        "unlearners": {"anyOf": [{"type": "array", "items": _item("unlearner")}, {"type": "object"}]},
        "experiment": {"type": "object"},
        "$schema": {"type": "string"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ERASURE configuration",
        "type": "object",
        "properties": properties,
        "patternProperties": _NOTES,
        "$defs": definitions,
    }


def _section(cls: type[Component]) -> Json:
    """A section with or without ``class`` and ``parameters`` around it."""
    return {
        "type": "object",
        "description": prose_of(cls),
        "anyOf": [
            {"properties": {"parameters": _parameters(cls), "class": {"type": "string"}}, "required": ["parameters"]},
            {"not": {"required": ["parameters"]}, **_parameters(cls)},
        ],
    }


def _slot(kind: str) -> Json:
    """Everything that a place for one kind of component takes."""
    registry, options, names = Registry(), [], []
    for name in registry.names(kind):
        try:
            cls = registry.resolve(name, SLOTS[kind]()).cls
        except ConfigError:
            continue
        also = [other for other, target in ALSO_KNOWN_AS.get(kind, {}).items() if target == name]
        names += [name, *also]
        options.append(
            {
                "type": "object",
                "description": prose_of(cls),
                "properties": {
                    "class": {"enum": [name, *also]},
                    "parameters": _parameters(cls),
                    "label": {"type": "string", "description": "How results call it."},
                },
                "required": ["class", *(["parameters"] if _required(cls) else [])],
            }
        )
    foreign = {
        "type": "object",
        "description": "A class by its dotted path.",
        "properties": {"class": {"type": "string", "pattern": r"\."}, "parameters": {"type": ["object", "null"]}},
        "required": ["class"],
    }
    composed = {
        "type": "object",
        "patternProperties": _NOTES,
        "propertyNames": {"pattern": "^compose|[cC]omment"},
        "minProperties": 1,
    }
    return {"anyOf": [{"enum": names}, {"type": "string", "pattern": r"\."}, *options, foreign, composed]}


def _required(cls: type[Component]) -> list[str]:
    return [p["name"] for p in parameters_of(cls) if p["required"]]


def _parameters(cls: type[Component]) -> Json:
    properties = {}
    for parameter in parameters_of(cls):
        schema = _field(cls, parameter["name"])
        described = {"description": parameter["description"]} if parameter["description"] else {}
        properties[parameter["name"]] = {**schema, **described} | (
            {} if parameter["required"] else {"default": parameter["default"]}
        )
    return {
        "type": "object",
        "properties": properties,
        "required": _required(cls),
        "patternProperties": _NOTES,
        "additionalProperties": False,
    }


def _field(cls: type[Component], name: str) -> Json:
    from pydantic import ConfigDict, TypeAdapter

    annotation = field_types(cls)[name]
    slot = component_slot(annotation)
    if slot is None:
        schema: Json = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).json_schema()
        return {"anyOf": [schema, {"enum": ["true", "false", "True", "False"]}]} if schema.get("type") == "boolean" else schema
    one = (
        _item(slot.kind) if slot.kind in SLOTS else {"$ref": "#/$defs/call" if issubclass(slot, Call) else f"#/$defs/{slot.kind}"}
    )
    return {"anyOf": [one, {"type": "null"}, {"type": "array", "items": one}]}


def _item(kind: str) -> Json:
    return {"$ref": f"#/$defs/{kind}"}


def _call() -> Json:
    node = {
        "type": "object",
        "properties": {"class": {"type": "string"}, "parameters": {"type": "object"}},
        "required": ["class"],
    }
    return {"description": "A class or function of another library.", "anyOf": [{"type": "string"}, node]}
