#!/usr/bin/env bash
# torchmetrics has two accuracies of several classes: Accuracy(task="multiclass") is the share of samples, MulticlassAccuracy the mean over
# classes (balanced), by defaults that differ. Expected: one value, since the first is said to be a door to the second.
# On a forget set of unequal classes, the two tell different stories. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 torchmetrics==1.9.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torchmetrics
from torchmetrics.classification import Accuracy, MulticlassAccuracy
from torchmetrics.functional.classification import accuracy, multiclass_accuracy

print("torch", torch.__version__, "torchmetrics", torchmetrics.__version__)
predicted, labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
found = {
    'Accuracy(task="multiclass")': Accuracy(task="multiclass", num_classes=2)(predicted, labels),
    'accuracy(task="multiclass")': accuracy(predicted, labels, task="multiclass", num_classes=2),
    "MulticlassAccuracy": MulticlassAccuracy(num_classes=2)(predicted, labels),
    "multiclass_accuracy": multiclass_accuracy(predicted, labels, num_classes=2),
}
for name, value in found.items():
    print(f"{name}: nine of ten right, expected 0.90, seen {value:.2f}")
sys.exit(0 if [round(float(value), 2) for value in found.values()] == [0.9, 0.9, 0.75, 0.75] else 1)
PYTHON
