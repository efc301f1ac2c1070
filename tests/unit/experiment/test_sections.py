"""Sections of a configuration that are misspelled, unknown, empty or not there, and partitions that are called otherwise."""

import pytest

from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment

HALVES = {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}}


def configuration(*names, **changed):
    """An experiment that forgets a tenth of half of iris; ``names`` are those of the forgotten and the kept part."""
    cut = {"class": "Percentage", "parameters": {"parts_names": list(names or ("forget", "retain")), "ref_data": "train"}}
    cut["parameters"]["percentage"] = 0.1
    source = {"class": "Sklearn", "parameters": {"name": "iris"}}
    return {
        "data": {"data_source": source, "partitions": [HALVES, cut]},
        "predictor": {"model": "MLP"},
        "unlearners": ["Identity"],
        "evaluator": {"measures": ["RunTime"]},
        "globals": {"seed": 0},
    } | changed


def problems(given):
    with pytest.raises(ConfigError) as raised:
        load_experiment(given)
    return [(problem.message, problem.hint) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("unlerners", '"unlearners"'),
        ("evalutor", '"evaluator"'),
        ("predictr", '"predictor"'),
        ("metrics", "there are data, predictor"),
        ("seed", 'write it inside "globals"'),
        ("epochs", 'write it inside "predictor"'),
    ],
)
def test_a_section_that_there_is_not_is_an_error_also_if_the_right_one_is_there(name, hint):
    ((message, found),) = problems(configuration(**{name: []}))
    assert message == f'there is no section "{name}"'
    assert hint in found


@pytest.mark.parametrize("name", ["class", "parameters", "_remark"])
def test_what_files_have_that_are_made_to_be_included_is_a_notice(name):
    notices = [notice.message for notice in load_experiment(configuration(**{name: "x"})).notices]
    assert f'section "{name}" is ignored' in notices


@pytest.mark.parametrize(
    ("node", "message", "hint"),
    [
        ({"class": "NegGrad", "epochs": 3}, '"epochs" is a parameter of NegGrad', 'write it inside "parameters"'),
        ({"class": "NegGrad", "params": {"epochs": 3}}, '"params" stands beside class', 'did you mean "parameters"?'),
        ({"class": "NegGrad", "parameters": {}, "ref_data": "forget"}, "", ""),
        ({"class": "erasure.unlearners.Scrub.Scrub", "T": 2.0}, '"T" is a parameter of ', 'write it inside "parameters"'),
        (
            {"class": "NegGrad", "parameters": {"optimizer": {"class": "torch.optim.SGD", "lr": 0.1}}},
            '"lr" is a parameter of ',
            'write it inside "parameters"',
        ),
    ],
)
def test_a_parameter_outside_of_parameters_is_an_error(node, message, hint):
    given = configuration(unlearners=[node])
    if not message:
        (notice,) = load_experiment(given).notices
        assert notice.message == '"ref_data" beside class and parameters is ignored'
        return
    ((said, advised),) = problems(given)
    assert said.startswith(message) and advised == hint


def test_a_label_beside_a_source_is_its_column_in_the_wrong_place():
    given = configuration()
    given["data"]["data_source"] = {"class": "TableFile", "label": "y", "parameters": {"path": "a.csv"}}
    assert ('"label" is a parameter of TableFile', 'write it inside "parameters"') in problems(given)


def test_the_same_method_twice_is_numbered():
    labels = [each.label for each in load_experiment(configuration(unlearners=["NegGrad", "NegGrad"])).unlearners]
    assert labels == ["NegGrad", "NegGrad #2"]


def test_cascades_are_told_apart_by_their_steps_or_by_what_one_step_has():
    def cascade(*steps):
        return {"class": "Cascade", "parameters": {"steps": list(steps)}}

    def step(name, lr):
        return {"class": name, "parameters": {"optimizer": {"class": "SGD", "parameters": {"lr": lr}}}}

    pairs = [cascade(step("NegGrad", 0.1), step("Finetuning", lr)) for lr in (0.1, 0.2)]
    given = configuration(unlearners=[*pairs, cascade(step("NegGrad", 0.1), cascade(step("Finetuning", 0.1), "Identity"))])
    assert [each.label for each in load_experiment(given).unlearners] == [
        "Cascade (steps=NegGrad+Finetuning, Finetuning.lr=0.1)",
        "Cascade (steps=NegGrad+Finetuning, Finetuning.lr=0.2)",
        "Cascade (steps=NegGrad+Cascade)",
    ]


def test_a_number_in_quotes_is_said_where_another_library_takes_it():
    given = configuration(
        unlearners=[{"class": "NegGrad", "parameters": {"optimizer": {"class": "SGD", "parameters": {"lr": "1e-3"}}}}]
    )
    ((message, _),) = problems(given)
    assert message == '"lr" is a text, expected a number: write 1e-3 without quotes'


@pytest.mark.parametrize("missing", ["unlearners", "evaluator"])
def test_nothing_to_unlearn_or_to_measure_is_said_unless_it_was_written(missing):
    given = configuration()
    assert not load_experiment(given | {"unlearners": [], "evaluator": {"measures": []}}).notices
    del given[missing]
    (notice,) = load_experiment(given).notices
    assert notice.path == missing


def test_an_empty_section_is_no_list_of_methods():
    ((message, hint),) = problems(configuration(unlearners=None))
    assert message == "expected a list of unlearners"
    assert "[]" in hint


def test_a_partition_by_another_name_is_answered_by_how_roles_are_named():
    found = problems(configuration("forget", "keep", unlearners=["Finetuning"]))
    assert found
    for message, hint in found:
        assert 'there is no partition "retain"' in message
        assert hint == 'call the partition "retain" in parts_names, or say here which one it is: "retain": "keep"'
    named = {"class": "Finetuning", "parameters": {"retain": "keep"}}
    assert len(load_experiment(configuration("forget", "keep", unlearners=[named])).unlearners) == 1
