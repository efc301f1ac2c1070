import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from erasure.stages.blank import Blank


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x):
        return self.scale * self.two(self.one(x))


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        both = torch.randn(2, 3)
        self.first, self.second = nn.Parameter(both[0]), nn.Parameter(both[1])

    def forward(self, x):
        return x * self.first + self.second


class LeavesOut(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
        self.register_state_dict_post_hook(self.left_out)
        self.register_load_state_dict_pre_hook(self.filled_in)

    @staticmethod
    def left_out(module, state, prefix, _):
        del state[prefix + "bias"]

    @staticmethod
    def filled_in(module, state, prefix, *_):
        state[prefix + "bias"] = module.bias.detach()


class Encoder(nn.Linear):
    def __deepcopy__(self, memo):
        return self


NETWORKS = {
    "plain": lambda: nn.Sequential(nn.Conv2d(3, 4, 1).to(memory_format=torch.channels_last), nn.BatchNorm2d(4)),
    "tied weights and a buffer that is not stored": Tied,
    "weights that share memory": Views,
    "a weight that is not stored": LeavesOut,
    "parametrized": lambda: parametrizations.spectral_norm(nn.Linear(3, 3)),
    "weights that are computed": lambda: weight_norm(nn.Linear(3, 3)),
    "recurrent": lambda: nn.GRU(3, 3),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_with_a_state_is_the_network(name):
    network = NETWORKS[name]().eval()
    blank = Blank(network)
    x = torch.randn(2, 3, 2, 2) if name == "plain" else torch.randn(2, 3)
    expected = network(x)
    for copied in (blank.copy(), blank.copy()):
        copied.load_state_dict(network.state_dict())
        found = copied.eval()(x)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        for mine, given in zip(copied.parameters(), network.parameters(), strict=True):
            assert mine.stride() == given.stride() and mine.requires_grad and mine.data_ptr() != given.data_ptr()


def test_a_blank_keeps_no_memory_for_weights_that_a_state_brings_back():
    blank = Blank(nn.Sequential(nn.Linear(30, 30), nn.BatchNorm1d(30)))
    assert sum(weight.untyped_storage().nbytes() for weight in blank._kept.parameters()) == 0


def test_a_network_whose_copies_share_weights_keeps_them():
    network = nn.Sequential(Encoder(3, 3), nn.Linear(3, 2))
    x, before = torch.randn(2, 3), network[0].weight.clone()
    copied = Blank(network).copy()
    copied.load_state_dict(network.state_dict())
    assert torch.equal(network[0].weight, before)
    assert torch.equal(copied(x), network(x))
