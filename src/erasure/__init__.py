"""ERASURE: machine unlearning, judged against retraining.

    >>> import erasure
    >>> results = erasure.run("configs/proof_of_concept.jsonc")  # doctest: +SKIP
    >>> forgotten = erasure.unlearn(model, "SSD", forget=forget, train=train)  # doctest: +SKIP
    >>> everything = erasure.load_results("runs/**").to_pandas()  # doctest: +SKIP

Names are loaded when they are first used, so that the command line starts without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Results", "__version__", "audit", "forget", "load_results", "run", "sharded", "unlearn"]

if TYPE_CHECKING:
    from erasure.api import run, unlearn
    from erasure.engine.sharded_fits import sharded
    from erasure.reports.query import load_results
    from erasure.reports.results import Results
    from erasure.workflows.audit import audit
    from erasure.workflows.deletion import forget

_HOMES = {
    "Results": "erasure.reports.results",
    "audit": "erasure.workflows.audit",
    "forget": "erasure.workflows.deletion",
    "load_results": "erasure.reports.query",
    "run": "erasure.api",
    "sharded": "erasure.engine.sharded_fits",
    "unlearn": "erasure.api",
}
_MODULES = {"hugging_face", "lightning", "mlflow", "sklearn"}
"""Adapters to other libraries, which are found without an import of their own: ``erasure.sklearn.load(…)``."""


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"erasure.{name}")
    from erasure.renamed import module_formerly

    return module_formerly(__name__, {"results": "load_results"})(name)


def __dir__() -> list[str]:
    return sorted(__all__)
