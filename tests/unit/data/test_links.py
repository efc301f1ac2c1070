"""Links as samples: how they are cut and drawn, what each partition sees, and what a forgotten link reaches."""

import warnings
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from graph_toys import N_FEATURES, N_NODES, blocks, task_on, with_noise

from erasure.data.contract import DataSource
from erasure.data.graph_splitters import AffectedSplitter, GraphNodesSplitter, SeenInSplitter
from erasure.data.link_splitters import LinkRequestSplitter
from erasure.data.partitions import build_partitions, inspect_partitions
from erasure.data.sources.links import Links
from erasure.data.splitters import ByZSplitter, ClassSplitter, PercentageSplitter
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import DataError, InvalidParameters, PartitionError, RequirementNotMet
from erasure.models.graph import GNN
from erasure.models.links import LinkPredictor
from erasure.training.calls import Criterion
from erasure.training.graph_requests import edge_pairs
from erasure.training.graphs import NodeColumn
from erasure.training.links import LinkColumn
from erasure.training.predictor import ModelInput, build_model
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.graph_influence import GraphInfluence, loss_gradient

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")


@dataclass(frozen=True, kw_only=True)
class Toy(DataSource):
    """Forty nodes in three blocks."""

    def load(self):
        """The toy."""
        return blocks()


SPLITTERS = (
    ByZSplitter(parts_names=("train", "rest"), z_labels=("train",)),
    ByZSplitter(parts_names=("test", "-"), ref_data="rest", z_labels=("test",)),
    ClassSplitter(parts_names=("train_links", "-"), ref_data="train", labels=("edge",)),
    PercentageSplitter(parts_names=("gone", "-"), ref_data="train_links", percentage=0.1),
    LinkRequestSplitter(links="gone"),
    SeenInSplitter(parts_names=("forget_after", "-"), ref_data="forget", graph="after"),
    AffectedSplitter(parts_names=("near", "far"), ref_data="test", hops=1),
)


def requested(data=None, splitters=SPLITTERS):
    data = Links(data_source=Toy(), negatives=2.0).load() if data is None else data
    partitions = build_partitions(data, splitters, 0)
    for splitter in splitters:
        data = splitter.prepared(data, partitions)
    return data, partitions


def network(layers=2, *, batch_norm=False):
    family = LinkPredictor(size=4, encoder=GNN(conv="gcn", hidden=8, layers=layers, dense_layers=0, batch_norm=batch_norm))
    data = ModelInput(x_shape=(N_FEATURES,), n_classes=2, task="binary", modality="graph")
    return build_model(family, data, 0, torch.device("cpu")).eval()


def test_edges_are_cut_and_every_part_gets_pairs_without_one():
    graph, data = blocks().x, Links(data_source=Toy(), negatives=2.0).load()
    edges = {tuple(pair) for pair in edge_pairs(graph).tolist()}
    pairs = [tuple(pair) for pair in data.x.pairs.tolist()]
    assert len(set(pairs)) == len(pairs)
    assert {pair for pair, y in zip(pairs, data.y.tolist(), strict=True) if y} == edges
    assert all(u < v for u, v in pairs)
    counts = [[int(((data.z == z) & (data.y == y)).sum()) for y in (1, 0)] for z in range(3)]
    n_validation, n_test = int(0.05 * len(edges)), int(0.1 * len(edges))
    n_train = len(edges) - n_validation - n_test
    assert counts == [[n_train, 2 * n_train], [n_validation] * 2, [n_test] * 2]


def test_messages_run_over_the_training_edges_in_both_directions():
    data = Links(data_source=Toy()).load()
    trained = {tuple(pair) for pair in data.x.pairs[(data.z == 0) & (data.y == 1)].tolist()}
    assert set(map(tuple, data.x.graph.edge_index.T.tolist())) == trained | {(v, u) for u, v in trained}


def test_pairs_without_an_edge_are_found_where_there_are_hardly_any():
    free = N_NODES * (N_NODES - 1) // 2 - len(edge_pairs(blocks().x))
    n_edges = len(edge_pairs(blocks().x))
    data = Links(data_source=Toy(), test=0.0, validation=0.0, negatives=free / n_edges).load()
    assert int((data.y == 0).sum()) == free
    with pytest.raises(DataError, match="lower negatives"):
        Links(data_source=Toy(), negatives=2 * free / n_edges).load()


def test_links_come_back_from_tensors():
    data = Links(data_source=Toy()).load()
    column, again = data.x, from_artifact(*to_artifact(data)).x
    assert isinstance(again, LinkColumn)
    assert torch.equal(again.pairs, column.pairs)
    assert torch.equal(again.graph.edge_index, column.graph.edge_index)


