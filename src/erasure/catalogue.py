"""Every component of this package: one line each, by the name people type.

Adding a component is one new file and one line here. Another package adds one by an entry point in the group
``erasure.`` and the kind in plural, such as ``[project.entry-points."erasure.unlearners"]``.
"""

from __future__ import annotations

import functools
import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

__all__ = ["ALSO_KNOWN_AS", "BUILTINS", "SECTIONS", "address_name", "plugins", "plural", "present_name", "shown_name"]

BUILTINS: dict[str, dict[str, str]] = {
    "source": {
        "Sklearn": "erasure.data.sources.scikit_learn:Sklearn",
        "SyntheticTable": "erasure.data.sources.synthetic:SyntheticTable",
        "SyntheticImages": "erasure.data.sources.synthetic:SyntheticImages",
        "SyntheticRatings": "erasure.data.sources.ratings:SyntheticRatings",
        "RatingsFile": "erasure.data.sources.ratings_file:RatingsFile",
        "TensorFile": "erasure.data.sources.tensor_file:TensorFile",
        "TableFile": "erasure.data.sources.table:TableFile",
        "TorchVision": "erasure.data.sources.torchvision_dataset:TorchVision",
        "HuggingFace": "erasure.data.sources.hugging_face:HuggingFace",
        "ImageTable": "erasure.data.sources.image_table:ImageTable",
        "UCI": "erasure.data.sources.uci:UCI",
        "TUDataset": "erasure.data.sources.geometric:TUDataset",
        "MoleculeNet": "erasure.data.sources.geometric:MoleculeNet",
        "Planetoid": "erasure.data.sources.geometric:Planetoid",
        "GraphDataset": "erasure.data.sources.geometric:GraphDataset",
        "PromptsAndAnswers": "erasure.data.sources.prompts_and_answers:PromptsAndAnswers",
        "TOFU": "erasure.data.sources.tofu:TOFU",
        "MUSE": "erasure.data.sources.muse:MUSE",
        "LUME": "erasure.data.sources.lume:LUME",
        "PlainText": "erasure.data.sources.plain_text:PlainText",
        "Poisoned": "erasure.data.sources.poisoned:Poisoned",
        "EdgeList": "erasure.data.sources.edge_list:EdgeList",
        "GraphFile": "erasure.data.sources.graph_file:GraphFile",
        "Links": "erasure.data.sources.links:Links",
        "Preprocessed": "erasure.data.sources.preprocessed:Preprocessed",
    },
    "step": {
        "Encode": "erasure.data.preprocess.values:Encode",
        "RemoveCharacter": "erasure.data.preprocess.values:RemoveCharacter",
        "Add": "erasure.data.preprocess.values:Add",
        "ParseLists": "erasure.data.preprocess.values:ParseLists",
        "ListToTensor": "erasure.data.preprocess.values:ListToTensor",
        "MoveInputs": "erasure.data.preprocess.moving:MoveInputs",
        "MoveLabels": "erasure.data.preprocess.moving:MoveLabels",
        "PickLabels": "erasure.data.preprocess.moving:PickLabels",
        "CopyLabels": "erasure.data.preprocess.moving:CopyLabels",
        "JoinColumns": "erasure.data.preprocess.texts:JoinColumns",
        "ContainsText": "erasure.data.preprocess.texts:ContainsText",
        "MatchPatterns": "erasure.data.preprocess.texts:MatchPatterns",
        "Tokenize": "erasure.data.preprocess.texts:Tokenize",
        "ImageToTensor": "erasure.data.preprocess.images:ImageToTensor",
        "CoarseClasses": "erasure.data.preprocess.images:CoarseClasses",
        "CelebALabels": "erasure.data.preprocess.images:CelebALabels",
        "PerSample": "erasure.data.preprocess.per_sample:PerSample",
    },
    "tokenizer": {
        "Words": "erasure.data.preprocess.tokenizers:Words",
        "Pretrained": "erasure.data.preprocess.tokenizers:Pretrained",
    },
    "vocabulary": {
        "BytePairs": "erasure.data.language.vocabularies:BytePairs",
        "PretrainedVocabulary": "erasure.data.language.vocabularies:PretrainedVocabulary",
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
        "Group": "erasure.data.scenarios.groups:GroupSplitter",
        "Memorised": "erasure.data.scenarios.ranked:MemorisedSplitter",
        "MemorisedEdges": "erasure.data.memorised_edges:MemorisedEdgesSplitter",
        "Vulnerable": "erasure.data.scenarios.ranked:VulnerableSplitter",
        "Corrupted": "erasure.data.scenarios.corrupted:CorruptedSplitter",
        "Requests": "erasure.data.scenarios.requests:RequestsSplitter",
        "GraphNodes": "erasure.data.graph_splitters:GraphNodesSplitter",
        "GraphEdges": "erasure.data.graph_splitters:GraphEdgesSplitter",
        "GraphRequests": "erasure.data.graph_streams:GraphRequestsSplitter",
        "GraphStrangers": "erasure.data.graph_strangers:GraphStrangersSplitter",
        "GraphRequest": "erasure.data.graph_splitters:GraphRequestSplitter",
        "LinkRequest": "erasure.data.link_splitters:LinkRequestSplitter",
        "Inductive": "erasure.data.inductive:InductiveSplitter",
        "SeenIn": "erasure.data.graph_splitters:SeenInSplitter",
        "Affected": "erasure.data.graph_splitters:AffectedSplitter",
    },
    "corruption": {
        "Mislabel": "erasure.data.corruption:Mislabel",
        "SwapClasses": "erasure.data.corruption:SwapClasses",
        "PlantEdges": "erasure.data.planted_edges:PlantEdges",
        "Backdoor": "erasure.data.corruption:Backdoor",
    },
    "trigger": {
        "PatchTrigger": "erasure.training.triggers:PatchTrigger",
        "FeatureTrigger": "erasure.training.triggers:FeatureTrigger",
    },
    "augmentation": {
        "RandomFlip": "erasure.training.augmentation:RandomFlip",
        "RandomCrop": "erasure.training.augmentation:RandomCrop",
        "TorchVisionTransform": "erasure.training.augmentation:TorchVisionTransform",
    },
    "model": {
        "MLP": "erasure.models.mlp:MLP",
        "CNN": "erasure.models.cnn:CNN",
        "GNN": "erasure.models.graph:GNN",
        "LinkPredictor": "erasure.models.links:LinkPredictor",
        "TorchVisionModel": "erasure.models.torchvision_model:TorchVisionModel",
        "TimmModel": "erasure.models.timm_model:TimmModel",
        "TextEncoder": "erasure.models.text:TextEncoder",
        "SmallTransformer": "erasure.models.text:SmallTransformer",
        "Ensemble": "erasure.models.ensemble:Ensemble",
        "NaiveBayes": "erasure.models.naive_bayes:NaiveBayes",
        "NearestNeighbours": "erasure.models.neighbours:NearestNeighbours",
        "KMeans": "erasure.models.neighbours:KMeans",
        "ExactForest": "erasure.models.forest:ExactForest",
        "RandomForest": "erasure.models.tree_ensembles:RandomForest",
        "GradientBoosting": "erasure.models.tree_ensembles:GradientBoosting",
        "EASE": "erasure.models.ease:EASE",
        "Ridge": "erasure.models.linear:Ridge",
        "LogisticRegression": "erasure.models.linear:LogisticRegression",
        "NoisyLogisticRegression": "erasure.models.linear:NoisyLogisticRegression",
        "CausalLanguageModel": "erasure.models.language:CausalLanguageModel",
        "SmallLlama": "erasure.models.language:SmallLlama",
    },
    "unlearner": {
        "GoldModel": "erasure.unlearners.gold_model:GoldModel",
        "Identity": "erasure.unlearners.identity:Identity",
        "Unlink": "erasure.unlearners.unlink:Unlink",
        "ETR": "erasure.unlearners.etr:EraseThenRectify",
        "MEGU": "erasure.unlearners.megu:MEGU",
        "GIF": "erasure.unlearners.graph_influence:GraphInfluence",
        "Cognac": "erasure.unlearners.cognac:Cognac",
        "GNNDelete": "erasure.unlearners.gnn_delete:GNNDelete",
        "Projector": "erasure.unlearners.projector:Projector",
        "NeighbourRelabelling": "erasure.unlearners.neighbour_relabelling:NeighbourRelabelling",
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
        "CT": "erasure.unlearners.convolution_transpose:ConvolutionTranspose",
        "MSG": "erasure.unlearners.masked_small_gradients:MaskedSmallGradients",
        "FCS": "erasure.unlearners.forget_contrast_strengthen:ForgetContrastStrengthen",
        "DELETE": "erasure.unlearners.delete:DecoupledDistillation",
        "SFRon": "erasure.unlearners.sfron:SFRon",
        "MUNBa": "erasure.unlearners.munba:MUNBa",
        "JiT": "erasure.unlearners.jit:JustInTime",
        "NegMerge": "erasure.unlearners.neg_merge:NegMerge",
        "AMUN": "erasure.unlearners.amun:AMUN",
        "LoTUS": "erasure.unlearners.lotus:LoTUS",
        "UAM": "erasure.unlearners.uam:UAM",
        "OrthoGrad": "erasure.unlearners.ortho_grad:OrthoGrad",
        "SVDClassForgetting": "erasure.unlearners.svd_class_forgetting:SVDClassForgetting",
        "RUM": "erasure.unlearners.rum:RUM",
        "KGA": "erasure.unlearners.kga:KGA",
        "DMM": "erasure.unlearners.datamodel_matching:DatamodelMatching",
        "FeatureUnlearning": "erasure.unlearners.feature_unlearning:FeatureUnlearning",
        "WIN-U": "erasure.unlearners.win_u:WINU",
        "PGU": "erasure.unlearners.projected_gradient:ProjectedGradientUnlearning",
        "DUCK": "erasure.unlearners.duck:DUCK",
        "GKT": "erasure.unlearners.gkt:GKT",
        "CFW": "erasure.unlearners.confuse_and_weaken:ConfuseAndWeaken",
        "PRMQ": "erasure.unlearners.prune_and_redraw:PruneAndRedraw",
        "KDE": "erasure.unlearners.reset_and_distil:ResetAndDistil",
        "RNI": "erasure.unlearners.reset_and_noise:ResetAndNoise",
        "SISA": "erasure.unlearners.sisa:SISA",
        "DeltaGrad": "erasure.unlearners.delta_grad:DeltaGrad",
        "RewindToDelete": "erasure.unlearners.rewind_to_delete:RewindToDelete",
        "ExactDeletion": "erasure.unlearners.exact_deletion:ExactDeletion",
        "NewtonRemoval": "erasure.unlearners.newton_removal:NewtonRemoval",
        "DescentToDelete": "erasure.unlearners.descent_to_delete:DescentToDelete",
        "LangevinUnlearning": "erasure.unlearners.descent_to_delete:LangevinUnlearning",
        "CertifiedUnlearning": "erasure.unlearners.certified_unlearning:CertifiedUnlearning",
        "GradAscent": "erasure.unlearners.gradient_difference:GradAscent",
        "GradDiff": "erasure.unlearners.gradient_difference:GradDiff",
        "KLMin": "erasure.unlearners.gradient_difference:KLMin",
        "NPO": "erasure.unlearners.negative_preference:NPO",
        "SimNPO": "erasure.unlearners.negative_preference:SimNPO",
        "IDK": "erasure.unlearners.refusal:IDK",
        "IdkDPO": "erasure.unlearners.refusal:IdkDPO",
        "RMU": "erasure.unlearners.rmu:RMU",
        "UNDIAL": "erasure.unlearners.token_targets:UNDIAL",
        "WGA": "erasure.unlearners.weighted_ascent:WGA",
        "TNPO": "erasure.unlearners.weighted_ascent:TNPO",
        "WTNPO": "erasure.unlearners.weighted_ascent:WTNPO",
        "SatImp": "erasure.unlearners.weighted_ascent:SatImp",
        "SimSat": "erasure.unlearners.weighted_ascent:SimSat",
        "SimImp": "erasure.unlearners.weighted_ascent:SimImp",
        "CE-U": "erasure.unlearners.token_targets:CEU",
        "InvertedHinge": "erasure.unlearners.token_targets:InvertedHinge",
        "WHP": "erasure.unlearners.generic_predictions:WHP",
        "ULD": "erasure.unlearners.assistant:ULD",
        "LUNAR": "erasure.unlearners.lunar:LUNAR",
        "PDU": "erasure.unlearners.primal_dual:PDU",
        "GRU": "erasure.unlearners.gradient_rectified:GRU",
        "TaskVector": "erasure.unlearners.task_vector:TaskVector",
        "Cascade": "erasure.unlearners.cascade:Cascade",
        "Sequential": "erasure.unlearners.sequential:Sequential",
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
        "Flops": "erasure.measures.flops:Flops",
        "Energy": "erasure.measures.energy:Energy",
        "HardwareCounters": "erasure.measures.flops:HardwareCounters",
        "UMIA": "erasure.measures.attacks.umia:UMIA",
        "MIAEfficacy": "erasure.measures.attacks.mia_efficacy:MIAEfficacy",
        "EntropyAttack": "erasure.measures.attacks.entropy_attack:EntropyAttack",
        "LiRA": "erasure.measures.attacks.lira:LiRA",
        "U-LiRA": "erasure.measures.attacks.lira:ULiRA",
        "PersonLiRA": "erasure.measures.attacks.person_lira:PersonLiRA",
        "ForgettingQuality": "erasure.measures.attacks.forgetting_quality:ForgettingQuality",
        "KLoM": "erasure.measures.attacks.klom:KLoM",
        "ResidualMemory": "erasure.measures.residual_memory:ResidualMemory",
        "RMIA": "erasure.measures.attacks.rmia:RMIA",
        "RULI": "erasure.measures.attacks.ruli:RULI",
        "RULIEfficacy": "erasure.measures.attacks.ruli:RULIEfficacy",
        "EdgeMembership": "erasure.measures.edge_membership:EdgeMembership",
        "EdgeLiRA": "erasure.measures.attacks.edge_lira:EdgeLiRA",
        "EdgeMemory": "erasure.measures.edge_memory:EdgeMemory",
        "DeletedEdgeAUC": "erasure.measures.edge_membership:DeletedEdgeAUC",
        "DeletedLinkAUC": "erasure.measures.deleted_links:DeletedLinkAUC",
        "ShokriAttack": "erasure.measures.attacks.shokri:ShokriAttack",
        "ForgettingRate": "erasure.measures.attacks.shokri:ForgettingRate",
        "AUS": "erasure.measures.aus:AUS",
        "AverageGap": "erasure.measures.average_gap:AverageGap",
        "ToW": "erasure.measures.tow:ToW",
        "ECE": "erasure.measures.calibration:ECE",
        "Brier": "erasure.measures.calibration:Brier",
        "NLL": "erasure.measures.calibration:NLL",
        "ConfusionMatrix": "erasure.measures.confusion:ConfusionMatrix",
        "InterclassConfusion": "erasure.measures.confusion:InterclassConfusion",
        "AttackSuccessRate": "erasure.measures.backdoor:AttackSuccessRate",
        "TrueLabelAccuracy": "erasure.measures.corrupted:TrueLabelAccuracy",
        "Recovery": "erasure.measures.recovery:Recovery",
        "ClassAccuracy": "erasure.measures.groups:ClassAccuracy",
        "GroupAccuracy": "erasure.measures.groups:GroupAccuracy",
        "DemographicParity": "erasure.measures.groups:DemographicParity",
        "EqualisedOdds": "erasure.measures.groups:EqualisedOdds",
        "Churn": "erasure.measures.gold_distance:Churn",
        "Agreement": "erasure.measures.gold_distance:Agreement",
        "Completeness": "erasure.measures.gold_distance:Completeness",
        "JSDivergence": "erasure.measures.gold_distance:JSDivergence",
        "KLDivergence": "erasure.measures.gold_distance:KLDivergence",
        "TotalVariation": "erasure.measures.gold_distance:TotalVariation",
        "Hellinger": "erasure.measures.gold_distance:Hellinger",
        "RelearnTime": "erasure.measures.relearn_time:RelearnTime",
        "AIN": "erasure.measures.relearn_time:AIN",
        "ZRF": "erasure.measures.zrf:ZRF",
        "LegacyZRF": "erasure.measures.zrf:LegacyZRF",
        "ActivationDistance": "erasure.measures.activations:ActivationDistance",
        "LegacyActivationDistance": "erasure.measures.activations:LegacyActivationDistance",
        "WeightDistance": "erasure.measures.weights:WeightDistance",
        "ModelDistance": "erasure.measures.model_distance:ModelDistance",
        "CKA": "erasure.measures.cka:CKA",
        "AnswerProbability": "erasure.measures.answers:AnswerProbability",
        "ExtractionStrength": "erasure.measures.answers:ExtractionStrength",
        "ExactMemorisation": "erasure.measures.answers:ExactMemorisation",
        "TruthRatio": "erasure.measures.truth_ratio:TruthRatio",
        "ForgetQuality": "erasure.measures.truth_ratio:ForgetQuality",
        "RougeL": "erasure.measures.generated_answers:RougeL",
        "MultipleChoice": "erasure.measures.multiple_choice:MultipleChoice",
        "LetterChoice": "erasure.measures.letter_choice:LetterChoice",
        "PromptAttack": "erasure.measures.attacks.prompt_attack:PromptAttack",
        "RoundedWeights": "erasure.measures.attacks.rounded_weights:RoundedWeights",
        "RelearningCurve": "erasure.measures.relearning_curve:RelearningCurve",
        "ReferenceMembership": "erasure.measures.attacks.model_membership:ReferenceMembership",
        "GradientMembership": "erasure.measures.attacks.model_membership:GradientMembership",
        "OpenUnlearningScore": "erasure.measures.open_unlearning:OpenUnlearningScore",
        "RefusalRate": "erasure.measures.wording:RefusalRate",
        "Fluency": "erasure.measures.wording:Fluency",
        "VerbMem": "erasure.measures.muse:VerbMem",
        "KnowMem": "erasure.measures.muse:KnowMem",
        "MetaEvaluation": "erasure.measures.meta_evaluation:MetaEvaluation",
        "LUMEScore": "erasure.measures.lume:LUMEScore",
        "PrivLeak": "erasure.measures.muse:PrivLeak",
        "ModelUtility": "erasure.measures.generated_answers:ModelUtility",
        "AnswerMembership": "erasure.measures.attacks.answer_membership:AnswerMembership",
        "Indiscernibility": "erasure.measures.composites:Indiscernibility",
        "NoMUS": "erasure.measures.composites:NoMUS",
        "GUM": "erasure.measures.composites:GUM",
        "CGUM": "erasure.measures.composites:CGUM",
    },
}
"""Kind of component to name to ``module:Class``."""

