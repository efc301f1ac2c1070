#!/usr/bin/env bash
# Three doors of torch_geometric that take an undirected graph for a directed one, or change it:
# 1. RandomLinkSplit() by default hides one direction of a test edge and leaves the other in the graph that the model reads.
# 2. to_undirected() of a graph that is undirected already doubles all its edge weights.
# 3. negative_sampling() returns fewer pairs than were asked for.
# Expected: test edges are hidden, an undirected graph stays as it is, as many pairs as asked. Exits with 1 when one has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 torch_geometric==2.8.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import itertools
import sys

import torch
import torch_geometric
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import negative_sampling, to_undirected

print("torch", torch.__version__, "torch_geometric", torch_geometric.__version__)
torch.manual_seed(0)
pairs = [pair for pair in itertools.combinations(range(30), 2) if torch.rand(1) < 0.2]
edges = torch.tensor(pairs + [(b, a) for a, b in pairs]).T
graph = Data(x=torch.randn(30, 2), edge_index=edges)
print("the graph is undirected:", graph.is_undirected())
shown = {}
for name, options in {"by default": {}, "with is_undirected=True": {"is_undirected": True}}.items():
    *_, test = RandomLinkSplit(num_val=0.1, num_test=0.2, add_negative_train_samples=False, **options)(graph)
    known = set(map(tuple, test.edge_index.T.tolist()))
    hidden = test.edge_label_index[:, test.edge_label == 1].T.tolist()
    shown[name] = sum((b, a) in known for a, b in hidden)
    print(f"RandomLinkSplit {name}: test edges that the model reads in the other direction: expected 0, seen {shown[name]} of {len(hidden)}")
weights = to_undirected(edges, torch.ones(edges.size(1)))[1]
print(f"weight of every edge after to_undirected: expected 1, seen {weights.unique().tolist()}")
drawn = negative_sampling(torch.tensor([[0, 1], [1, 0]]), num_nodes=4, num_neg_samples=20).size(1)
print(f"negative pairs for 20 asked for: expected 20 or an error, seen {drawn}")
sys.exit(0 if shown["by default"] > 0 and not shown["with is_undirected=True"] and bool((weights == 2).all()) and drawn < 20 else 1)
PYTHON
