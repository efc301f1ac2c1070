"""The edges that models memorise: a plain loop over models, and edges between classes above others."""

from dataclasses import replace

import pytest
import torch
from graph_toys import N_NODES, TRAIN_AND_TEST, blocks, dataset

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphRequestSplitter
from erasure.data.memorised_edges import MemorisedEdgesSplitter
from erasure.data.partitions import build_partitions
from erasure.data.scenarios.ranking_models import balanced
from erasure.errors import InvalidParameters, PartitionError
from erasure.models.graph import GNN
from erasure.training.calls import Criterion, Optimizer
from erasure.training.forward import logits_of
from erasure.training.graph_requests import NO_SAMPLE, edge_pairs
from erasure.training.graphs import NodeColumn
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.randomness import Streams, derive

PREDICTOR = Predictor(
    model=GNN(conv="gcn", hidden=8, layers=2, dense_layers=0, batch_norm=False),
    epochs=4,
    optimizer=Optimizer.of("Adam", lr=0.05),
    schedule=None,
)
EDGES = GraphEdgesSplitter(parts_names=("edges", "-"), ref_data="train", stratum="all")


def splitter(**parameters):
    fields = {
        "parts_names": ("hard", "easy"),
        "ref_data": "edges",
        "predictor": PREDICTOR,
        "n_samples": 3,
        "n_models": 4,
        "seed": 3,
    }
    return MemorisedEdgesSplitter(**(fields | parameters))


def cut(data, *splitters):
    return build_partitions(data, [*TRAIN_AND_TEST, *splitters], 0)


def scored(data, ranking):
    partitions = cut(data, EDGES)
    (scores,) = ranking.scores(data, partitions, None, ranking_training())
    return partitions, scores


def ranking_training():
    from erasure.data.contract import Training

    return Training()


def test_all_edges_of_some_nodes_are_a_partition():
    data = blocks()
    pairs = edge_pairs(data.x)
    found = cut(data, EDGES)["edges"] - NO_SAMPLE
    assert found.tolist() == [number for number, pair in enumerate(pairs.tolist()) if min(pair) < 24]
    with pytest.raises(InvalidParameters, match="all edges are all"):
        GraphEdgesSplitter(parts_names=("edges", "-"), stratum="all", n=3)


def test_scores_are_those_of_a_plain_loop_over_models():
    data = blocks()
    partitions, scores = scored(data, splitter())
    pairs = edge_pairs(data.x)[partitions["edges"] - NO_SAMPLE].tolist()
    seen = balanced(4, len(pairs), 3, Streams(3).numpy("seen"))
    train_ids = partitions["train"]
    confidence = []
    for own in seen.tolist():
        gone = {frozenset(pair) for pair, there in zip(pairs, own, strict=True) if not there}
        kept = torch.tensor([frozenset(pair) not in gone for pair in data.x.edge_index.T.tolist()])
        inputs = ModelInput(data.x_shape, data.n_classes, "classification", "graph")
        seed = derive(3, "model", 0)
        model = build_model(PREDICTOR.model, inputs, seed, torch.device("cpu"))
        part = NodeColumn(data.x.x, data.x.edge_index[:, kept])
        criterion = Criterion("classification")
        train(model, PREDICTOR, x=part, y=data.y, ids=train_ids, criterion=criterion, seed=seed, batch_size=64)
        with torch.no_grad():
            p = logits_of(model.eval()(data.x.gather(torch.arange(N_NODES)))).double().softmax(1)
        confidence.append([p[v, data.y[v]].item() for v in range(N_NODES)])
    for i, pair in enumerate(pairs):
        ends = [v for v in pair if v < 24]
        of_edge = [sum(each[v] for v in ends) / len(ends) for each in confidence]
        having = [c for c, own in zip(of_edge, seen[:, i].tolist(), strict=True) if own]
        missing = [c for c, own in zip(of_edge, seen[:, i].tolist(), strict=True) if not own]
        assert float(scores[i]) == pytest.approx(sum(having) / len(having) - sum(missing) / len(missing), abs=1e-5)


def test_the_most_memorised_edges_come_first_and_the_order_of_the_edges_does_not_matter():
    data = blocks()
    partitions, scores = scored(data, splitter())
    found = cut(data, EDGES, splitter())
    best = partitions["edges"].sort().values[scores.argsort(descending=True, stable=True)[:3]]
    assert found["hard"].tolist() == best.tolist()
    assert sorted(found["hard"].tolist() + found["easy"].tolist()) == sorted(partitions["edges"].tolist())
    request = GraphRequestSplitter(edges="hard")
    again = cut(data, EDGES, splitter(), request)
    assert len(again["forget"])


def test_labels_outside_the_training_set_are_not_read():
    data = blocks()
    other = data.y.clone()
    other[24:] = (other[24:] + 1) % 3
    assert torch.equal(scored(data, splitter())[1], scored(replace(data, y=other), splitter())[1])


def test_what_cannot_be_ranked_is_refused_in_words():
    data = blocks()

    def refused(*splitters):
        with pytest.raises(PartitionError) as error:
            cut(data, *splitters)
        return str(error.value)

    everything = GraphEdgesSplitter(parts_names=("edges", "-"), ref_data="all", stratum="all")
    assert "have no end in" in refused(everything, splitter())
    assert "no partition of edges" in refused(splitter(ref_data="train"))
    with pytest.raises(InvalidParameters):
        splitter(n_models=1)
    rows = dataset(replace(data.x, propagate=2), data.y, data.z)
    with pytest.raises(PartitionError):
        cut(rows, EDGES, splitter())
