"""Multilayer perceptrons for tables and small images."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from erasure.training.forward import FeaturesAndHead
from erasure.training.predictor import Model, ModelInput
from erasure.types import Fraction, PositiveFloat, PositiveInt, Source

__all__ = ["MLP"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "sigmoid": nn.Sigmoid}


@dataclass(frozen=True, kw_only=True)
class MLP(Model):
    """Fully connected layers on the flattened input; without hidden layers, multinomial logistic regression.

    Args:
        hidden_sizes: Width of each hidden layer; empty for a linear model.
        hidden_factors: Widths as multiples of the number of inputs, instead of ``hidden_sizes``.
        activation: Between the layers.
        dropout: Probability of dropping a hidden unit while training, in [0, 1].
        batch_norm: Whether each hidden layer is followed by BatchNorm.
        n_inputs: Inputs; by default what the data has, and an error if it has something else.
        n_classes: Classes; by default what the data has.
    """

    stackable: ClassVar[bool] = True
    source: ClassVar[Source | None] = Source(paper="Rumelhart, Hinton, Williams, Nature 1986")

    hidden_sizes: tuple[PositiveInt, ...] = (100,)
    hidden_factors: tuple[PositiveFloat, ...] = field(default=(), metadata={"address": "changed"})
    activation: Literal["relu", "tanh", "gelu", "sigmoid"] = "relu"
    dropout: Fraction = 0.0
    batch_norm: bool = False
    n_inputs: PositiveInt | None = None
    n_classes: PositiveInt | None = None

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        n_inputs = data.fitting("inputs", self.n_inputs, math.prod(data.x_shape))
        n_outputs = data.outputs_for(self.n_classes)
        widths = tuple(max(1, int(factor * n_inputs)) for factor in self.hidden_factors) or self.hidden_sizes
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise((n_inputs, *widths)):
            layers.append(nn.Linear(before, after))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(_ACTIVATIONS[self.activation]())
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
        return FeaturesAndHead(nn.Sequential(*layers), nn.Linear((n_inputs, *widths)[-1], n_outputs))
