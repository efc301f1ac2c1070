"""Hints for names that are no components: what to write, which is then understood."""

import json
import re

import pytest

from erasure.config.slots import SLOTS
from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment
from erasure.registry.lookup import Registry
from erasure.registry.meant import meant
from erasure.training.calls import Loss


@pytest.mark.parametrize(
    ("kind", "name", "component"),
    [
        ("source", "data/patients.csv", "TableFile"),
        ("source", "t.npz", "TensorFile"),
        ("source", "Iris", "Sklearn"),
        ("source", "CIFAR-10", "TorchVision"),
        ("model", "ResNet", "TorchVisionModel"),
        ("model", "vit_b_16", "TorchVisionModel"),
        ("model", "bert-base-uncased", "TextEncoder"),
        ("measure", "f1_score", "SklearnMetric"),
        ("measure", "sklearn.metrics.log_loss", "SklearnMetric"),
    ],
)
def test_what_is_advised_can_be_written(kind, name, component):
    slot = SLOTS[kind]()
    with pytest.raises(ConfigError) as caught:
        Registry().resolve(name, slot)
    advised = json.loads(re.search(r"{.*}}", caught.value.problems[0].hint)[0])
    assert advised["class"] == component
    known = Registry().resolve(component, slot).cls
    assert set(advised["parameters"]) <= set(known.__dataclass_fields__)


def test_nothing_is_said_of_other_names():
    assert not any(
        meant(kind, name) for kind in ("source", "model", "measure", "unlearner") for name in ("nothing", "my.Own", "SSD")
    )


def test_hints_say_where_a_rate_and_how_a_share_and_a_list_are_written():
    cuts = [
        {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.8}},
        {"class": "Percentage", "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 20}},
    ]
    written = {
        "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": cuts},
        "predictor": {"model": "MLP", "learning_rate": 0.1},
        "unlearners": {"class": "SSD"},
        "evaluator": {"measures": []},
    }
    with pytest.raises(ConfigError) as caught:
        load_experiment(written)
    hints = {problem.path: problem.hint for problem in caught.value.problems}
    rate = 'write it inside the optimizer: "optimizer": {"class": "Adam", "parameters": {"lr": 0.1}}'
    assert hints["predictor.learning_rate"] == rate
    assert hints["data.partitions[1].parameters.percentage"] == "20 % is written 0.2"
    assert hints["unlearners"] == "put it in [ ]"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HubrLoss", 'did you mean "HuberLoss"?'),
        ("crossentropy", 'did you mean "CrossEntropyLoss"?'),
        ("FocalLoss", "--trust"),  # what all losses end in makes none of them near
        ("sigmoid_focal_loss", "--trust"),
        ("Sigmod", "--trust"),  # torch.nn has other classes than losses
    ],
)
def test_only_a_loss_that_is_near_is_advised(name, hint):
    with pytest.raises(ConfigError) as caught:
        Registry().resolve(name, Loss)
    assert hint in caught.value.problems[0].hint
