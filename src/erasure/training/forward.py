"""What a model returns: plain logits, ``(features, logits)``, or an object with ``.logits``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from erasure.errors import RequirementNotMet

__all__ = ["features_of", "logits_of"]


def logits_of(output: Any) -> Tensor:
    """Logits in a model's output.

    Raises:
        RequirementNotMet: If the output is none of the three forms.
    """
    if isinstance(output, Tensor):
        return output
    logits = output[-1] if isinstance(output, tuple | list) and len(output) == 2 else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise RequirementNotMet(
        f"a model must return logits, a pair (features, logits) or an object with .logits; this one returned {type(output).__name__}"
    )


def features_of(output: Any) -> Tensor | None:
    """Features in a model's output, or None where it returns logits alone."""
    if isinstance(output, tuple | list) and len(output) == 2 and isinstance(output[0], Tensor):
        return output[0]
    return None
