#!/usr/bin/env bash
# Reading a DataLoader to its end draws from the global random numbers, also without shuffling, workers or augmentation.
# Expected: evaluating between two epochs leaves the second as it would have been. Seen: another order of its batches; a generator of
# its own for each loader is the cure. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch.utils.data import DataLoader, TensorDataset

print("torch", torch.__version__)
rows = TensorDataset(torch.tensor(range(8)))


def second_epoch(evaluation):
    torch.manual_seed(0)
    training = DataLoader(rows, batch_size=8, shuffle=True)
    list(training)
    if evaluation is not None:
        list(evaluation)
    return next(iter(training))[0].tolist()


alone = second_epoch(None)
plain = second_epoch(DataLoader(rows, batch_size=4))
separate = second_epoch(DataLoader(rows, batch_size=4, generator=torch.Generator()))
print(f"second epoch without an evaluation before it:   {alone}")
print(f"after reading an unshuffled loader: expected the same, seen {plain}")
print(f"after reading one with a generator of its own:  {separate}")
sys.exit(0 if plain != alone and separate == alone else 1)
PYTHON
