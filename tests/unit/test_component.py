"""Components: the signature is the schema, and the canonical form is the identity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from erasure.component import Call, Component, canonical, check_fields, component_slot, field_types, partition_fields
from erasure.errors import InvalidParameters
from erasure.types import Fraction, Partition, PositiveInt


@dataclass(frozen=True, kw_only=True)
class Part(Component):
    kind: ClassVar[str] = "part"
    size: PositiveInt = 1


@dataclass(frozen=True, kw_only=True)
class Whole(Component):
    required: int
    share: Fraction = 0.5
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    sizes: tuple[PositiveInt, ...] = ()
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    where: Partition = "train"
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = field(default="", metadata={"address": False})


def test_lists_become_tuples_and_strings_become_booleans_where_the_field_is_one():
    whole = Whole(required=1, sizes=[2, 3], flag="True", share=1)
    assert whole.sizes == (2, 3)
    assert whole.flag is True
    assert whole.share == 1.0


@pytest.mark.parametrize(
    ("values", "location", "said"),
    [
        ({"required": "1"}, "required", "integer"),
        ({"required": True}, "required", "integer"),
        ({"required": 1, "share": 1.5}, "share", "less than or equal to 1"),
        ({"required": 1, "share": float("nan")}, "share", "found nan"),
        ({"required": 1, "mode": "c"}, "mode", '"a" or "b"'),
        ({"required": 1, "sizes": [1, 0]}, "sizes[1]", "greater than 0"),
        ({"required": 1, "part": 3}, "part", "expected a part"),
        ({"required": 1, "part": Whole(required=1)}, "part", "expected a part, found Whole"),
        ({"required": 1, "flag": "perhaps"}, "flag", "boolean"),
        ({"required": 1, "where": ""}, "where", "at least 1"),
        ({}, "required", "missing"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_what_was_expected(values, location, said):
    _, problems = check_fields(Whole, values)
    assert [problem.location for problem in problems] == [location]
    assert said in problems[0].message


def test_all_problems_are_reported_at_once_with_the_nearest_name():
    _, problems = check_fields(Whole, {"required": "x", "share": 2.0, "sharee": 1})
    assert {problem.field for problem in problems} == {"required", "share", "sharee"}
    assert 'did you mean "share"?' in [problem.hint for problem in problems]


def test_python_construction_checks_too():
    with pytest.raises(InvalidParameters, match=r"Whole\.share: .*2"):
        Whole(required=1, share=2.0)


def test_the_canonical_form_fills_in_defaults_and_leaves_notes_out():
    assert canonical(Whole(required=1)) == canonical(Whole(required=1, share=0.5, sizes=[], note="other"))
    assert canonical(Whole(required=1)) != canonical(Whole(required=2))
    assert "note" not in canonical(Whole(required=1))["parameters"]


def test_the_canonical_form_of_a_call_fills_in_the_signature():
    assert canonical(Call(path="json.dumps", parameters={"skipkeys": False})) == canonical(Call(path="json.dumps"))
    assert canonical(Call(path="json.dumps", parameters={"skipkeys": True})) != canonical(Call(path="json.dumps"))


def test_a_component_that_raises_its_version_has_another_canonical_form():
    @dataclass(frozen=True, kw_only=True)
    class Part2(Part):
        version: ClassVar[int] = 2

    Part2.__qualname__, Part2.__module__ = Part.__qualname__, Part.__module__
    assert canonical(Part2()) != canonical(Part())


def test_slots_and_partitions_are_read_from_the_annotations():
    types = field_types(Whole)
    assert component_slot(types["part"]) is Part
    assert component_slot(types["parts"]) is Part
    assert component_slot(types["sizes"]) is None
    assert partition_fields(Whole) == ("where",)


def test_a_call_that_cannot_be_imported_says_so():
    with pytest.raises(InvalidParameters, match="cannot be imported"):
        Call(path="torch.optim.Nothing").target()
