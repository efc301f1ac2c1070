"""Random changes of pictures while a model is trained: redrawn in every step, and never when anything is measured.

They work on pictures as they are stored (bytes, or numbers in [0, 1]), before scaling and normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor

from erasure.component import Component
from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet, nearest
from erasure.renamed import formerly
from erasure.training.batches import Column, TensorColumn
from erasure.training.randomness import isolated
from erasure.training.torchvision_operators import torchvision
from erasure.types import Fraction, NonNegativeFloat, PositiveInt

__all__ = ["Augmentation", "RandomCrop", "RandomFlip", "TorchVisionTransform", "augmenting"]

_SEEDS = 2**62
_HOME = "torchvision.transforms.v2."


@formerly(refuse="unsupported_reason")
@dataclass(frozen=True, kw_only=True)
class Augmentation(Component):
    """A random change of pictures that leaves their label as it is."""

    kind: ClassVar[str] = "augmentation"

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The batch with every picture changed by a draw of its own.

        Args:
            x: Pictures as they are stored, ``(B, C, H, W)``; not changed.
            generator: Random stream on the CPU, so that all devices draw the same.

        Returns:
            Same shape and type.
        """
        raise NotImplementedError

    def unsupported_reason(self, x: Column) -> str | None:
        """Why such inputs cannot be changed so, or None."""
        if not isinstance(x, TensorColumn) or len(x.sample_shape) != 3:
            found = f"samples of shape {x.sample_shape}" if isinstance(x, TensorColumn) else f"a {type(x).__name__}"
            return f"{type(self).__name__} changes pictures of shape (channels, height, width); the data has {found}"
        return None


@dataclass(frozen=True, kw_only=True)
class RandomFlip(Augmentation):
    """Pictures mirrored, each with the same probability and by itself.

    Args:
        probability: Of mirroring a picture, in [0, 1].
        direction: ``horizontal`` swaps left and right, ``vertical`` top and bottom.
    """

    probability: Fraction = 0.5
    direction: Literal["horizontal", "vertical"] = "horizontal"

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One draw a picture."""
        mirrored = (torch.rand(len(x), generator=generator) < self.probability).to(x.device)
        return torch.where(mirrored[:, None, None, None], x.flip(-1 if self.direction == "horizontal" else -2), x)


@dataclass(frozen=True, kw_only=True)
class RandomCrop(Augmentation):
    """Pictures shifted by up to ``padding`` pixels either way: padded on all sides, and cut to their own size at a random place.

    Args:
        padding: Pixels added on each side.
        mode: What is added: ``constant`` a value, ``reflect`` the picture mirrored at its edge.
        fill: The value, in the unit of the stored pictures: 0 to 255 for bytes.
    """

    padding: PositiveInt = 4
    mode: Literal["constant", "reflect"] = "constant"
    fill: NonNegativeFloat = 0.0

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Two draws a picture."""
        height, width = x.shape[-2:]
        if self.mode == "constant":
            padded = F.pad(x, (self.padding,) * 4, value=self.fill)
        else:
            # Bytes have no reflection of their own; the numbers are whole and come back as they were.
            padded = F.pad(x.float(), (self.padding,) * 4, mode="reflect").to(x.dtype)
        corners = torch.randint(2 * self.padding + 1, (2, len(x)), generator=generator).to(x.device)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(len(x), device=x.device), :, corners[0], corners[1]]

    def unsupported_reason(self, x: Column) -> str | None:
        """Pictures have a reflection of up to their own size."""
        reason = super().unsupported_reason(x)
        if reason is None and self.mode == "reflect" and isinstance(x, TensorColumn) and self.padding >= min(x.sample_shape[1:]):
            return f"RandomCrop: a reflection of {self.padding} pixels is larger than the pictures, {x.sample_shape[1:]}"
        return reason


