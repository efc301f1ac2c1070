"""What is said of the device that a run computes on."""

import torch

from erasure.training.devices import emulated_precision, rounded_steps


def test_a_processor_that_emulates_bfloat16_is_told_of():
    plain, half = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).bfloat16()
    told = [emulated_precision("cpu", "fp32", half), emulated_precision("cpu", "bf16", plain)]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert told == [None, None]
    else:
        assert 'dtype "float32"' in told[0]
        assert "--precision" in told[1]
    assert emulated_precision("cpu", "fp32", plain) is None
    assert emulated_precision("cuda", "bf16", half) is None


def test_weights_of_few_bits_that_are_trained_are_told_of():
    half = torch.nn.Linear(2, 2).bfloat16()
    told = rounded_steps(half)
    assert told is not None
    weight = half.weight.detach()
    share = float(told.partition("less than some ")[2].partition("th of")[0])
    assert torch.equal(weight * (1 + 0.49 / share), weight)
    assert not (weight * (1 + 2.1 / share) == weight).any()
    half.requires_grad_(False)
    assert rounded_steps(torch.nn.Sequential(half, torch.nn.Linear(2, 2))) is None
    assert "float16 are trained" in rounded_steps(torch.nn.Linear(2, 2).half())
