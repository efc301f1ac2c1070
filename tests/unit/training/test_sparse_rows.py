"""Sparse features say what dense ones say: products, gradients of every order, rows, dropout."""

import pytest
import torch
from torch.func import grad, jvp

from erasure.training.sparse_rows import FeatureLinear, SparseRows


@pytest.fixture
def dense():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 20, generator=generator, dtype=torch.float64)
    return x * (torch.rand(x.shape, generator=generator) < 0.07)


@pytest.fixture
def matrix():
    return torch.randn(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_rows_and_columns_without_entries_are_kept(dense):
    sparse = SparseRows.of(dense)
    assert (dense == 0).all(1).any()
    assert torch.equal(sparse.dense(), dense)
    assert torch.equal(sparse.transposed().dense(), dense.t())
    assert torch.equal(sparse.chosen(torch.tensor([3, 29, 3, 0])).dense(), dense[[3, 29, 3, 0]])
    assert sparse.shape == dense.shape


def test_a_matrix_that_is_not_nearly_all_zero_is_left_dense():
    assert SparseRows.of(torch.ones(3, 3)) is None
    assert SparseRows.of(torch.zeros(0, 3)) is None
    assert SparseRows.of(torch.zeros(3, 3)).dense().sum() == 0


def test_products_have_the_gradients_of_a_dense_product(dense, matrix):
    sparse, free = SparseRows.of(dense), matrix.clone().requires_grad_()
    assert torch.allclose(sparse.times(matrix), dense @ matrix)
    assert torch.autograd.gradcheck(sparse.times, free)
    assert torch.autograd.gradgradcheck(lambda m: sparse.times(m).square(), free)
    there = torch.ones_like(matrix)
    found = jvp(grad(lambda m: sparse.times(m).sin().sum()), (matrix,), (there,))[1]
    assert torch.allclose(found, jvp(grad(lambda m: (dense @ m).sin().sum()), (matrix,), (there,))[1])


def test_dropout_scales_what_it_keeps_and_never_fills_a_zero(dense):
    torch.manual_seed(0)
    sparse = SparseRows.of(dense)
    dropped = sparse.dropped_out(0.25)
    kept = dropped.dense() != 0
    assert 0 < kept.sum() < (dense != 0).sum()
    assert torch.allclose(dropped.dense()[kept], dense[kept] / 0.75)
    assert torch.equal(dropped.transposed().dense(), dropped.dense().t())


def test_the_layer_reads_both_forms_and_can_be_drawn_again(dense):
    weight = torch.nn.Parameter(torch.randn(4, 20, dtype=torch.float64))
    layer = FeatureLinear(weight)
    assert layer.weight is weight
    assert torch.allclose(layer(SparseRows.of(dense)), layer(dense))
    before = weight.detach().clone()
    pytest.importorskip("torch_geometric")
    layer.reset_parameters()
    assert not torch.equal(weight, before)
