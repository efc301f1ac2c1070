"""Hidden layers whose widths follow the inputs."""

import pytest
import torch

from erasure.component import canonical
from erasure.errors import InvalidParameters
from erasure.models.mlp import MLP
from erasure.training.predictor import ModelInput


@pytest.mark.parametrize(("n_inputs", "widths"), [(10, [30, 15, 5]), (3, [9, 4, 1]), (1, [3, 1, 1])])
def test_widths_are_multiples_of_the_inputs_and_at_least_one(n_inputs, widths):
    network = MLP(hidden_factors=(3, 1.5, 0.5)).build(ModelInput((n_inputs,), 2))
    assert [len(bias) for bias in network.parameters() if bias.ndim == 1] == [*widths, 2]
    features, logits = network(torch.ones(4, n_inputs))
    assert features.shape == (4, widths[-1])
    assert logits.shape == (4, 2)


def test_a_width_of_nothing_is_refused():
    with pytest.raises(InvalidParameters, match="hidden_factors"):
        MLP(hidden_factors=(0,))


def test_who_uses_no_factors_keeps_the_address():
    assert "hidden_factors" not in canonical(MLP())["parameters"]
    assert canonical(MLP(hidden_factors=(2,)))["parameters"]["hidden_factors"] == [2.0]
