#!/usr/bin/env bash
# Per-sample gradients of opacus do not know padding_idx of an embedding: the row of the padding token gets a gradient, where that of
# torch is zero. Expected: the per-sample gradients add up to the gradient. Importances and private training made from them change the
# padding vector, and samples with more padding are clipped harder. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 opacus==1.6.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import opacus
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

warnings.filterwarnings("ignore")
print("torch", torch.__version__, "opacus", opacus.__version__)
tokens = torch.tensor([[3, 1, 0, 0], [2, 4, 1, 0]])  # 0 is padding


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 3, padding_idx=0), nn.Flatten(), nn.Linear(12, 1))


plain = network()
plain(tokens).sum().backward()
watched = GradSampleModule(network(), loss_reduction="sum")
watched(tokens).sum().backward()
summed = watched._module[0].weight.grad_sample.sum(0)
for row, name in ((0, "padding"), (1, "a token of both texts")):
    print(f"gradient of {name}: torch {plain[0].weight.grad[row].tolist()}, sum of per-sample gradients {summed[row].tolist()}")
same = [torch.allclose(plain[0].weight.grad[row], summed[row], atol=1e-6) for row in range(5)]
print(f"rows whose sums agree: expected all five, seen {sum(same)}")
sys.exit(0 if same == [False, True, True, True, True] else 1)
PYTHON
