"""A model of links: a graph network gives each node a vector, and the product of two vectors says whether there is an edge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.forward import logits_of
from erasure.training.links import LinkBatch
from erasure.training.predictor import Model, ModelInput
from erasure.types import PositiveInt, Source

__all__ = ["LinkPredictor"]


@dataclass(frozen=True, kw_only=True)
class LinkPredictor(Model):
    r"""The probability of an edge between u and v is :math:`\sigma(z_u^\top z_v)`, with vectors z from a graph network.

    Args:
        encoder: Gives the vectors: a model of nodes, such as a ``GNN`` whose last convolution gives them (``dense_layers`` 0).
        size: Length of a vector.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kipf, Welling, NeurIPS Workshop 2016, arXiv:1611.07308 (inner-product decoder)",
        deviations=("Pairs without an edge are drawn once with the data, not in every step.",),
    )

    encoder: Model
    size: PositiveInt = 16

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        if data.task != "binary" or data.modality != "graph":
            raise RequirementNotMet(
                f"LinkPredictor says whether two nodes are linked; the data is a {data.task} task on {data.modality} samples. Take the "
                "source Links"
            )
        return _Linked(self.encoder.build(replace(data, task="classification", n_classes=self.size)))


class _Linked(nn.Module):
    """Gives features ``(B, d)``, the products of both ends' vectors, and logits ``(B,)``."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: LinkBatch) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        if not isinstance(inputs, LinkBatch):
            raise RequirementNotMet("LinkPredictor takes pairs of nodes; take the source Links")
        z = logits_of(self.encoder(inputs.nodes))
        ends = z.reshape(-1, 2, z.shape[1])
        products = ends[:, 0] * ends[:, 1]
        return products, products.sum(1)
