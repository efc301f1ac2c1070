"""Weights of classes in a configuration, and sections that are misspelled."""

import pytest
import torch
from torch import nn

from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment
from erasure.training.calls import Criterion, Loss


def test_weights_of_classes_can_be_written_as_numbers():
    logits, y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1, 0])
    written = Criterion("classification", Loss.of("CrossEntropyLoss", weight=[1.0, 8.0]))
    plain = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 8.0]))
    assert torch.equal(written(logits, y), plain(logits, y))
    assert Loss.of("BCEWithLogitsLoss", pos_weight=3.0)().pos_weight == torch.tensor(3.0)


def test_a_misspelled_section_is_an_error_with_the_right_name():
    source = {"class": "Sklearn", "parameters": {"name": "iris"}}
    configuration = {"data": {"data_source": source}, "predictor": {"model": "MLP"}, "unlerners": ["Identity"]}
    with pytest.raises(ConfigError, match='no section "unlerners"') as raised:
        load_experiment(configuration)
    assert any("unlearners" in problem.hint for problem in raised.value.problems)