ALSO_KNOWN_AS: dict[str, dict[str, str]] = {
    "source": {"CSV": "TableFile", "Parquet": "TableFile", "Synthetic": "SyntheticTable"},
    "step": {
        "StringToList": "ParseLists",
        "StringContain": "ContainsText",
        "PatternMatch": "MatchPatterns",
        "UnifyStringColumns": "JoinColumns",
    },
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
        "ConvolutionTranspose": "CT",
        "MaskedSmallGradients": "MSG",
        "Fanchuan": "FCS",
        "UtU": "Unlink",
    },
    "measure": {
        "TorchSKLearn": "SklearnMetric",
        "RTE": "SpeedUp",
        "AvgGap": "AverageGap",
        "Kappa": "Agreement",
        "LinearCKA": "CKA",
    },
}
"""Kind to other names in use to the registered one."""

SECTIONS: dict[str, dict[str, str]] = {
    "data": {"Data": "erasure.experiment.configuration:DataSection"},
    "predictor": {"Predictor": "erasure.training.predictor:Predictor"},
    "evaluator": {"Evaluator": "erasure.experiment.configuration:EvaluatorSection"},
    "trace": {"Trace": "erasure.experiment.configuration:Trace"},
    "globals": {"Globals": "erasure.experiment.configuration:Globals"},
    "model": {"Module": "erasure.models.module:Module"},
}
"""Kind to name to ``module:Class`` of components that a configuration implies: nobody types these names, but addresses contain them."""

