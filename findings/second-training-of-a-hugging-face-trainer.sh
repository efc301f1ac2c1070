#!/usr/bin/env bash
# train() of a transformers Trainer, called a second time, keeps the optimizer: Adam starts from the moments and the step count of the first.
# Expected: a second train() starts afresh, as its schedule of the learning rate does. Unlearning with the Trainer that trained the model
# therefore is another method than with a new one. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import copy
import sys
import tempfile

import torch
import transformers
from torch import nn
from transformers import Trainer, TrainingArguments

print("torch", torch.__version__, "transformers", transformers.__version__)


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, labels):
        return {"loss": (self.layer(x) - labels).square().mean()}


class Rows(torch.utils.data.Dataset):
    def __init__(self, n):
        self.x = torch.randn(n, 2)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return {"x": self.x[row], "labels": torch.ones(1)}


def trainer(model, rows, folder):
    quiet = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    settings = TrainingArguments(output_dir=folder, num_train_epochs=1, per_device_train_batch_size=4, learning_rate=0.1, **quiet)
    return Trainer(model, settings, train_dataset=rows)


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    model, rows = Regression(), Rows(8)
    first = trainer(model, rows, folder)
    first.train()
    twin = copy.deepcopy(model)
    rate = first.lr_scheduler.get_last_lr()[0]
    first.train()
    trainer(twin, rows, folder).train()
steps = int(next(iter(first.optimizer.state.values()))["step"])
print(f"learning rate after the first training: {rate}")
print(f"steps that the optimizer counts after the second training of 2 steps: expected 2, seen {steps}")
far = (model.layer.weight - twin.layer.weight).abs().max().item()
print(f"largest difference to a new Trainer on the same model and data: expected 0, seen {far:.3f}")
sys.exit(0 if steps == 4 and far > 0 else 1)
PYTHON
