"""What a model returns: plain logits, ``(features, logits)``, or an object or mapping with ``logits``; and the usual one that has both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from erasure.errors import RequirementNotMet

__all__ = ["FeaturesAndHead", "features_of", "logits_of", "unclear_logits"]

_REMEDY = "return the logits alone, or an object or named tuple with a field logits"


class FeaturesAndHead(nn.Module):
    """A trunk that gives features ``(B, d)`` and a linear head that gives logits ``(B, K)``."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        features = self.trunk(x)
        return features, self.head(features)


def logits_of(output: Any) -> Tensor:
    """Logits in a model's output: what is called ``logits`` if anything is, also in a tuple with names; else the second of a pair, or what
    is alone in a tuple but for None.

    Raises:
        RequirementNotMet: If the output is none of these forms.
    """
    if isinstance(output, Tensor):
        return output
    logits = _named(output, "logits")
    if not isinstance(logits, Tensor) and isinstance(output, tuple | list):
        given = [each for each in output if each is not None]
        logits = given[0] if len(given) == 1 else output[1] if len(output) == 2 else None
    if isinstance(logits, Tensor):
        return logits
    raise RequirementNotMet(
        f"a model must return logits, a pair (features, logits) or an object with .logits; this one returned {_described(output)}"
    )


def features_of(output: Any) -> Tensor | None:
    """Features in a model's output: what is called ``features``, or the first of a pair without names; None where there are none."""
    if isinstance(_named(output, "logits"), Tensor):
        features = _named(output, "features")
        return features if isinstance(features, Tensor) else None
    return output[0] if _is_pair(output) and all(isinstance(each, Tensor) for each in output) else None


def unclear_logits(output: Any, n_outputs: int) -> str | None:
    """Why the logits of a pair without names cannot be told, or None.

    The second is taken for the logits. Where the first has the width of logits, that may be wrong: the pair may be the other way
    round, or the logits of two heads, as some networks return them in training.

    Args:
        output: What the model returned.
        n_outputs: Width of the logits.
    """
    if isinstance(_named(output, "logits"), Tensor) or not _is_pair(output):
        return None
    first, second = output
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)) or first.ndim != 2 or first.shape[1] != n_outputs:
        return None
    shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
    which = (
        "looks like (logits, features)" if second.shape[-1] != n_outputs else "may be two times logits, or features and logits"
    )
    return f"the model returns a pair of shapes {shapes}, which {which}; {_REMEDY}"


def _described(output: Any) -> str:
    """A container by what is in it, anything else by its type."""
    if isinstance(output, Mapping):
        return f"a mapping with the keys {', '.join(map(str, output)) or '(none)'}"
    if isinstance(output, tuple | list) and not hasattr(output, "_fields"):
        parts = [f"a tensor {tuple(each.shape)}" if isinstance(each, Tensor) else type(each).__name__ for each in output]
        return f"a {type(output).__name__} of {len(output)}: {', '.join(parts) or 'nothing'}"
    return type(output).__name__


def _named(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _is_pair(output: Any) -> bool:
    return isinstance(output, tuple | list) and len(output) == 2
