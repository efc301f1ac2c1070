#!/usr/bin/env bash
# A Lightning Trainer that has run its epochs trains no other model: a second fit() returns at once, and no weight has moved.
# Expected: another fit() trains again, all the more on another model. Whoever unlearns by fitting on the retained data with the Trainer
# of the first training has the original. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 pytorch-lightning==2.6.6 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
import warnings

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
print("torch", torch.__version__, "pytorch_lightning", lightning.__version__)


class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch, index):
        return (self.layer(batch[0]) - 1).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer():
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(max_epochs=2, accelerator="cpu", **quiet)


def moved(by, model, batches):
    before = model.layer.weight.detach().clone()
    by.fit(model, batches)
    return not torch.equal(before, model.layer.weight)


torch.manual_seed(0)
whole, retained = (DataLoader(TensorDataset(torch.randn(n, 2)), batch_size=4) for n in (16, 12))
first, model = trainer(), Regression()
found = {
    "first fit": moved(first, model, whole),
    "second fit of the same Trainer, on other data": moved(first, model, retained),
    "the same Trainer, another model": moved(first, Regression(), retained),
    "a new Trainer": moved(trainer(), model, retained),
}
for case, trained in found.items():
    print(f"{case}: expected weights that move, seen {'weights that move' if trained else 'none'}")
sys.exit(0 if list(found.values()) == [True, False, False, True] else 1)
PYTHON