def test_forgotten_links_are_in_no_graph_that_retained_ones_see():
    data, partitions = requested()
    n, gone = data.x.n_samples, data.x.pairs[partitions["gone"]]
    assert partitions["forget"].tolist() == sorted(partitions["gone"].tolist())
    assert sorted((partitions["retain"] - n).tolist() + partitions["forget"].tolist()) == partitions["train"].tolist()
    view = data.x.within(partitions["retain"]).view
    left = set(map(tuple, view.edge_index.T.tolist()))
    assert not {pair for u, v in gone.tolist() for pair in ((u, v), (v, u))} & left
    assert len(left) == data.x.graph.graph.edge_index.shape[1] - 2 * len(gone)
    assert {issue.message for issue in inspect_partitions(partitions, data)} <= {"it is empty"}


def test_what_retained_links_are_told_is_that_of_a_graph_that_never_had_the_forgotten_ones():
    data, partitions = requested()
    model = network()
    whole = data.x.graph.graph
    never = LinkColumn(NodeColumn(whole.x, whole.edge_index[:, data.x.graph.kept_edges]), data.x.pairs)
    for name in ("retain", "test", "forget_after"):
        ids = partitions[name]
        seen, expected = (model(column.gather(each))[1] for column, each in ((data.x, ids), (never, ids % data.x.n_samples)))
        assert torch.equal(seen, expected)
    before = model(data.x.gather(partitions["forget"]))[1]
    assert not torch.allclose(before, model(data.x.gather(partitions["forget_after"]))[1])


def test_logits_are_products_of_the_vectors_of_both_ends():
    data = Links(data_source=Toy()).load()
    model, ids = network(), torch.tensor([5, 0, 3])
    z = model.encoder(data.x.graph.gather(torch.arange(N_NODES)))[1]
    u, v = data.x.pairs[ids].T
    assert torch.allclose(model(data.x.gather(ids))[1], (z[u] * z[v]).sum(1), atol=1e-6)
    assert torch.equal(model(data.x.gather(ids)[1:3])[1], model(data.x.gather(ids))[1][1:3])


NODES = (
    *SPLITTERS[:2],
    GraphNodesSplitter(parts_names=("gone", "-"), ref_data="train", n=3),
    LinkRequestSplitter(nodes="gone"),
)


def test_forgetting_nodes_takes_all_their_pairs_and_every_other_pair_stays_what_it_is():
    data, partitions = requested(splitters=NODES)
    whole = {frozenset(pair) for pair in edge_pairs(blocks().x).tolist()}
    n, gone = data.x.n_samples, set(data.x.graph.nodes.tolist())
    assert len(gone) == 3

    def pairs(name):
        return [tuple(pair) for pair in data.x.pairs[partitions[name] % n].tolist()]

    assert all(set(pair) & gone for pair in pairs("forget"))
    assert sorted(pairs("forget") + pairs("retain")) == sorted(pairs("train"))
    left = {frozenset(pair) for pair in data.x.within(partitions["retain"]).view.edge_index.T.tolist()}
    places = [node for node in range(N_NODES) if node not in gone]
    for name in ("retain", "test"):
        assert not any(set(pair) & gone for pair in pairs(name))
        for pair, y in zip(pairs(name), data.y[partitions[name]].tolist(), strict=True):
            assert (frozenset(pair) in whole) == bool(y)
            assert name == "test" or (frozenset(map(places.index, pair)) in left) == bool(y)
    assert len(data.x.gather(partitions["retain"]).nodes.x) == N_NODES - 3
    assert not [issue for issue in inspect_partitions(partitions, data) if issue.message != "it is empty"]


def test_forgotten_nodes_change_no_bit_of_what_is_said_and_learned_of_links():
    base, gone = Links(data_source=Toy(), negatives=2.0).load(), None
    found = []
    for noisy in (False, True):
        data = base
        if noisy:
            messages = with_noise(replace(blocks(), x=base.x.graph), gone).x
            data = replace(base, x=LinkColumn(messages, base.x.pairs))
        by_name = GraphNodesSplitter(parts_names=("gone", "-"), ref_data="train", nodes=(2, 5))
        data, partitions = requested(data, (*NODES[:2], by_name, NODES[3]))
        gone = data.x.graph.nodes
        model = network(batch_norm=True).train()
        ids = partitions["retain"]
        logits = model(data.x.within(ids).gather(ids))[1]
        F.binary_cross_entropy_with_logits(logits, data.y[ids].float()).backward()
        bits = [p.grad for p in model.parameters()] + list(model.buffers())
        task = replace(task_on(data, partitions), criterion=Criterion("binary"))
        task = replace(task, model_input=replace(task.model_input, n_classes=2, task="binary"))
        bits += list(Finetuning(epochs=1).run(network(), task).model.parameters())
        found.append([*bits, model.eval()(data.x.gather(partitions["test"]))[1]])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_links_are_forgotten_after_nodes():
    later = (
        ClassSplitter(parts_names=("links", "-"), ref_data="retain 1", labels=("edge",)),
        PercentageSplitter(parts_names=("gone links", "-"), ref_data="links", percentage=0.1),
        LinkRequestSplitter(ref_data="retain 1", links="gone links"),
    )
    first = LinkRequestSplitter(parts_names=("forget 1", "retain 1"), nodes="gone")
    data, partitions = requested(splitters=(*NODES[:3], first, *later))
    n, graph = data.x.n_samples, data.x.graph
    assert data.x.asked_by(partitions["retain 1"]).graph is graph.earlier
    gone = {tuple(pair) for pair in data.x.pairs[partitions["gone links"] % n].tolist()}
    left = {tuple(sorted(pair)) for pair in graph.edges_after.T.tolist()}
    before = {tuple(sorted(pair)) for pair in graph.edges_before.T.tolist()}
    assert before - left == gone
    assert not any(set(pair) & set(graph.earlier.nodes.tolist()) for pair in before)
    model, never = network(), LinkColumn(NodeColumn(graph.graph.x, graph.edges_after), data.x.pairs)
    for name in ("retain", "test"):
        seen, expected = model(data.x.gather(partitions[name]))[1], model(never.gather(partitions[name] % n))[1]
        assert torch.allclose(seen, expected, atol=1e-6)


