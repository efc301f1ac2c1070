"""Small convolutional networks for images from 8×8 up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import MinLen
from torch import nn

from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet
from erasure.training.forward import FeaturesAndHead
from erasure.training.predictor import Model, ModelInput
from erasure.types import Fraction, NonNegativeInt, PositiveInt, Source

__all__ = ["CNN"]


@dataclass(frozen=True, kw_only=True)
class CNN(Model):
    """Blocks of convolution, (BatchNorm,) ReLU and 2×2 max-pooling, followed by fully connected layers.

    Args:
        channels: Channels of each block; every block halves the image.
        hidden_sizes: Width of each fully connected hidden layer.
        kernel_size: Side of the convolutions.
        paddings: Padding of each block; by default half the kernel, which keeps the size before pooling.
        batch_norm: Whether a BatchNorm follows each convolution.
        dropout: Probability of dropping a unit of the first hidden layer while training, in [0, 1].
        n_classes: Classes; by default what the data has.
    """

    stackable: ClassVar[bool] = True
    source: ClassVar[Source | None] = Source(paper="LeCun, Bottou, Bengio, Haffner, Proc. IEEE 1998")

    channels: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (16, 32)
    hidden_sizes: tuple[PositiveInt, ...] = (64,)
    kernel_size: PositiveInt = 3
    paddings: tuple[NonNegativeInt, ...] | None = None
    batch_norm: bool = False
    dropout: Fraction = 0.0
    n_classes: PositiveInt | None = None

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        if len(data.x_shape) != 3:
            raise RequirementNotMet(f"CNN takes images (channels, height, width); the data has samples of shape {data.x_shape}")
        n_channels, height, width = data.x_shape
        layers = list(self._blocks(n_channels))
        for padding in self._paddings():
            height, width = ((side + 2 * padding - self.kernel_size + 1) // 2 for side in (height, width))
        if height < 1 or width < 1:
            raise RequirementNotMet(
                f"images of {data.x_shape[1]}x{data.x_shape[2]} are too small for {len(self.channels)} blocks; give fewer channels"
            )
        layers.append(nn.Flatten())
        size = self.channels[-1] * height * width
        for number, hidden in enumerate(self.hidden_sizes):
            layers += [nn.Linear(size, hidden), nn.ReLU()]
            if self.dropout and number == 0:
                layers.append(nn.Dropout(self.dropout))
            size = hidden
        return FeaturesAndHead(nn.Sequential(*layers), nn.Linear(size, data.outputs_for(self.n_classes)))

    def _paddings(self) -> tuple[int, ...]:
        return self.paddings if self.paddings is not None else (self.kernel_size // 2,) * len(self.channels)

    def _blocks(self, n_channels: int) -> Iterator[nn.Module]:
        for channels, padding in zip(self.channels, self._paddings(), strict=True):
            yield nn.Conv2d(n_channels, channels, self.kernel_size, padding=padding)
            if self.batch_norm:
                yield nn.BatchNorm2d(channels)
            yield nn.ReLU()
            yield nn.MaxPool2d(2)
            n_channels = channels

    def check(self) -> None:
        """One padding for each block."""
        if self.paddings is not None and len(self.paddings) != len(self.channels):
            raise InvalidParameters(
                [
                    Diagnostic(
                        f"expected {len(self.channels)} paddings, one for each of channels, found {len(self.paddings)}",
                        path="CNN.paddings",
                    )
                ]
            )
