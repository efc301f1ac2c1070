"""What a rule of propagation gives to components that do not read it."""

import pytest

from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment

ADAM = {"class": "Adam", "parameters": {"lr": 0.01}}


def experiment(params, *unlearners, section="unlearners/parameters"):
    rule = {"in_sections": [section], "params": params}
    cuts = [
        {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.8}},
        {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
    ]
    return {
        "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": cuts},
        "predictor": {"model": "MLP"},
        "unlearners": list(unlearners),
        "evaluator": {"measures": []},
        "globals": {"seed": 0},
        "experiment": {"parameters": {"propagate": [rule]}},
    }


def test_a_method_that_does_not_read_a_propagated_parameter_keeps_out_of_it_with_a_notice():
    read = load_experiment(experiment({"epochs": 2, "optimizer": ADAM}, "NegGrad", "SSD", "Identity"))
    assert read.unlearners[0].unlearner.epochs == 2
    said = [(each.path, each.message) for each in read.notices if each.kind == "no-effect"]
    assert said == [
        (f"unlearners[{i}].parameters.{name}", f'"{name}" has no effect: {key} does not read it')
        for i, key in ((1, "SSD"), (2, "Identity"))
        for name in ("epochs", "optimizer")
    ]


def test_a_propagated_parameter_that_nothing_reads_is_an_error_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r'nothing in these sections reads "epohcs"; did you mean "epochs"\?'):
        load_experiment(experiment({"epohcs": 2}, "NegGrad", "SSD"))


def test_the_same_parameter_written_in_a_method_stays_an_error():
    with pytest.raises(ConfigError, match="unknown parameter of SelectiveSynapticDampening"):
        load_experiment(experiment({"epochs": 2}, "NegGrad", {"class": "SSD", "parameters": {"momentum": 2}}))


def test_calls_of_other_libraries_leave_out_what_they_do_not_take():
    methods = [{"class": "NegGrad", "parameters": {"optimizer": optimizer}} for optimizer in (ADAM, {**ADAM, "class": "SGD"})]
    read = load_experiment(experiment({"momentum": 0.5}, *methods, section="unlearners/parameters/optimizer"))
    assert [dict(each.unlearner.optimizer.parameters) for each in read.unlearners] == [
        {"lr": 0.01},
        {"lr": 0.01, "momentum": 0.5},
    ]
    assert [each.message for each in read.notices] == ['"momentum" has no effect: Adam does not read it']


def test_a_method_keeps_its_own_partition_though_a_rule_gives_it_by_another_name():
    path = "erasure.unlearners.NegGrad.NegGrad"
    read = load_experiment(experiment({"ref_data_forget": "test"}, {"class": path, "parameters": {"ref_data": "forget"}}))
    assert read.unlearners[0].unlearner.forget == "forget"
    assert '"ref_data_forget" has no effect: "ref_data", which is there too, is the same parameter' in [
        each.message for each in read.notices
    ]
    with pytest.raises(ConfigError, match='"ref_data_forget" and "ref_data" set the same parameter'):
        load_experiment(
            experiment({"epochs": 1}, {"class": path, "parameters": {"ref_data": "forget", "ref_data_forget": "test"}})
        )
