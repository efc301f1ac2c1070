"""The area between kept and forgotten links, pair by pair."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from graph_toys import N_FEATURES, blocks

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Evaluation, Outputs
from erasure.measures.deleted_links import DeletedLinkAUC
from erasure.training.calls import Criterion
from erasure.training.graph_requests import edge_pairs
from erasure.training.links import LinkColumn
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")


def evaluation(x, kept):
    graph = blocks().x
    logits = torch.randn(len(edge_pairs(graph)), generator=torch.Generator().manual_seed(2)).round(decimals=1)
    partitions = {"forget_after": torch.arange(12), "kept_links": kept}
    y = torch.ones(len(logits), dtype=torch.int64)
    y[-1] = 0

    def outputs(name):
        ids = partitions[name]
        return Outputs(ids=ids, logits=logits[ids][:, None], losses=torch.zeros(len(ids)), labels=y[ids], task="binary")

    return logits, Evaluation(
        subject=SimpleNamespace(kind="unlearned", outputs=outputs),
        references={},
        partition_ids=partitions,
        x=x,
        y=y,
        model_input=ModelInput(x_shape=(N_FEATURES,), n_classes=2, task="binary", modality="graph"),
        criterion=Criterion("binary"),
        streams=Streams(3),
    )


def test_the_area_counts_every_pair():
    graph = blocks().x
    kept = torch.arange(12, 40)
    logits, given = evaluation(LinkColumn(graph, edge_pairs(graph)), kept)
    (found,) = DeletedLinkAUC().measure(given)
    pairs = [(logits[k].item(), logits[g].item()) for k in kept for g in range(12)]
    assert found.value == pytest.approx(sum((k > g) + 0.5 * (k == g) for k, g in pairs) / len(pairs), abs=1e-12)
    assert found.low < found.value < found.high


def test_what_are_no_links_is_refused():
    graph = blocks().x
    _, given = evaluation(LinkColumn(graph, edge_pairs(graph)), torch.arange(len(edge_pairs(graph)) - 3, len(edge_pairs(graph))))
    with pytest.raises(RequirementNotMet, match="pairs without an edge"):
        DeletedLinkAUC().measure(given)
    with pytest.raises(RequirementNotMet, match="source Links"):
        DeletedLinkAUC().measure(evaluation(graph, torch.arange(3))[1])
