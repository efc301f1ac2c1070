"""Any network class of another package, named by its dotted path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from erasure.component import Call
from erasure.errors import ErasureError, RequirementNotMet, foreign
from erasure.training.predictor import Model, ModelInput

__all__ = ["Module"]

_CLASS_COUNTS = ("n_classes", "num_classes", "n_outputs", "out_features")
_INPUT_COUNTS = ("n_inputs", "in_features", "in_channels")


@dataclass(frozen=True, kw_only=True)
class Module(Model):
    """A class or function that returns an ``nn.Module``.

    Its parameters are passed on; the number of classes is filled in where the signature has ``n_classes`` or ``num_classes`` and it
    was not given, the number of inputs likewise.

    Args:
        path: Dotted path, such as ``torchvision.models.resnet18`` or one in a module trusted on the command line.
        parameters: Keyword arguments.
    """

    expects: ClassVar[str] = "torch.nn:Module"

    path: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        call = Call(path=self.path, parameters=self.parameters)
        accepted = inspect.signature(call.target()).parameters
        filled: dict[str, Any] = {}
        for names, value in ((_CLASS_COUNTS, data.n_outputs), (_INPUT_COUNTS, data.x_shape[0] if data.x_shape else 0)):
            filled |= {name: value for name in names if name in accepted and name not in self.parameters}
        try:
            model = call(**filled)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise RequirementNotMet(f"{self.path} does not accept its parameters: {error}") from error
        except ErasureError:
            raise
        except Exception as error:
            raise RequirementNotMet(f"{self.path} cannot be made: {foreign(error)}") from error
        if not isinstance(model, nn.Module):
            raise RequirementNotMet(f"{self.path} returned {type(model).__name__}, not an nn.Module")
        return model
