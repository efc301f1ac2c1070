"""Networks pruned by ``torch.nn.utils.prune``, whose layers compute their weights anew before each pass: what a method assigns must not be
lost, and what is pruned stays pruned."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import erasure

X = torch.rand(18, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(18) % 3
pytestmark = pytest.mark.filterwarnings("ignore::erasure.errors.UnlearningWarning")  # nobody asks whether these models are good
GIVEN = {"forget": (X[Y == 0], Y[Y == 0]), "retain": (X[Y != 0], Y[Y != 0]), "device": "cpu"}
LAYERS = (0, 3, 5)
ASSIGNING = {
    "EU-k": {},
    "CT": {},
    "MSG": {"layers": "all"},
    "PRMQ": {},
    "RNI": {},
    "SVDClassForgetting": {},
    "PGU": {},
    "CFW": {},
    "BadTeaching": {},  # draws a whole network anew
    "SSD": {"selection_weighting": 0.5},
}


@pytest.fixture(scope="module")
def trained():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model.requires_grad_(True).eval()


@pytest.mark.parametrize("method", ASSIGNING)
def test_a_mask_that_prunes_nothing_changes_nothing(trained, method):
    masked = copy.deepcopy(trained)
    for number in LAYERS:
        prune.identity(masked[number], "weight")
    expected = erasure.unlearn(trained, method, **GIVEN, **ASSIGNING[method])
    found = erasure.unlearn(masked, method, **GIVEN, **ASSIGNING[method])
    assert torch.allclose(found(X), expected(X), atol=1e-4)
    assert (expected(X) - trained(X)).abs().max() > 1e-3


@pytest.mark.parametrize("method", ASSIGNING)
def test_what_is_pruned_stays_pruned_and_the_given_network_as_it_is(trained, method):
    pruned = copy.deepcopy(trained)
    for number in LAYERS:
        prune.l1_unstructured(pruned[number], "weight", amount=0.4)
    before = pruned(X).detach()
    found = erasure.unlearn(pruned, method, **GIVEN, **ASSIGNING[method])
    assert torch.equal(pruned(X), before)
    found(X)
    for number in LAYERS:
        assert prune.is_pruned(found[number])
        assert torch.equal(found[number].weight_mask, pruned[number].weight_mask)
        assert not found[number].weight[pruned[number].weight_mask == 0].any()
    assert not torch.equal(found(X), before)
    # Put down as plain weights, it answers the same.
    answers = found(X)
    for number in LAYERS:
        prune.remove(found[number], "weight")
    assert torch.allclose(found(X), answers, atol=1e-6)
