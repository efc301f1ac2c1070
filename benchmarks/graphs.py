"""Our training loop on graphs against a plain loop over PyTorch Geometric's ``DataLoader``.

Both train a GIN of the same shape on the same random graphs, in turn, on one thread, and the median of the ratios is what counts; the
time to cut a batch is compared as well. Run it with ``python benchmarks/graphs.py``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from erasure.data.graphs import graph_column
from erasure.models.graph import GNN
from erasure.training.batches import Batches
from erasure.training.calls import Criterion, Optimizer
from erasure.training.graphs import GraphColumn, torch_geometric
from erasure.training.predictor import ModelInput, Predictor, build_model, train

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
N_GRAPHS, N_FEATURES, HIDDEN = 640, 7, 64
LIMIT = 1.05


class PlainGIN(nn.Module):
    """What one would write by hand."""

    def __init__(self, library: object) -> None:
        super().__init__()
        self.library: object = library
        widths = (N_FEATURES, HIDDEN, HIDDEN)
        self.convs = nn.ModuleList(
            library.GINConv(nn.Sequential(nn.Linear(w, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN)))
            for w in widths
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(HIDDEN) for _ in widths)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, batch: object) -> torch.Tensor:
        x = batch.x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, batch.edge_index)))
        return self.head(self.library.global_mean_pool(x, batch.batch))


def random_graphs() -> list[object]:
    """Sparse graphs of 10 to 40 nodes with a class each."""
    data = torch_geometric("data", "the benchmark")
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for number in range(N_GRAPHS):
        n = int(torch.randint(10, 41, (), generator=generator))
        edges = torch.randint(0, n, (2, 2 * n), generator=generator)
        x = torch.randn(n, N_FEATURES, generator=generator)
        graphs.append(data.Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=torch.tensor([number % 2])))
    return graphs


def plain_loop(graphs: list[object]) -> float:
    """Seconds of an epoch of the plain loop."""
    torch.manual_seed(0)
    model = PlainGIN(torch_geometric("nn", "the benchmark")).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    loader = torch_geometric("loader", "the benchmark").DataLoader(graphs, BATCH_SIZE, shuffle=True)
    start = time.perf_counter()
    for batch in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch), batch.y)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def our_loop(x: GraphColumn, y: torch.Tensor) -> float:
    """Seconds of an epoch of ours."""
    model = GNN(conv="gin", hidden=HIDDEN)
    network = build_model(model, ModelInput(x.sample_shape, 2, modality="graph"), 0, torch.device("cpu"))
    predictor = Predictor(model=model, epochs=1, optimizer=Optimizer.of("Adam", lr=LEARNING_RATE))
    ids, criterion = torch.arange(len(x)), Criterion("classification")
    start = time.perf_counter()
    train(network, predictor, x=x, y=y, ids=ids, criterion=criterion, seed=0, batch_size=BATCH_SIZE)
    return time.perf_counter() - start


def seconds_per_batch(batches: object) -> float:
    """Seconds to cut a batch, by a pass over all of them."""
    start, n_batches = time.perf_counter(), 0
    for _ in batches:
        n_batches += 1
    return (time.perf_counter() - start) / n_batches


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of epochs to compare")
    pairs = parser.parse_args().pairs
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_num_threads(1)
    graphs = random_graphs()
    x, y = graph_column("random", graphs), torch.cat([graph.y for graph in graphs])
    our_loop(x, y), plain_loop(graphs)  # both have run once before they are timed
    times = [(our_loop(x, y), plain_loop(graphs)) for _ in range(pairs)]
    ratio = statistics.median(ours / plain for ours, plain in times)
    ours, plain = (statistics.median(each) for each in zip(*times, strict=True))
    print(
        f"GIN on {N_GRAPHS} graphs: {ours * 1e3:.1f} ms an epoch, plain {plain * 1e3:.1f} ms, ratio {ratio:.2f} (limit {LIMIT})"
    )
    loader = torch_geometric("loader", "the benchmark").DataLoader(graphs, BATCH_SIZE, shuffle=True)
    generator = torch.Generator().manual_seed(0)
    batch, collated = seconds_per_batch(Batches(x, y, torch.arange(len(x)), BATCH_SIZE, generator)), seconds_per_batch(loader)
    print(f"a batch of {BATCH_SIZE}: {batch * 1e3:.2f} ms, DataLoader {collated * 1e3:.2f} ms")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
