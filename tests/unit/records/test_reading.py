from dataclasses import dataclass, field
from typing import Literal

import pytest

from erasure.records.reading import Unreadable, as_record


@dataclass(frozen=True)
class Inner:
    values: tuple[float | None, ...] = ()
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    parts: tuple[Inner, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "n", "parts": [{}, {"values": [1, None, "x"]}]}, "run.parts[1].values[2] is 'x'; expected a number"),
        ({"name": "n", "parts": [{"kind": "c"}]}, "run.parts[0].kind is 'c'; expected one of a, b"),
        ({"name": "n", "counts": {"k": True}}, "run.counts.k is True; expected a whole number"),
        ({"parts": []}, "run.name is missing"),
        ([], "run is []; expected an object"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(value, message):
    with pytest.raises(Unreadable) as caught:
        as_record(Outer, value, "run")
    assert str(caught.value) == message


def test_a_record_is_read_with_its_parts():
    found = as_record(Outer, {"name": "n", "parts": [{"values": [1, None, 2.5], "kind": "b"}], "counts": {"k": 2}, "other": 1})
    assert found == Outer("n", (Inner((1, None, 2.5), "b"),), {"k": 2})
