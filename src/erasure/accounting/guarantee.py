"""What a method promises of the model that it returns."""

from __future__ import annotations

from dataclasses import dataclass

from erasure.errors import DataError

__all__ = ["KINDS", "Guarantee"]

KINDS = ("none", "exact", "certified")


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What the method promises by proof, apart from what was measured.

    Args:
        kind: ``exact`` (the model that training without the samples gives), ``certified`` (not to be told from one by more than
            ``eps`` and ``delta``, in both directions) or ``none``.
        eps: Of a certified removal; None otherwise.
        delta: Of a certified removal; None otherwise.
        assumptions: Under which the promise holds, one sentence each; of ``none``, why there is no promise.

    Raises:
        DataError: If the numbers do not belong to the kind.

    Example:
        >>> print(Guarantee(kind="certified", eps=1.0, delta=1e-5))
        (1, 1e-05)-certified
    """

    kind: str = "none"
    eps: float | None = None
    delta: float | None = None
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"a guarantee is one of {', '.join(KINDS)}, found {self.kind!r}")
        has_numbers = self.eps is not None and self.delta is not None
        if self.kind == "certified" and not (has_numbers and self.eps >= 0 and 0 <= self.delta < 1):  # type: ignore[operator]
            raise DataError(f"a certified removal has eps >= 0 and 0 <= delta < 1, found eps {self.eps} and delta {self.delta}")
        if self.kind != "certified" and (self.eps is not None or self.delta is not None):
            raise DataError(f"only a certified removal has eps and delta; this one is {self.kind}")

    def told(self) -> str:
        """The same with the reason, where there is no promise and a reason is known."""
        return f"{self} ({' '.join(self.assumptions).rstrip('.')})" if self.kind == "none" and self.assumptions else str(self)

    def __str__(self) -> str:
        return f"({self.eps:g}, {self.delta:g})-certified" if self.kind == "certified" else self.kind
