"""Small graphs of which something is forgotten, and tasks on them."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn

from erasure.data.dataset import Dataset
from erasure.data.graph_splitters import GraphEdgesSplitter, GraphRequestSplitter
from erasure.data.partitions import build_partitions
from erasure.data.splitters import ByZSplitter, ListSplitter
from erasure.measures.contract import Evaluation, Outputs
from erasure.training.calls import Criterion
from erasure.training.graphs import NodeColumn
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams, isolated
from erasure.unlearners.contract import UnlearningContext

N_NODES, N_CLASSES, N_FEATURES = 40, 3, 5

FORGOTTEN = (1, 4, 7)
"""Training nodes that are forgotten, or that lose their features."""


def blocks(seed=0, dtype=torch.float32):
    """A stochastic block model of 40 nodes, 24 of them for training (z 0) and 12 for the test (z 2); both directions of each edge."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(N_NODES) % N_CLASSES
    chance = torch.where(y[:, None] == y[None, :], 0.25, 0.05)
    upper = (torch.rand(N_NODES, N_NODES, generator=generator) < chance).triu(1)
    low, high = upper.nonzero(as_tuple=True)
    edge_index = torch.stack([torch.cat([low, high]), torch.cat([high, low])])
    x = torch.randn(N_NODES, N_FEATURES, generator=generator, dtype=dtype) + torch.eye(N_CLASSES, N_FEATURES, dtype=dtype)[y]
    z = torch.tensor([0] * 24 + [2] * 12 + [3] * 4)
    return dataset(NodeColumn(x, edge_index), y, z)


def dataset(column, y, z):
    return Dataset(
        name="blocks",
        x=column,
        y=y,
        z=z,
        z_names=("train", "validation", "test", "unlabelled"),
        n_classes=N_CLASSES,
        modality="graph",
        x_shape=(column.n_features,),
    )


TRAIN_AND_TEST = (
    ByZSplitter(parts_names=("train", "rest"), z_labels=("train",)),
    ByZSplitter(parts_names=("test", "-"), ref_data="rest", z_labels=("test",)),
)

REQUESTS = {
    "nodes": (
        ListSplitter(parts_names=("gone", "-"), samples_ids=FORGOTTEN),
        GraphRequestSplitter(nodes="gone"),
    ),
    "edges": (
        GraphEdgesSplitter(parts_names=("gone", "-"), ref_data="train", percentage=0.1),
        GraphRequestSplitter(edges="gone"),
    ),
    "features": (
        ListSplitter(parts_names=("gone", "-"), samples_ids=FORGOTTEN),
        GraphRequestSplitter(features_of="gone"),
    ),
}


def requested(kind, data=None, *further, seed=0):
    """A data set with a request, and its partitions."""
    data = blocks() if data is None else data
    splitters = (*TRAIN_AND_TEST, *REQUESTS[kind], *further)
    partitions = build_partitions(data, splitters, seed)
    for splitter in splitters:
        data = splitter.prepared(data, partitions)
    return data, partitions


def task_on(data, partitions, **fields):
    return UnlearningContext(
        x=data.x,
        y=data.y,
        partitions=partitions,
        model_input=ModelInput(x_shape=data.x_shape, n_classes=data.n_classes, task="classification", modality="graph"),
        criterion=Criterion("classification"),
        streams=Streams(7),
        batch_size=N_NODES,
        **fields,
    )


class Squares:
    """Squared distance of the logits to the one-hot label."""

    def per_sample(self, logits, y):
        return (logits - torch.nn.functional.one_hot(y, N_CLASSES)).square().sum(1)

    def over_samples(self, logits, y):
        return self.per_sample(logits, y).mean()

    def __call__(self, logits, y):
        return self.over_samples(logits, y)


class Linear(nn.Module):
    """Two steps of the mean over neighbours and the node itself, then a linear layer: a network that is linear in its weights."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        with isolated(1):
            self.layer = nn.Linear(N_FEATURES, N_CLASSES).to(dtype)

    def forward(self, batch):
        x = batch.x
        degree = torch.ones(len(x), dtype=x.dtype).index_add(
            0, batch.edge_index[1], torch.ones(batch.edge_index.shape[1], dtype=x.dtype)
        )
        for _ in range(2):
            x = x.index_add(0, batch.edge_index[1], x.index_select(0, batch.edge_index[0])) / degree[:, None]
        return self.layer(x.index_select(0, batch.rows))


def with_noise(data, nodes, seed=5):
    """Other features for some nodes, and their edges drawn at random: as many directed edges, in other places of the list."""
    generator = torch.Generator().manual_seed(seed)
    column = data.x
    x = column.x.clone()
    x[nodes] = 100 * torch.randn(len(nodes), x.shape[1], generator=generator).to(x.dtype)
    kept = ~torch.isin(column.edge_index, nodes).any(0)
    ends = torch.randint(0, len(x), (2, 30), generator=generator)
    ends[0] = nodes[torch.randint(0, len(nodes), (30,), generator=generator)]
    ends = ends[:, ends[0] != ends[1]]
    others = column.edge_index[:, kept]
    edge_index = torch.cat([ends, others[:, :11], ends.flip(0), others[:, 11:]], dim=1)
    return replace(data, x=NodeColumn(x, edge_index))


def outputs_of(data, ids, logits):
    """What a model with these logits of every node says of samples."""
    return Outputs(ids=ids, logits=logits[ids % N_NODES], losses=torch.zeros(len(ids)), labels=data.y[ids % N_NODES])


def evaluation_of(data, partitions, outputs, **fields):
    """An unlearned model that says ``outputs(partition)``, ready to be measured."""
    return Evaluation(
        subject=SimpleNamespace(kind="unlearned", role="unlearned", outputs=outputs),
        references={},
        partition_ids=partitions,
        x=data.x,
        y=data.y,
        model_input=ModelInput(x_shape=(N_FEATURES,), n_classes=N_CLASSES, task="classification", modality="graph"),
        criterion=Criterion("classification"),
        streams=Streams(3),
        **fields,
    )
