#!/usr/bin/env bash
# Weight decay within the gradient (Adam, NAdam, Adamax, RMSprop, Adagrad) is divided by its own size like any gradient: a weight whose
# gradient is masked to zero moves nearly as fast under a decay of 1e-8 as under 1e-4. AdamW and SGD move it in proportion to the decay.
# Expected: a decay ten thousand times smaller moves a weight about ten thousand times less. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch import nn

print("torch", torch.__version__)


def moved(optimizer, decay):
    weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
    steps = optimizer([weight], lr=0.01, weight_decay=decay)
    for _ in range(100):
        steps.zero_grad()
        weight.square().sum().backward()
        weight.grad[0] = 0  # the first weight is not to be changed
        steps.step()
    return 1 - weight[0].item()


adaptive = (torch.optim.Adam, torch.optim.NAdam, torch.optim.Adamax, torch.optim.RMSprop, torch.optim.Adagrad)
shares = {}
for optimizer in (*adaptive, torch.optim.AdamW, torch.optim.SGD):
    large, small = moved(optimizer, 1e-4), moved(optimizer, 1e-8)
    shares[optimizer] = small / large
    print(f"{optimizer.__name__}: a masked weight of 1 moves by {large:.2e} under 1e-4, by {small:.2e} under 1e-8; expected share 1e-4, seen {small / large:.1e}")
sys.exit(0 if all((share > 0.3) == (optimizer in adaptive) for optimizer, share in shares.items()) else 1)
PYTHON
