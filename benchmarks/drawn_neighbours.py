"""What a step costs that reads a few neighbours of each node, on a generated graph, and what evaluating all nodes exactly costs.

One thread, CPU seconds. A GraphSAGE or GCN of two layers is trained on 10 and 5 neighbours in steps of 1,024 nodes, after a step that
reads whole neighbourhoods; then logits of all nodes are computed from all neighbours, layer by layer. The graph of the scale test takes
minutes and some 12 GiB: ``--nodes 2400000 --edges 60000000 --features 32``.

Run ``python benchmarks/drawn_neighbours.py``; exits with 1 if a GCN's step on drawn neighbours takes as long as one on whole ones.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
import warnings

import torch
import torch.nn.functional as F
from graph_requests import generated, seconds

from erasure.models.graph import GNN
from erasure.training.graphs import NodeBatch, NodeColumn
from erasure.training.neighbours import sampled_column
from erasure.training.predictor import ModelInput, build_model

FAN_OUTS, HIDDEN, SEEDS, CLASSES, STEPS = (10, 5), 64, 1024, 10, 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conv", choices=("gcn", "sage"), default="gcn", help="the network")
    parser.add_argument("--nodes", type=int, default=120_000, help="nodes of the generated graph")
    parser.add_argument("--edges", type=int, default=3_000_000, help="its edges, each counted once")
    parser.add_argument("--features", type=int, default=32, help="its features")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_num_threads(1)
    start = time.process_time()
    column = NodeColumn(*generated(asked.nodes, asked.edges, asked.features))
    y = torch.randint(CLASSES, (asked.nodes,), generator=torch.Generator().manual_seed(2))
    family = GNN(conv=asked.conv, hidden=HIDDEN, layers=len(FAN_OUTS), dense_layers=0, batch_norm=False)
    model = build_model(family, ModelInput((asked.features,), CLASSES, "classification", "graph"), 0, torch.device("cpu"))
    few = sampled_column(model, column, FAN_OUTS, torch.Generator().manual_seed(3))
    order = torch.randperm(asked.nodes, generator=torch.Generator().manual_seed(4))
    sizes: list[int] = []

    def step(ids: torch.Tensor, whole: bool) -> None:
        batch = view.gather(ids) if whole else drawn.gather(ids)
        assert isinstance(batch, NodeBatch)
        sizes.append(batch.n_nodes)
        model.zero_grad()
        F.cross_entropy(model(batch)[1], y[ids]).backward()

    view, drawn = column.within(order), few.within(order)
    _ = view.messages if asked.conv == "gcn" else view.arriving
    print(
        f"{asked.nodes:,} nodes, {asked.edges:,} edges, {asked.features} features: ready after {time.process_time() - start:.1f} s"
    )
    model.train()
    batches = [order[SEEDS * i : SEEDS * (i + 1)] for i in range(min(STEPS, asked.nodes // SEEDS))]
    step(batches[0], False)
    spent = statistics.median(seconds(lambda ids=ids: step(ids, False)) for ids in batches)
    print(f"a step of {SEEDS:,} nodes on {FAN_OUTS} neighbours: {spent * 1e3:.0f} ms, {sizes[-1]:,} nodes read")
    missed = False
    if asked.conv == "gcn":  # GraphSAGE's messages over all edges do not fit while it learns
        whole = seconds(lambda: step(batches[0], True))
        print(f"  on whole neighbourhoods {whole:.2f} s, ratio {spent / whole:.4f}")
        missed = spent >= whole
    model.eval()
    with torch.no_grad():
        exact = seconds(lambda: model(view.gather(order)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"all nodes from all neighbours: {exact:.1f} s; peak {peak:.1f} GiB")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
