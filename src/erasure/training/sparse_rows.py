"""Features of nodes that are mostly zero, such as bags of words, and the first layer of a network that reads them."""

from __future__ import annotations

import importlib
import inspect
import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeatureLinear", "GraphConvolution", "SparseRows"]

_MAX_FILLED = 0.1
"""Share of entries that are not zero; above it, a dense product is as fast."""


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A matrix ``(n, F)`` by its entries that are not zero, row after row.

    Args:
        values: The entries, shape ``(m,)``.
        columns: Their columns, shape ``(m,)``, int64.
        pointers: Row i has the entries ``pointers[i]`` to ``pointers[i + 1] - 1``; shape ``(n + 1,)``, int64.
        n_columns: ``F``.
    """

    values: Tensor
    columns: Tensor
    pointers: Tensor
    n_columns: int

    @classmethod
    def of_edges(cls, edge_index: Tensor, weights: Tensor, n_nodes: int) -> SparseRows:
        """The matrix that adds up messages: in row v the weight of each edge ``(u, v)`` in column u, edges in their order.

        Args:
            edge_index: From and to which node each edge goes, shape ``(2, m)``, int64.
            weights: Shape ``(m,)``.
            n_nodes: ``n``; the matrix is ``(n, n)``.
        """
        order = torch.argsort(edge_index[1], stable=True)
        return cls(weights[order], edge_index[0, order], _pointers(edge_index[1], n_nodes), n_nodes)

    @classmethod
    def of(cls, x: Tensor) -> SparseRows | None:
        """A dense matrix's entries, or None where more than a tenth of them are not zero. On an accelerator it waits once or twice."""
        if x.ndim != 2 or not x.is_floating_point() or not x.numel():
            return None
        if int(torch.count_nonzero(x)) > _MAX_FILLED * x.numel():
            return None
        rows, columns = x.nonzero(as_tuple=True)
        return cls(x[rows, columns], columns, _pointers(rows, len(x)), x.shape[1])

    def __len__(self) -> int:
        return len(self.pointers) - 1

    @property
    def shape(self) -> torch.Size:
        """``(n, F)``."""
        return torch.Size((len(self), self.n_columns))

    @cached_property
    def rows(self) -> Tensor:
        """Row of each entry, shape ``(m,)``."""
        positions = torch.arange(len(self), device=self.columns.device)
        return torch.repeat_interleave(positions, self.pointers.diff(), output_size=len(self.columns))

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """Entries in the order of their columns: that order, their rows, and where each column begins."""
        order = torch.argsort(self.columns, stable=True)
        return order, self.rows[order], _pointers(self.columns, self.n_columns)

    def transposed(self) -> SparseRows:
        """The matrix ``(F, n)``; made once, and its own transpose is this matrix."""
        own = vars(self)
        before = own["_before"]() if "_before" in own else None
        if before is not None:
            return before  # type: ignore[no-any-return]
        found: SparseRows | None = own.get("_transposed")
        if found is None:
            order, rows, pointers = self.by_column
            found = own["_transposed"] = SparseRows(self.values[order], rows, pointers, len(self))
            vars(found)["_before"] = weakref.ref(self)
        return found

    def dropped_out(self, p: float) -> SparseRows:
        """With each entry that is not zero dropped with probability ``p``, the others scaled, as dropout does while training."""
        thinned = replace(self, values=F.dropout(self.values, p, training=True))
        # Where the entries are does not change: it is found once for all steps of a training.
        vars(thinned).update(rows=self.rows, by_column=self.by_column)
        return thinned

    def dense(self) -> Tensor:
        """The matrix, zeros included."""
        filled = self.values.new_zeros(len(self) * self.n_columns)
        return filled.index_copy_(0, self.rows * self.n_columns + self.columns, self.values).view(len(self), self.n_columns)

    def chosen(self, ids: Tensor) -> SparseRows:
        """Rows ``ids``, in that order."""
        counts = self.pointers.diff().index_select(0, ids)
        ends = counts.cumsum(0)
        owners = torch.repeat_interleave(torch.arange(len(ids), device=ids.device), counts)
        shift = self.pointers.index_select(0, ids) - (ends - counts)
        entries = torch.arange(len(owners), device=ids.device) + shift.index_select(0, owners)
        pointers = torch.cat([ends.new_zeros(1), ends])
        found = SparseRows(self.values.index_select(0, entries), self.columns.index_select(0, entries), pointers, self.n_columns)
        vars(found)["rows"] = owners
        return found

    def times(self, matrix: Tensor) -> Tensor:
        """The product with ``matrix``, shape ``(F, d)``; gradients, of any order, flow to the matrix."""
        product: Tensor = _Product.apply(matrix, self)  # type: ignore[no-untyped-call]
        return product

    def product(self, matrix: Tensor) -> Tensor:
        """The same where nobody asks for gradients, without what keeping them ready costs."""
        return _Product.forward(matrix, self)


class _Product(torch.autograd.Function):
    """Sparse times dense. The sparse matrix is a constant, and its transpose is what the gradient is multiplied by."""

    @staticmethod
    def forward(matrix: Tensor, sparse: SparseRows) -> Tensor:
        values = sparse.values.to(matrix.dtype)
        # mode 0: the sum, without the checks of F.embedding_bag, which cost as much as a small product.
        return torch.embedding_bag(matrix.contiguous(), sparse.columns, sparse.pointers[:-1], False, 0, False, values)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, SparseRows], output: Tensor) -> None:
        ctx.sparse = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        across = ctx.sparse.transposed()
        if torch.is_grad_enabled():
            return across.times(gradients[0]), None
        # Nobody differentiates further: what the function keeps for that costs as much as a small product.
        return _Product.forward(gradients[0], across), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        product: Tensor = ctx.sparse.times(tangents[0])
        return product


# torch looks at the signature in each call, which takes as long as a small product if it has to be found out.
_Product.forward.__signature__ = inspect.signature(_Product.forward)  # type: ignore[attr-defined]


class FeatureLinear(nn.Linear):
    """A linear layer without bias that reads node features, dense or as :class:`SparseRows`.

    Args:
        weight: Of the layer it replaces, shape ``(d, F)``; shared with it.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = weight

    def reset_parameters(self) -> None:
        """Draw the weights as PyTorch Geometric draws them for its convolutions."""
        if self.weight.device.type != "meta":
            importlib.import_module("torch_geometric.nn.inits").glorot(self.weight)

    def forward(self, input: Tensor | SparseRows) -> Tensor:  # noqa: A002
        """The product with the weights, shape ``(n, d)``."""
        return input.times(self.weight.t()) if isinstance(input, SparseRows) else F.linear(input, self.weight)


class GraphConvolution(nn.Module):
    """The convolution of a GCN: the weighted sum of the neighbours' products with the weights, and a bias.

    Args:
        weight: Shape ``(d, F)``.
        bias: Shape ``(d,)``.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__()
        self.lin: FeatureLinear = FeatureLinear(weight)
        self.bias = bias

    def reset_parameters(self) -> None:
        """Draw the weights again; the bias is 0."""
        self.lin.reset_parameters()
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor | SparseRows, messages: SparseRows) -> Tensor:
        """Vectors of the nodes, ``(n, d)``, from their features and the weights of the edges."""
        return messages.times(self.lin(x)) + self.bias


def _pointers(sorted_or_not: Tensor, n: int) -> Tensor:
    """Where each of ``n`` groups begins, and the end, once the entries are sorted by group."""
    return F.pad(torch.bincount(sorted_or_not, minlength=n).cumsum(0), (1, 0))
