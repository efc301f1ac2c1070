"""What people hold, given to the Python door."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import erasure
from erasure.errors import DataError, RequirementNotMet


class WithMask(nn.Module):
    """A classifier of texts that is called as those of transformers are."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).float()
        return self.head((self.embedding(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_rows_with_masks_reach_the_model_by_name():
    model = WithMask()
    rows = [{"input_ids": [k % 9 + 1, 2, 0], "attention_mask": [1, 1, 0], "label": k % 2} for k in range(12)]
    before = copy.deepcopy(model.state_dict())
    made = erasure.unlearn(model, "Finetuning", forget=rows[:4], retain=rows[4:])
    assert not torch.equal(weights(made), weights(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ids, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[1, 1, 0]])
    assert made(ids, mask).shape == (1, 2)
    assert not any(module._forward_pre_hooks for module in (*made.modules(), *model.modules()))


def test_double_precision_is_taken_in_the_models_own_type():
    model, x, y = nn.Linear(3, 2), np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
    made = erasure.unlearn(model, "Finetuning", forget=(x[:4], y[:4]), retain=(x[4:], y[4:]))
    single = x.astype(np.float32)
    same = erasure.unlearn(model, "Finetuning", forget=(single[:4], y[:4]), retain=(single[4:], y[4:]))
    assert torch.equal(weights(made), weights(same))


def test_texts_must_name_every_output_of_the_model():
    model, x = nn.Linear(3, 3), torch.zeros(4, 3)
    few, many = np.array(["a", "b", "a", "b"]), np.array(["a", "b", "c", "d"])
    with pytest.raises(DataError, match="nobody knows which is which"):
        erasure.unlearn(model, "Finetuning", forget=(x, few), retain=(x, few))
    with pytest.raises(DataError, match='the model cannot have "d"'):
        erasure.unlearn(model, "Finetuning", forget=(x, few), retain=(x, many))


def test_a_model_of_another_library_gets_a_sentence():
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(RequirementNotMet, match=r"LogisticRegression.*torch\.nn\.Module"):
        erasure.unlearn(LogisticRegression(), forget=None)
