"""The editor schema accepts what the engine accepts, and marks the very place of a mistake."""

import copy
import functools

import jsonschema
import pytest

from erasure.catalogue import ALSO_KNOWN_AS, BUILTINS
from erasure.config.slots import SLOTS
from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment
from erasure.experiment.schema import configuration_schema

SPLITS = [
    {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
    {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
]
BASE = {
    "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": SPLITS},
    "predictor": {"model": "MLP", "epochs": 1},
    "unlearners": ["Identity"],
    "evaluator": {"measures": ["Accuracy"]},
    "globals": {"seed": 0},
}


@functools.cache
def schema():
    return configuration_schema()


@functools.cache
def validator():
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def marked(configuration):
    return [error.json_path for error in validator().iter_errors(configuration)]


RIGHT = {
    "as it is": {},
    "sections with parameters": {"predictor": {"parameters": {"model": {"class": "MLP"}}}},
    "sections with upstream's class": {
        "predictor": {
            "class": "erasure.model.TorchModel.TorchModel",
            "parameters": {"model": "MLP", "epochs": 1, "cached": "true", "early_stopping_threshold": None},
        }
    },
    "a bare name, another name and a label": {"unlearners": ["SCRUB", "GA", {"class": "Identity", "label": "nothing"}]},
    "an upstream class": {"unlearners": [{"class": "erasure.unlearners.Scrub.Scrub", "parameters": {"T": 2.0}}]},
    "nodes inside a node": {
        "unlearners": [
            {"class": "Cascade", "parameters": {"steps": ["Identity", {"class": "Finetuning", "parameters": {"epochs": 1}}]}},
            {"class": "LastLayers", "parameters": {"inner": "Finetuning", "n_layers": 1}},
        ]
    },
    "no optimizer's class is unknown to torch": {
        "predictor": {"model": "MLP", "optimizer": {"class": "SGD", "parameters": {"lr": 1}}}
    },
    "null for an optional component": {
        "unlearners": [{"class": "Finetuning", "parameters": {"schedule": None, "batch_size": None}}]
    },
    "true as text": {"globals": {"seed": 0, "cached": "true"}},
    "notes": {"COMMENT": 1, "globals": {"seed": 0, "my_comment": "x"}, "unlearners": [{"class": "Identity", "comment": 1}]},
    "the schema's own address": {"$schema": "./erasure.schema.json"},
    "a trace": {"evaluator": {"measures": ["Accuracy"], "trace": {"measures": ["Accuracy"], "select": "last"}}},
}
WRONG = {
    "$.unlearners[0]": {"unlearners": ["Identty"]},
    "$.unlearners[0].class": {"unlearners": [{"class": "Identty"}]},
    "$.unlearners[1]": {"unlearners": ["Identity", 3]},
    "$.unlearners[0].parameters": {"unlearners": [{"class": "SCRUB", "parameters": {"temperatur": 2}}]},
    "$.unlearners[0].parameters.temperature": {"unlearners": [{"class": "SCRUB", "parameters": {"temperature": 0}}]},
    "$.unlearners[0].parameters.optimizer": {"unlearners": [{"class": "SCRUB", "parameters": {"optimizer": 3}}]},
    "$.unlearners[0].parameters.steps[0].parameters.epochs": {
        "unlearners": [{"class": "Cascade", "parameters": {"steps": [{"class": "SCRUB", "parameters": {"epochs": "3"}}]}}]
    },
    "$.predictor.epochs": {"predictor": {"model": "MLP", "epochs": -1}},
    "$.predictor.parameters.epochs": {"predictor": {"parameters": {"model": "MLP", "epochs": 2.5}}},
    "$.predictor": {"predictor": {"epochs": 1}},
    "$.data.partitions[0].parameters.percentage": {
        "data": {
            **BASE["data"],
            "partitions": [{"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 1.5}}],
        }
    },
    "$.data.data_source.parameters.name": {"data": {"data_source": {"class": "Sklearn", "parameters": {"name": "cats"}}}},
    "$.evaluator.measures[0]": {"evaluator": {"measures": ["SCRUB"]}},
    "$.globals.seed": {"globals": {"seed": "zero"}},
}


@pytest.mark.parametrize("change", RIGHT.values(), ids=RIGHT)
def test_what_the_engine_accepts_the_schema_accepts(change):
    configuration = copy.deepcopy(BASE | change)
    load_experiment(configuration)
    assert marked(configuration) == []


@pytest.mark.parametrize(("place", "change"), WRONG.items(), ids=WRONG)
def test_a_mistake_is_marked_where_it_is_and_nowhere_else(place, change):
    configuration = copy.deepcopy(BASE | change)
    with pytest.raises(ConfigError):
        load_experiment(configuration)
    assert marked(configuration) == [place]


@pytest.mark.parametrize(
    "change",
    [
        {"compose_data": "data.json"},
        {"unlearners": [{"compose_it": "node.json"}, {"class": "SCRUB", "parameters": {"compose_more": "x.json", "epochs": 1}}]},
        {"unlearners": {"compose_all": "list.json"}},
        {"data": {"compose_source": "source.json", "partitions": [{"compose_split": "split.json"}]}},
        {"predictor": {"compose_predictor": "predictor.json"}},
    ],
)
def test_what_other_files_bring_is_not_missed(change):
    configuration = BASE | change
    if "compose_data" in change:
        del configuration["data"]
    assert marked(configuration) == []


def test_a_missing_section_is_marked():
    assert marked({"data": BASE["data"]}) == ["$"]


def test_every_registered_name_is_offered_with_its_summary_and_parameters():
    kinds = schema()["$defs"]
    for kind in SLOTS:
        offered = {option["const"]: option for option in kinds[kind]["else"]["anyOf"] if "const" in option}
        assert set(offered) == {*BUILTINS[kind], *ALSO_KNOWN_AS.get(kind, {})}
        assert all(option["description"] for option in offered.values())
    rules = {
        name: rule for rule in kinds["unlearner"]["then"]["else"]["allOf"] for name in rule["if"]["properties"]["class"]["enum"]
    }
    temperature = rules["SCRUB"]["then"]["properties"]["parameters"]["properties"]["temperature"]
    assert (temperature["default"], temperature["exclusiveMinimum"], temperature["type"]) == (2.0, 0, "number")
    assert temperature["description"]
