import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.config import MAX_DEPTH, Node, apply_overrides, child_path
from erasure.errors import ConfigError, Position

CONFIG = {
    "unlearners": [{"class": "SCRUB", "parameters": {"epochs": 1, "conv.weight": 2}}, "NegGrad"],
    "globals": {"seed": 0},
    "empty": [],
}


def overridden(*overrides, config=CONFIG):
    return apply_overrides(Node.of(config), overrides)


def the_problem(*overrides):
    with pytest.raises(ConfigError) as caught:
        overridden(*overrides)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-0.5", -0.5),
        ("true", True),
        ("null", None),
        ("adam", "adam"),
        ('"3"', "3"),
        ("", ""),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("torch.optim.Adam", "torch.optim.Adam"),
        ("a=b", "a=b"),
        ("http://example.org/x", "http://example.org/x"),
        ("[1, 2,]", [1, 2]),
        ('{"class": "Adam", "parameters": {"lr": 1e-3}}', {"class": "Adam", "parameters": {"lr": 1e-3}}),
    ],
)
def test_a_value_is_jsonc_or_else_a_string(text, value):
    result = overridden(f"globals.seed={text}").root.get("globals").get("seed").plain()
    assert result == value
    assert type(result) is type(value)


def test_elements_and_keys_are_replaced_and_nothing_else():
    root = overridden("unlearners[0].parameters.epochs=3", "globals.seed=1").root.plain()
    expected = json.loads(json.dumps(CONFIG))
    expected["unlearners"][0]["parameters"]["epochs"] = 3
    expected["globals"]["seed"] = 1
    assert root == expected


def test_the_given_tree_is_not_changed():
    root = Node.of(CONFIG)
    apply_overrides(root, ["globals.seed=9", "unlearners[1]=SSD"])
    assert root.plain() == CONFIG


def test_missing_keys_are_created_on_the_way():
    loaded = overridden("predictor.parameters.optimizer.parameters.lr=0.1")
    assert loaded.root.get("predictor").plain() == {"parameters": {"optimizer": {"parameters": {"lr": 0.1}}}}
    assert loaded.notices == []


def test_a_new_key_that_resembles_an_existing_one_is_noticed():
    loaded = overridden("global.seed=1")
    (notice,) = loaded.notices
    assert 'did you mean "globals"?' in notice.message
    assert notice.position == Position("--set", 1, 1)
    assert loaded.root.plain()["global"] == {"seed": 1}


def test_quoted_keys_may_hold_any_character():
    root = overridden('unlearners[0].parameters["conv.weight"]=5', '["a=b"]=1').root.plain()
    assert root["unlearners"][0]["parameters"]["conv.weight"] == 5
    assert root["a=b"] == 1


def test_a_bare_string_becomes_a_node_on_the_way_to_its_parameters():
    root = overridden("unlearners[1].parameters.epochs=3").root.plain()
    assert root["unlearners"][1] == {"class": "NegGrad", "parameters": {"epochs": 3}}
    assert overridden("unlearners[1].class=SSD").root.plain()["unlearners"][1] == {"class": "SSD"}


def test_the_last_of_two_overrides_of_one_path_holds():
    assert overridden("globals.seed=1", "globals.seed=2").root.plain()["globals"]["seed"] == 2


def test_values_are_at_their_column_of_the_argument():
    root = overridden('globals.seed= {"a": [1]}').root
    seed = root.get("globals").get("seed")
    assert seed.position == Position("--set", 1, 15)
    assert seed.key_position("a") == Position("--set", 1, 16)
    assert overridden("globals.seed=x").root.get("globals").get("seed").position == Position("--set", 1, 14)


@pytest.mark.parametrize(
    ("override", "column", "words"),
    [
        ("unlearners[2].parameters.epochs=3", 11, ["no element [2]", "2 elements, [0] to [1]"]),
        ("empty[0]=3", 6, ["the list is empty"]),
        ("unlearner[0].parameters.epochs=3", 1, ['no key "unlearner"', 'did you mean "unlearners"?']),
        ("nothing.like.it[0]=3", 14, ['no key "it"']),
        ("globals.seed.x=3", 14, ['a number has no key "x"']),
        ("globals[0]=3", 8, ["an object has no element [0]", "the keys seed"]),
        ("unlearners.parameters=3", 12, ['a list has no key "parameters"', "unlearners[0]"]),
        ("globals.seed", 1, ["expected path=value"]),
        ("=3", 1, ["expected path=value"]),
        ("", 1, ["expected path=value"]),
        ("a..b=3", 2, ["no path"]),
        (".a=3", 1, ["no path"]),
        ("a.=3", 2, ["no path"]),
        ("a[-1]=3", 2, ["no path"]),
        ("a[x]=3", 2, ["no path"]),
        ("a[0]b=3", 5, ["no path"]),
        ('globals.seed={"a": }', 20, ["expected a value"]),
        ('globals.seed="abc', 14, ["unterminated string"]),
        ("globals.seed=[1,,2]", 17, ["expected a value"]),
    ],
)
def test_a_fault_of_an_override_is_named_where_it_is(override, column, words):
    problem = the_problem(override)
    said = f"{problem.message}; {problem.hint}"
    for word in words:
        assert word in said
    assert problem.position == Position("--set", 1, column)


def test_the_faults_of_all_overrides_are_reported():
    with pytest.raises(ConfigError) as caught:
        overridden("a..b=1", "globals.seed=1", "empty[3]=1", "x")
    assert len(caught.value.problems) == 3


def test_overrides_cannot_nest_deeper_than_files():
    path = ".".join("a" * MAX_DEPTH)
    assert overridden(f"{path}=1").root.get("a").is_object
    assert "deeper than 200" in the_problem(f"{path}.a=1").message
    assert "deeper than 1 levels" in the_problem(f"{path[:-2]}=[[1]]").message


@given(
    st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from('.[]="\\'), max_size=5), min_size=1, max_size=4),
    st.integers(min_value=0),
)
def test_every_path_of_our_messages_can_be_overridden(keys, value):
    path, config = "", value
    for key in keys:
        path = child_path(path, key)
    for key in reversed(keys):
        config = {key: config}
    root = apply_overrides(Node.of(config), [f"{path}=-1"]).root
    inner = root.plain()
    for key in keys:
        inner = inner[key]
    assert inner == -1


def test_a_parameter_is_found_where_a_section_has_its_parameters_under_a_key():
    config = {"evaluator": {"parameters": {"floor_repeats": 3}}, "unlearners": [{"class": "SSD", "parameters": {"alpha": 1}}]}
    root = overridden("evaluator.floor_repeats=9", "unlearners[0].alpha=2", "unlearners[0].label=mine", config=config).root
    assert root.plain() == {
        "evaluator": {"parameters": {"floor_repeats": 9}},
        "unlearners": [{"class": "SSD", "parameters": {"alpha": 2}, "label": "mine"}],
    }
