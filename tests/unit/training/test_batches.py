"""Batches: every sample once an epoch, as the column says, in the order of the stream."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure.training.batches import Batches, TensorColumn


@given(n=st.integers(0, 300), size=st.integers(1, 70), width=st.sampled_from([1, 3, 700]), seed=st.integers(0, 5))
def test_an_epoch_holds_every_sample_once_with_its_own_label(n, size, width, seed):
    x = torch.arange(400.0)[:, None].expand(400, width).contiguous()
    y = torch.arange(400)
    ids = torch.randperm(400, generator=torch.Generator().manual_seed(seed))[:n]
    batches = Batches(TensorColumn(x), y, ids, size, torch.Generator().manual_seed(seed))
    seen = list(batches)
    assert len(seen) == len(batches)
    assert sorted(i for b in seen for i in b.ids.tolist()) == sorted(ids.tolist())
    assert all(len(b.y) == size for b in seen[:-1])
    assert all(torch.equal(b.x[:, 0].long(), b.y) and torch.equal(b.y, b.ids) for b in seen)


def test_without_a_generator_the_order_of_the_partition_is_kept():
    ids = torch.tensor([5, 2, 9])
    batches = Batches(TensorColumn(torch.zeros(10, 1)), torch.arange(10), ids, 2)
    assert [b.ids.tolist() for b in batches] == [[5, 2], [9]]


def test_every_pass_is_shuffled_anew():
    batches = Batches(TensorColumn(torch.zeros(50, 1)), torch.arange(50), torch.arange(50), 50, torch.Generator().manual_seed(0))
    first, second = next(iter(batches)).ids, next(iter(batches)).ids
    assert not torch.equal(first, second)


def test_images_stay_bytes_until_the_batch():
    column = TensorColumn(torch.full((4, 1, 2, 2), 255, dtype=torch.uint8), scale=1 / 255)
    batch = next(iter(Batches(column, torch.zeros(4), torch.arange(4), 4)))
    assert column.values.dtype == torch.uint8
    assert batch.x.dtype == torch.float32
    assert torch.allclose(batch.x, torch.ones(()))


def test_normalisation_follows_scaling():
    column = TensorColumn(
        torch.tensor([[0], [255]], dtype=torch.uint8), scale=1 / 255, mean=torch.tensor([0.5]), std=torch.tensor([0.5])
    )
    assert column.gather(torch.tensor([0, 1])).flatten().tolist() == pytest.approx([-1.0, 1.0])
