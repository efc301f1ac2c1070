import enum
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.config import MAX_DEPTH, Loaded, Node, Notice, child_path, parse
from erasure.errors import ConfigError, Position

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_a_python_value_comes_back_from_its_tree(value):
    assert Node.of(value).plain() == value


def test_plain_values_are_fresh():
    node = Node.of({"a": [1]})
    node.plain()["a"].append(2)
    assert node.plain() == {"a": [1]}


def test_tuples_and_numpy_scalars_become_json_values():
    plain = Node.of({"ids": (np.int64(3), np.float32(0.5)), "on": True}).plain()
    assert plain == {"ids": [3, 0.5], "on": True}
    assert [type(v) for v in plain["ids"]] == [int, float]
    assert plain["on"] is True


def test_all_parts_without_a_json_form_are_reported():
    with pytest.raises(ConfigError) as caught:
        Node.of({"a": math.nan, "b": [1, {2, 3}], 4: 5, "c": {"d": object}})
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert set(found) == {"a", "b[1]", "", "c.d"}
    assert "set" in found["b[1]"]
    assert "found 4" in found[""]


def test_a_mapping_that_contains_itself_is_refused():
    endless = {}
    endless["again"] = endless
    with pytest.raises(ConfigError, match="contain itself"):
        Node.of(endless)


def test_a_tree_as_deep_as_allowed_can_be_walked():
    value = None
    for _ in range(MAX_DEPTH):
        value = {"a": [value]} if value is None else {"a": value}
    with pytest.raises(ConfigError):
        Node.of({"a": value})
    assert Node.of(value["a"]).plain() == value["a"]


def test_positions_of_python_values_name_their_origin():
    node = Node.of({"a": 1}, "notebook")
    assert str(node.get("a").position) == "notebook"
    assert node.key_position("a") == Position("notebook")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{}", "an object"), ("[]", "a list"), ('""', "a string"), ("1.5", "a number"), ("true", "true"), ("null", "null")],
)
def test_kinds_are_words_for_messages(text, kind):
    assert parse(text, "f").kind == kind


def test_a_child_is_looked_up_only_in_objects():
    node = parse('{"a": {"b": 1}, "c": [2]}', "f")
    assert node.get("a").get("b").value == 1
    assert node.get("x") is None
    assert node.get("c").get("a") is None
    assert [child.value for child in node.get("c").elements()] == [2]
    assert [name for name, _ in node.items()] == ["a", "c"]
    assert list(node.get("c").items()) == list(node.elements()) == []


def test_replacing_a_child_leaves_the_first_tree_alone():
    node = parse('{"a": [1, 2], "b": 3}', "f")
    changed = node.with_child("a", node.get("a").with_child(1, Node(5)))
    assert (node.plain(), changed.plain()) == ({"a": [1, 2], "b": 3}, {"a": [1, 5], "b": 3})
    assert changed.key_position("a") == node.key_position("a")
    with pytest.raises(TypeError):
        node.with_child(0, Node(5))


def test_a_bare_string_is_a_component():
    node = parse(' "SCRUB"', "f").as_component()
    assert node.plain() == {"class": "SCRUB"}
    assert node.key_position("class") == Position("f", 1, 2)
    assert parse("[1]", "f").as_component().plain() == [1]


def test_paths_quote_keys_that_would_be_misread():
    assert child_path("", "data") == "data"
    assert child_path(child_path("unlearners", 0), "parameters") == "unlearners[0].parameters"
    assert child_path("a", "b.c") == 'a["b.c"]'
    assert child_path("", 'say "x"') == '["say \\"x\\""]'
    assert child_path("a", "") == 'a[""]'


def test_nodes_survive_pickling():
    node = pickle.loads(pickle.dumps(parse('{"a": [1]}', "f")))
    assert node.plain() == {"a": [1]}
    assert node.key_position("a") == Position("f", 1, 2)


def test_notices_read_like_problems():
    assert str(Notice("is ignored", "a.b", Position("f", 2, 3))) == "f:2:3: a.b: is ignored"
    assert str(Notice("is ignored", position=Position("f"))) == "is ignored"
    assert Loaded(Node(1)).notices == []


def test_members_of_enumerations_are_understood_only_where_they_are_json():
    class Colour(enum.Enum):
        RED = 1

    with pytest.raises(ConfigError, match="found Colour"):
        Node.of([Colour.RED])