def test_only_links_outside_reach_stay_what_they_were():
    one = PercentageSplitter(parts_names=("gone", "-"), ref_data="train_links", percentage=0.02)
    reach = AffectedSplitter(parts_names=("near", "far"), ref_data="train", hops=1)
    data, partitions = requested(splitters=(*SPLITTERS[:3], one, SPLITTERS[4], reach))
    model, n = network(layers=1), data.x.n_samples
    far, near = partitions["far"], partitions["near"]
    assert len(far)
    assert torch.allclose(model(data.x.gather(far))[1], model(data.x.gather(far + n))[1], atol=1e-6)
    assert not torch.allclose(model(data.x.gather(near))[1], model(data.x.gather(near + n))[1], atol=1e-6)


def test_the_influence_of_links_is_the_difference_of_two_gradients():
    data, partitions = requested()
    task = task_on(data, partitions)
    task = replace(task, model_input=replace(task.model_input, n_classes=2, task="binary"), criterion=Criterion("binary"))
    method, model = GraphInfluence(), network()

    def gradient(name):
        ids = partitions[name]
        loss = F.binary_cross_entropy_with_logits(model(data.x.gather(ids))[1], data.y[ids].float(), reduction="sum")
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])

    expected = gradient("train") - gradient("retain")
    seen = task.seen_by(method)
    assert torch.allclose(loss_gradient(model, seen, "train") - loss_gradient(model, seen, "retain"), expected, atol=1e-4)
    with torch.no_grad():  # the step is along the change, but for the curvature
        step = torch.cat(
            [(a - b).flatten() for a, b in zip(method.run(model, task).model.parameters(), model.parameters(), strict=True)]
        )
    assert float(step @ expected) > 0
    assert float(expected.norm()) > 0.1


def refused(*splitters):
    with pytest.raises(PartitionError) as error:
        requested(splitters=splitters)
    return str(error.value)


def test_requests_that_mean_nothing_are_refused_in_words():
    strangers = ClassSplitter(parts_names=("gone", "-"), ref_data="train", labels=("no edge",))
    assert "pairs without an edge" in refused(*SPLITTERS[:2], strangers, SPLITTERS[4])
    held_out = ClassSplitter(parts_names=("gone", "-"), ref_data="test", labels=("edge",))
    assert 'not in "train"' in refused(*SPLITTERS[:2], held_out, SPLITTERS[4])
    assert "takes the retain set" in refused(*SPLITTERS[:5], LinkRequestSplitter(links="gone", deployed=()))
    assert "partition of links" in refused(*SPLITTERS[:4], LinkRequestSplitter(nodes="gone"))
    assert "partition of nodes" in refused(*NODES[:3], LinkRequestSplitter(links="gone"))
    between = GraphNodesSplitter(parts_names=("gone", "-"), ref_data="train", n=2, stratum="between-classes")
    assert "are links, whose classes" in refused(*NODES[:2], between)
    every = GraphNodesSplitter(parts_names=("gone", "-"), ref_data="train", nodes=tuple(range(N_NODES)))
    assert '"test" is empty: all of it has an end' in refused(*NODES[:2], every, NODES[3])
    again = LinkRequestSplitter(parts_names=("forget 2", "retain 2"), ref_data="retain", nodes="gone")
    assert "an earlier request took them out" in refused(*NODES, again)
    with pytest.raises(InvalidParameters):
        LinkRequestSplitter(links="a", nodes="b")
    assert "needs a LinkRequest before it" in refused(*SPLITTERS[:4], SPLITTERS[5])
    with pytest.raises(PartitionError, match="needs the source Links"):
        LinkRequestSplitter(links="train").prepared(blocks(), {"train": torch.arange(3)})


def test_a_model_of_nodes_and_one_of_links_say_what_they_take():
    data = Links(data_source=Toy()).load()
    with pytest.raises(RequirementNotMet, match="encoder of a LinkPredictor"):
        network().encoder(data.x.gather(torch.arange(2)))
    with pytest.raises(RequirementNotMet, match="source Links"):
        build_model(LinkPredictor(encoder=GNN()), ModelInput((N_FEATURES,), 3, modality="graph"), 0, torch.device("cpu"))
