"""What is said of the device that a run computes on."""

import torch

from erasure.training.devices import emulated_precision


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
