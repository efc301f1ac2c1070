import pytest

from erasure.config import MAX_DEPTH, Node, load_text, parse, propagate
from erasure.errors import ConfigError, Position


def propagated(rules, **sections):
    return propagate(Node.of({"experiment": {"parameters": {"propagate": rules}}, **sections}))


def rule(*sections, **params):
    return {"in_sections": list(sections), "params": params}


def the_problem(rules, **sections):
    with pytest.raises(ConfigError) as caught:
        propagated(rules, **sections)
    (problem,) = caught.value.problems
    return problem


def test_parameters_reach_each_element_of_a_list():
    root = propagated(
        [rule("unlearners/parameters", epochs=3)],
        unlearners=[{"class": "A", "parameters": {"lr": 1}}, {"class": "B"}, "C"],
    ).root.plain()
    assert root["unlearners"] == [
        {"class": "A", "parameters": {"lr": 1, "epochs": 3}},
        {"class": "B", "parameters": {"epochs": 3}},
        {"class": "C", "parameters": {"epochs": 3}},
    ]


def test_a_section_that_ends_at_a_node_means_its_parameters():
    sections = {"predictor": {"class": "P", "parameters": {}}, "unlearners": ["C"], "globals": {"cached": True}}
    root = propagated([rule("predictor", "unlearners", "globals", seed=1)], **sections).root.plain()
    assert root["predictor"] == {"class": "P", "parameters": {"seed": 1}}
    assert root["unlearners"] == [{"class": "C", "parameters": {"seed": 1}}]
    assert root["globals"] == {"cached": True, "seed": 1}


def test_a_value_that_is_there_stays_and_a_different_one_is_noticed():
    loaded = propagated([rule("unlearners/parameters", epochs=3)], unlearners=[{"parameters": {"epochs": n}} for n in (7, 3)])
    assert [u["parameters"]["epochs"] for u in loaded.root.plain()["unlearners"]] == [7, 3]
    (notice,) = loaded.notices
    assert notice.path == "unlearners[0].parameters"
    assert "epochs" in notice.message


def test_null_that_is_there_stays_too():
    root = propagated([rule("predictor", x=3)], predictor={"parameters": {"x": None}}).root.plain()
    assert root["predictor"]["parameters"] == {"x": None}


def test_a_section_may_lead_through_lists_to_the_elements_that_have_it():
    measures = [{"class": "RunTime"}, {"class": "MIA", "parameters": {"shadows": {"n": 1}}}]
    root = propagated(
        [rule("evaluator/parameters/measures/parameters/shadows", k=2)], evaluator={"parameters": {"measures": measures}}
    ).root.plain()
    assert root["evaluator"]["parameters"]["measures"][1]["parameters"]["shadows"] == {"n": 1, "k": 2}
    assert root["evaluator"]["parameters"]["measures"][0] == {"class": "RunTime"}


def test_an_empty_list_is_a_section():
    assert propagated([rule("unlearners/parameters", epochs=3)], unlearners=[]).root.plain()["unlearners"] == []


def test_rules_apply_in_order_and_the_first_holds():
    root = propagated([rule("predictor", a=1), rule("predictor", a=2, b=3)], predictor={"class": "P"}).root.plain()
    assert root["predictor"]["parameters"] == {"a": 1, "b": 3}


def test_an_unknown_section_is_a_problem_with_the_nearest_name():
    text = """{
      "experiment": {"parameters": {"propagate": [
        {"in_sections": ["unlearnres/parameters"], "params": {"epochs": 3}}
      ]}},
      "unlearners": []
    }"""
    with pytest.raises(ConfigError) as caught:
        propagate(parse(text, "f"))
    (problem,) = caught.value.problems
    assert problem.position == Position("f", 3, 26)
    assert problem.path == "experiment.parameters.propagate[0].in_sections"
    assert "unlearnres/parameters" in problem.message
    assert problem.hint == 'did you mean "unlearners"?'


@pytest.mark.parametrize("section", ["predictor/parameters/epochs/x", "predictor/parameters/epochs", "globals/x", "name/x"])
def test_a_section_must_lead_to_an_object(section):
    sections = {"predictor": {"class": "P", "parameters": {"epochs": 3}}, "globals": {"seed": 1}, "name": 3}
    assert section in the_problem([rule(section, a=1)], **sections).message


@pytest.mark.parametrize(
    "rules",
    [
        [{"params": {}}],
        [{"in_sections": ["predictor"]}],
        [{"in_sections": ["predictor"], "params": [1]}],
        [{"in_sections": 3, "params": {}}],
        [{"in_sections": [3], "params": {}}],
        [{"in_sections": [""], "params": {}}],
        ["predictor"],
        {"in_sections": ["predictor"], "params": {}},
    ],
)
def test_a_rule_of_another_form_is_one_problem(rules):
    assert "expected" in the_problem(rules, predictor={"class": "P"}).message


def test_all_faults_of_all_rules_are_reported():
    with pytest.raises(ConfigError) as caught:
        propagated([rule("a", "predictor", "b", x=1), 3, rule("c")], predictor={})
    assert len(caught.value.problems) == 4


def test_a_configuration_without_rules_is_left_as_it_is():
    for value in ({"a": 1}, [1], 3, {"experiment": {"parameters": {}}}, {"experiment": None}):
        root = Node.of(value)
        assert propagate(root).root is root


def test_copied_values_keep_the_position_of_the_rule():
    text = '{"experiment": {"parameters": {"propagate": [{"in_sections": ["p"], "params": {"a": 1}}]}}, "p": {"class": "P"}}'
    parameters = load_text(text, "f").root.get("p").get("parameters")
    assert parameters.get("a").position == Position("f", 1, text.index("1}}") + 1)
    assert parameters.key_position("a") == Position("f", 1, text.index('"a"') + 1)


def test_rules_cannot_nest_deeper_than_files():
    deep = 1
    for _ in range(MAX_DEPTH - 5):
        deep = {"x": deep}
    chain = "/".join(["p", *"x" * (MAX_DEPTH - 6)])
    assert "deeper than 200" in the_problem([{"in_sections": [chain], "params": {"y": deep}}], p=deep).message
