"""Every component of this package: one line each, by the name people type.

Adding a component is one new file and one line here. Another package adds one by an entry point in the group
``erasure.<kind>s``, such as ``[project.entry-points."erasure.unlearners"]``.
"""

from __future__ import annotations

__all__ = ["ALSO_KNOWN_AS", "BUILTINS"]

BUILTINS: dict[str, dict[str, str]] = {
    "source": {
        "Sklearn": "erasure.data.sources.scikit_learn:Sklearn",
        "SyntheticTable": "erasure.data.sources.synthetic:SyntheticTable",
        "SyntheticImages": "erasure.data.sources.synthetic:SyntheticImages",
        "TensorFile": "erasure.data.sources.tensor_file:TensorFile",
        "TableFile": "erasure.data.sources.table:TableFile",
    },
    "splitter": {
        "Percentage": "erasure.data.splitters:PercentageSplitter",
        "StratifiedPercentage": "erasure.data.splitters:StratifiedPercentageSplitter",
        "Class": "erasure.data.splitters:ClassSplitter",
        "NSamples": "erasure.data.splitters:NSamplesSplitter",
        "NSamplesOfClass": "erasure.data.splitters:NSamplesOfClassSplitter",
        "List": "erasure.data.splitters:ListSplitter",
        "ByZ": "erasure.data.splitters:ByZSplitter",
        "ZRange": "erasure.data.splitters:ZRangeSplitter",
        "Concat": "erasure.data.splitters:ConcatSplitter",
    },
    "model": {
        "MLP": "erasure.models.mlp:MLP",
        "CNN": "erasure.models.cnn:CNN",
    },
    "unlearner": {
        "GoldModel": "erasure.unlearners.gold_model:GoldModel",
        "Identity": "erasure.unlearners.identity:Identity",
        "Finetuning": "erasure.unlearners.finetuning:Finetuning",
        "SCRUB": "erasure.unlearners.scrub:Scrub",
        "Cascade": "erasure.unlearners.cascade:Cascade",
    },
    "measure": {},
}
"""Kind of component to name to ``module:Class``."""

ALSO_KNOWN_AS: dict[str, dict[str, str]] = {
    "source": {"CSV": "TableFile", "Parquet": "TableFile", "Synthetic": "SyntheticTable"},
    "unlearner": {
        "Gold": "GoldModel",
        "Retrain": "GoldModel",
        "FT": "Finetuning",
        "GA": "NegGrad",
        "GradientAscent": "NegGrad",
        "SelectiveSynapticDampening": "SSD",
        "Scrub": "SCRUB",
    },
    "measure": {"TorchSKLearn": "SklearnMetric"},
}
"""Kind to other names in use to the registered one."""
