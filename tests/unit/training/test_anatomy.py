"""What a network consists of."""

import pytest
import torch
from torch import nn

from erasure.training.anatomy import load_state


class Versioned(nn.Linear):
    """A layer that reads the states of its own version alone, as MNASNet of torchvision does."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if local_metadata.get("version") != 2:
            raise ValueError("version should be 2")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_a_state_is_one_of_the_present_version():
    model, other = nn.Sequential(Versioned(3, 2)), nn.Sequential(Versioned(3, 2))
    plain = {name: value.clone() for name, value in other.state_dict().items()}
    load_state(model, plain)
    assert torch.equal(model[0].weight, other[0].weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_state(model, {"0.weight": plain["0.weight"]})
    load_state(model, {"0.weight": torch.zeros(2, 3)}, strict=False)
    assert not model[0].weight.any()
