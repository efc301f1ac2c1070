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
        "CF-k": "erasure.unlearners.cf_k:CFk",
        "EU-k": "erasure.unlearners.eu_k:EUk",
        "NegGrad": "erasure.unlearners.neg_grad:NegGrad",
        "AdvancedNegGrad": "erasure.unlearners.advanced_neg_grad:AdvancedNegGrad",
        "NegGrad+": "erasure.unlearners.neg_grad_plus:NegGradPlus",
        "UNSIR": "erasure.unlearners.unsir:UNSIR",
        "SampleUNSIR": "erasure.unlearners.unsir_sample:SampleUNSIR",
        "BadTeaching": "erasure.unlearners.bad_teaching:BadTeaching",
        "SCRUB": "erasure.unlearners.scrub:Scrub",
        "SCRUB+R": "erasure.unlearners.scrub_rewind:ScrubRewind",
        "SSD": "erasure.unlearners.selective_synaptic_dampening:SelectiveSynapticDampening",
        "LFSSD": "erasure.unlearners.lfssd:LFSSD",
        "FisherForgetting": "erasure.unlearners.fisher_forgetting:FisherForgetting",
        "SalUn": "erasure.unlearners.salun:SalUn",
        "SaliencyMapGeneration": "erasure.unlearners.saliency:SaliencyMapGeneration",
        "SuccessiveRandomLabels": "erasure.unlearners.successive_random_labels:SuccessiveRandomLabels",
        "L1Sparse": "erasure.unlearners.l1_sparse:L1Sparse",
        "InfluenceUnlearning": "erasure.unlearners.influence_unlearning:InfluenceUnlearning",
        "NTKForgetting": "erasure.unlearners.ntk_forgetting:NTKForgetting",
        "BoundaryShrink": "erasure.unlearners.boundary_shrink:BoundaryShrink",
        "BoundaryExpand": "erasure.unlearners.boundary_expand:BoundaryExpand",
        "Amnesiac": "erasure.unlearners.amnesiac:AmnesiacUnlearning",
        "Cascade": "erasure.unlearners.cascade:Cascade",
        "Masked": "erasure.unlearners.masked:Masked",
        "LastLayers": "erasure.unlearners.last_layers:LastLayers",
    },
    "mask": {
        "SaliencyMask": "erasure.unlearners.saliency:SaliencyMask",
    },
    "measure": {
        "Accuracy": "erasure.measures.sklearn_metric:Accuracy",
        "SklearnMetric": "erasure.measures.sklearn_metric:SklearnMetric",
        "PartitionInfo": "erasure.measures.partition_info:PartitionInfo",
        "RunTime": "erasure.measures.run_time:RunTime",
        "SpeedUp": "erasure.measures.run_time:SpeedUp",
        "UMIA": "erasure.measures.umia:UMIA",
        "AUS": "erasure.measures.aus:AUS",
        "AverageGap": "erasure.measures.average_gap:AverageGap",
        "ToW": "erasure.measures.tow:ToW",
    },
}
"""Kind of component to name to ``module:Class``."""

ALSO_KNOWN_AS: dict[str, dict[str, str]] = {
    "source": {"CSV": "TableFile", "Parquet": "TableFile", "Synthetic": "SyntheticTable"},
    "unlearner": {
        "Gold": "GoldModel",
        "Retrain": "GoldModel",
        "FT": "Finetuning",
        "FineTuning": "Finetuning",
        "CFk": "CF-k",
        "EUk": "EU-k",
        "GradientAscent": "NegGrad",
        "GA": "NegGrad",
        "NegGradPlus": "NegGrad+",
        "BadT": "BadTeaching",
        "ScrubRewind": "SCRUB+R",
        "SelectiveSynapticDampening": "SSD",
        "Fisher": "FisherForgetting",
        "SRL": "SuccessiveRandomLabels",
        "RandomLabels": "SuccessiveRandomLabels",
        "IU": "InfluenceUnlearning",
        "NTK": "NTKForgetting",
        "AmnesiacUnlearning": "Amnesiac",
    },
    "measure": {"TorchSKLearn": "SklearnMetric", "RTE": "SpeedUp", "AvgGap": "AverageGap"},
}
"""Kind to other names in use to the registered one."""
