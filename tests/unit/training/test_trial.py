from __future__ import annotations

import torch
from torch import nn

from erasure.training.trial import deep_copy


def test_a_copy_has_hooks_of_its_own_and_keeps_those_there_are():
    seen = []
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[0].register_forward_hook(lambda *_: seen.append("both"))
    copied = deep_copy(model)
    copied[1].register_forward_hook(lambda *_: seen.append("copy"))
    model(torch.ones(1, 2))
    assert seen == ["both"]
    copied(torch.ones(1, 2))
    assert seen == ["both", "both", "copy"]
    owned = [vars(module)[name] for module in (*model, *copied) for name in ("_forward_hooks", "_backward_hooks", "_buffers")]
    assert len({id(each) for each in owned}) == len(owned)


def test_a_copy_shares_what_the_original_shares():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    copied = deep_copy(model)
    assert copied[1].weight is copied[0].weight
    assert copied[0].weight is not model[0].weight