_FORMERLY_AT = {
    "erasure.measures.attacks.umia:UMIA": "measure:UMIA",
}
"""Where records of older versions say that a component is which has moved since, to its name in addresses."""


def plural(kind: str) -> str:
    """The name of a kind in plural, such as ``unlearners``; an entry-point group is ``erasure.`` and this."""
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


@functools.cache
def plugins(kind: str) -> dict[str, EntryPoint]:
    """Components of a kind that other packages add, by name."""
    return {point.name: point for point in _entry_points(tuple(sys.path)).select(group=f"erasure.{plural(kind)}")}


@functools.cache
def _entry_points(path: tuple[str, ...]) -> Any:
    """Those of all packages on the path; to look through them takes as long for one group as for all."""
    return entry_points()


@functools.cache
def address_name(kind: str, cls: Any) -> str:
    """What an address calls a class: its kind and registered name, so that results outlive a move of the code.

    Names of other packages carry the package's name too, since two of them may register the same one. A class that nobody has
    registered is known by its path alone.
    """
    path = f"{cls.__module__}:{cls.__qualname__}"
    if path in _NAMES:
        return _NAMES[path]
    for name, point in plugins(kind).items():
        if point.attr == cls.__qualname__ and _stands_for(point, cls):
            package = point.dist.name if point.dist is not None else point.module.partition(".")[0]
            return f"{kind}:{package}/{name}"
    return path


def shown_name(kind: str, cls: Any) -> str:
    """What messages call a class: the name that it is registered under, else its own."""
    registered = address_name(kind, cls)
    return registered.partition(":")[2].rpartition("/")[2] if registered.startswith(f"{kind}:") else str(cls.__name__)


def _stands_for(point: EntryPoint, cls: type) -> bool:
    # The package may export the class under a shorter path than it is defined at; only its own modules are imported for that.
    same_package = point.module.partition(".")[0] == cls.__module__.partition(".")[0]
    return same_package and getattr(importlib.import_module(point.module), point.attr, None) is cls


def present_name(recorded: str) -> str:
    """The name in addresses of a class that a record names by the path it had then; any other text as it is."""
    return _FORMERLY_AT.get(recorded) or _NAMES.get(recorded, recorded)


_NAMES = {
    path: f"{kind}:{name}" for table in (SECTIONS, BUILTINS) for kind, names in table.items() for name, path in names.items()
}