@dataclass(frozen=True, kw_only=True)
class TorchVisionTransform(Augmentation):
    """A transform of ``torchvision.transforms.v2``, such as ``RandomRotation``, ``ColorJitter`` or ``RandomErasing``.

    These transforms draw once for all pictures they are given, so that they are called for ``share`` pictures at a time.
    ``RandomHorizontalFlip`` and ``RandomVerticalFlip`` draw for each picture at the speed of whole batches; for others, a larger
    ``share`` is faster and less random.

    Args:
        path: Name of the transform, or its path ``torchvision.transforms.v2.ColorJitter``.
        parameters: Its arguments.
        share: Pictures in a row that share one draw.
    """

    path: Annotated[str, MinLen(1)]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    share: PositiveInt = 1

    def check(self) -> None:
        """The transform must exist and accept its parameters."""
        name = self.path.removeprefix(_HOME).removeprefix("torchvision.transforms.")
        object.__setattr__(self, "path", _HOME + name)
        library = torchvision("transforms.v2", f'the augmentation "{name}"')
        cls = getattr(library, name, None)
        if not (isinstance(cls, type) and issubclass(cls, library.Transform)):
            names = [each for each in vars(library) if isinstance(getattr(library, each), type)]
            message = f'torchvision.transforms.v2 has no transform "{name}"'
            raise InvalidParameters([Diagnostic(message, path="TorchVisionTransform.path", hint=nearest(name, names))])
        try:
            cls(**self._arguments())
        except (TypeError, ValueError, AttributeError) as error:
            message = f"{name} does not accept its parameters: {error}"
            raise InvalidParameters([Diagnostic(message, path="TorchVisionTransform.parameters")]) from error

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One draw for each ``share`` pictures."""
        own = _FLIPS.get(self.path.removeprefix(_HOME))
        if own is not None and self.share == 1:
            return RandomFlip(probability=self.parameters.get("p", 0.5), direction=own).apply(x, generator)
        seed = int(torch.randint(_SEEDS, (), generator=generator))
        transform = self._made()
        with isolated(seed, x.device):
            return torch.cat([transform(part) for part in torch.split(x, self.share)])

    def unsupported_reason(self, x: Column) -> str | None:
        """The transform must keep the pictures' size and type."""
        reason = super().unsupported_reason(x)
        if reason is not None or not isinstance(x, TensorColumn):
            return reason
        name, before = self.path.removeprefix(_HOME), x.values[:2]
        try:
            with isolated(0, before.device):
                after = self._made()(before)
        except (TypeError, ValueError, RuntimeError) as error:
            return f"{name} cannot change the pictures: {error}"
        if not isinstance(after, Tensor) or after.shape != before.shape or after.dtype != before.dtype:
            return f"{name} makes {_described(after)} of {_described(before)}; an augmentation keeps size and type"
        return None

    def _made(self) -> Callable[[Tensor], Tensor]:
        library = torchvision("transforms.v2", f'the augmentation "{self.path}"')
        made: Callable[[Tensor], Tensor] = getattr(library, self.path.removeprefix(_HOME))(**self._arguments())
        return made

    def _arguments(self) -> dict[str, Any]:
        """The parameters; torchvision wants lists where it says sequence."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.parameters.items()}


_FLIPS: Mapping[str, Literal["horizontal", "vertical"]] = {
    "RandomHorizontalFlip": "horizontal",
    "RandomVerticalFlip": "vertical",
}


def augmenting(augmentations: Sequence[Augmentation], x: Column, generator: torch.Generator) -> Callable[[Tensor], Tensor] | None:
    """What changes a batch of stored pictures, one augmentation after the other; None if there is none.

    Args:
        augmentations: In order.
        x: The column that batches are cut from.
        generator: The stream that all of them draw from.

    Raises:
        RequirementNotMet: If one of them does not fit the inputs.
    """
    if not augmentations:
        return None
    for augmentation in augmentations:
        reason = augmentation.unsupported_reason(x)
        if reason is not None:
            raise RequirementNotMet(reason)

    def changed(values: Tensor) -> Tensor:
        for augmentation in augmentations:
            values = augmentation.apply(values, generator)
        return values

    return changed


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
