"""Values of measures as the store keeps them, and how they are to be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Measure, Value
from erasure.renamed import today
from erasure.types import Json

__all__ = ["FORMER", "meaning", "value_record"]

FORMER: Mapping[str, str] = {"tells": "indicates", "chance": "chance_level", "evidence": "curve"}
"""Names in values that the version before stored."""


def value_record(measure: Measure, value: Value) -> dict[str, Json]:
    """A value as the store keeps it."""
    try:
        number = float(value.value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequirementNotMet(f"a value of {measure.title} must be a number; it is {value.value!r}") from error
    finite = number == number and abs(number) != float("inf")
    return {
        "name": value.name or measure.title,
        "partition": value.partition,
        "value": number if finite else None,
        "found": None if finite else repr(number),
        "low": value.low,
        "high": value.high,
        "unit": measure.unit if value.unit is None else value.unit,
        "higher_is_better": measure.higher_is_better if value.higher_is_better is None else value.higher_is_better,
        "ideal": measure.ideal if value.ideal is None else value.ideal,
    } | {name: found for name in ("indicates", "chance_level", "curve") if (found := getattr(value, name)) is not None}


def meaning(record: Mapping[str, Any], measure: Measure) -> dict[str, Any]:
    """How a row's value is to be read: what the value itself says, else the measure's class data."""
    record = today(record, FORMER)
    direction = {True: "higher", False: "lower", None: ""}[record["higher_is_better"]]
    indicates = record.get("indicates", measure.indicates)
    if indicates is None and record["ideal"] == "gold":
        indicates = {"higher": "knowledge", "lower": "ignorance"}.get(direction)
    return {
        "unit": record["unit"],
        "direction": direction,
        "ideal": record["ideal"],
        "indicates": indicates or "",
        "statistic": measure.statistic,
        "chance_level": record.get("chance_level", measure.chance_level) if indicates == "attack" else None,
    }
