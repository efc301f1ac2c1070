"""Shards of a graph: their sizes, what they keep together, and what deleting a node leaves as it was."""

import warnings

import pytest
import torch
from graph_toys import N_FEATURES, blocks

from erasure.errors import RequirementNotMet
from erasure.models.ensemble import Ensemble
from erasure.models.graph import GNN
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.graph_partition import balanced_clusters, balanced_labels, capacity_of, shards_of_nodes
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.sharded import ShardedEnsemble, train_shards

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

CPU = torch.device("cpu")
TRAIN = torch.arange(24)


def communities(n=120, k=4, seed=0):
    """A graph of four communities; hardly an edge between them."""
    generator = torch.Generator().manual_seed(seed)
    block = torch.arange(n) % k
    chance = torch.where(block[:, None] == block[None, :], 0.3, 0.005)
    pairs = (torch.rand(n, n, generator=generator) < chance).triu(1).nonzero()
    return torch.cat([pairs, pairs.flip(1)]).T


def cut(edges, shards):
    return float((shards[edges[0]] != shards[edges[1]]).double().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_label_propagation_keeps_sizes_and_cuts_fewer_edges_than_chance(seed):
    edges = communities(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    found = balanced_labels(edges, 120, 4, generator)
    sizes = torch.bincount(found, minlength=4)
    assert int(sizes.sum()) == 120
    assert int(sizes.max()) <= capacity_of(120, 4)
    assert cut(edges, found) < 0.8 * cut(edges, torch.randperm(120, generator=generator) % 4)


def test_nodes_without_neighbours_stay_where_they_start():
    start = torch.randperm(50, generator=torch.Generator().manual_seed(3)) % 5
    assert torch.equal(balanced_labels(torch.empty(2, 0, dtype=torch.int64), 50, 5, torch.Generator().manual_seed(3)), start)


def test_clusters_are_of_one_size_and_alike():
    generator = torch.Generator().manual_seed(1)
    kinds = torch.arange(60) % 3
    features = 10 * torch.eye(3)[kinds] + 0.1 * torch.randn(60, 3, generator=generator)
    found = balanced_clusters(features, 3, torch.Generator().manual_seed(2))
    assert int(torch.bincount(found, minlength=3).max()) <= capacity_of(60, 3)
    spread = sum(float(features[found == k].std(0).sum()) for k in range(3))
    assert spread < 3 * float(features.std(0).sum())


@pytest.mark.parametrize("how", ["blpa", "bekm"])
def test_the_cut_depends_on_the_training_nodes_and_not_on_their_order(how):
    x = blocks().x
    first = shards_of_nodes(x, TRAIN, 3, how, 7)
    assert torch.equal(first, shards_of_nodes(x, TRAIN.flip(0), 3, how, 7))
    assert bool((first[24:] == -1).all())
    assert set(first[:24].tolist()) == {0, 1, 2}


def recipe(**changes):
    network = GNN(conv="sage", hidden=4, layers=1, dense_layers=0, batch_norm=False)
    model = Ensemble(model=network, shards=3, slices=2, **changes)
    return Predictor(model=model, epochs=3, optimizer=Optimizer.of("Adam", lr=0.05))


def trained(predictor, ids, x=None, **kept):
    data = blocks()
    model = build_model(predictor.model, ModelInput((N_FEATURES,), 3, modality="graph"), 5, CPU)
    arguments = {"criterion": Criterion("classification"), "seed": 5, "batch_size": 16}
    return model, train_shards(model, predictor, x=data.x if x is None else x, y=data.y, ids=ids, **arguments, **kept)


@pytest.mark.parametrize("how", ["blpa", "bekm"])
def test_deleting_a_node_trains_its_shard_alone_on_the_old_cut(how):
    predictor = recipe(partition=how)
    whole, done = trained(predictor, TRAIN)
    gone = torch.tensor([3])
    left = TRAIN[TRAIN != 3]
    deleted, again = trained(predictor, left, states=done.states, gone=gone)
    hit = int(done.states["assigned"][3])
    for shard, (before, after) in enumerate(zip(whole.members, deleted.members, strict=True)):
        same = all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
        assert same == (shard != hit)
    assert again.n_trained <= 2
    cut_before = {"assigned": done.states["assigned"]}
    anew, _ = trained(predictor, left, states=cut_before)
    assert all(torch.equal(a, b) for a, b in zip(deleted.parameters(), anew.parameters(), strict=True))


def test_learned_weights_make_the_training_samples_more_probable_than_equal_ones():
    y, x = blocks().y, blocks().x

    def loss(vote):
        model, _ = trained(recipe(vote=vote), TRAIN)
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(model(x.gather(TRAIN)), y[:24])), model

    (learned, model), (equal, _) = loss("learned"), loss("probabilities")
    assert learned <= equal + 1e-6
    assert float(model.voters.sum()) == pytest.approx(1, abs=1e-6)
    assert not torch.allclose(model.voters, model.voters.mean().expand(3))


def test_what_cannot_be_cut_or_weighed_is_refused_before_anything_is_trained():
    with pytest.raises(RequirementNotMet, match="not the nodes of one"):
        trained(recipe(partition="blpa"), TRAIN, TensorColumn(torch.zeros(40, 5)))
    with pytest.raises(RequirementNotMet, match="cuts a graph, and the samples are of the kind table"):
        build_model(recipe(partition="bekm").model, ModelInput((5,), 3), 5, CPU)
    with pytest.raises(RequirementNotMet, match="one class a sample, and the task is multilabel"):
        build_model(recipe(vote="learned").model, ModelInput((5,), 3, task="multilabel", modality="graph"), 5, CPU)


def test_a_single_shard_is_plain_training():
    predictor = Predictor(
        model=GNN(conv="gcn", hidden=8, layers=2, dense_layers=0, batch_norm=False),
        epochs=5,
        optimizer=Optimizer.of("SGD", lr=0.1),
    )
    data = blocks()
    member, plain = (build_model(predictor.model, ModelInput((N_FEATURES,), 3, modality="graph"), 5, CPU) for _ in range(2))
    settings = {"x": data.x, "y": data.y, "ids": TRAIN, "criterion": Criterion("classification"), "seed": 5, "batch_size": 40}
    train_shards(ShardedEnsemble([member], 1, "classification", "mean"), predictor, **settings)
    train(plain, predictor, **settings)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(member.parameters(), plain.parameters(), strict=True))
