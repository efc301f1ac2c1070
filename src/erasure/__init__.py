"""ERASURE: machine unlearning, judged against retraining.

    >>> import erasure
    >>> results = erasure.run("configs/proof_of_concept.jsonc")  # doctest: +SKIP
    >>> forgotten = erasure.unlearn(model, "SSD", forget=forget, train=train)  # doctest: +SKIP
    >>> everything = erasure.results("runs/**").to_pandas()  # doctest: +SKIP

Names are loaded when they are first used, so that the command line starts without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Results", "__version__", "audit", "forget", "results", "run", "sharded", "unlearn"]

if TYPE_CHECKING:
    from erasure.api import run, unlearn
    from erasure.engine.sharded_fits import sharded
    from erasure.reports.query import results
    from erasure.reports.results import Results
    from erasure.workflows.audit import audit
    from erasure.workflows.deletion import forget

_HOMES = {
    "Results": "erasure.reports.results",
    "audit": "erasure.workflows.audit",
    "forget": "erasure.workflows.deletion",
    "results": "erasure.reports.query",
    "run": "erasure.api",
    "sharded": "erasure.engine.sharded_fits",
    "unlearn": "erasure.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
