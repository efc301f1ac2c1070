"""Every measure of the package against the conformance suite."""

import importlib
import inspect
import pkgutil

import pytest
import torch

import erasure.measures
from erasure.errors import RequirementNotMet
from erasure.measures.attacks.entropy_attack import EntropyAttack
from erasure.measures.attacks.mia_efficacy import MIAEfficacy
from erasure.measures.attacks.umia import UMIA
from erasure.measures.aus import AUS
from erasure.measures.average_gap import AverageGap
from erasure.measures.contract import Measure
from erasure.measures.partition_info import PartitionInfo
from erasure.measures.run_time import RunTime, SpeedUp
from erasure.measures.sklearn_metric import Accuracy, Metric, SklearnMetric
from erasure.measures.tow import ToW
from erasure.testing.evaluations import bench
from erasure.testing.measures import MeasureConformance


class TestAccuracy(MeasureConformance):
    def make(self):
        return Accuracy(partition="test")


class TestSklearnMetricAccuracyOnForget(MeasureConformance):
    def make(self):
        return SklearnMetric(partition="forget")


class TestSklearnMetricMacroF1(MeasureConformance):
    def make(self):
        return SklearnMetric(function=Metric.of("f1_score"))


class TestSklearnMetricRocAuc(MeasureConformance):
    def make(self):
        return SklearnMetric(function=Metric.of("roc_auc_score"))


class TestSklearnMetricLogLoss(MeasureConformance):
    def make(self):
        return SklearnMetric(function=Metric.of("log_loss"))

    def benches(self):
        return [bench("classification"), bench("binary")]


class TestSklearnMetricZeroOneLoss(MeasureConformance):
    def make(self):
        return SklearnMetric(function=Metric.of("zero_one_loss"), partition="retain")


class TestMIAEfficacy(MeasureConformance):
    def make(self):
        return MIAEfficacy()


class TestEntropyAttack(MeasureConformance):
    def make(self):
        return EntropyAttack()


class TestPartitionInfo(MeasureConformance):
    empty = frozenset({"forget"})

    def make(self):
        return PartitionInfo(partition="forget")


class TestRunTime(MeasureConformance):
    def make(self):
        return RunTime()


class TestSpeedUp(MeasureConformance):
    def make(self):
        return SpeedUp()


class TestUMIA(MeasureConformance):
    def make(self):
        return UMIA(n_splits=2)  # tests/unit/measures/test_umia.py has the protocols' own numbers


class TestUMIAOfChoiAndNa(MeasureConformance):
    def make(self):
        return UMIA(protocol="choi-na", n_splits=2)


class TestAUS(MeasureConformance):
    def make(self):
        return AUS()


class TestAUSAfterAClassWasForgotten(MeasureConformance):
    forget_class = True

    def make(self):
        return AUS()


class TestAverageGap(MeasureConformance):
    def make(self):
        return AverageGap()


class TestAverageGapWithAnAttack(MeasureConformance):
    def make(self):
        return AverageGap(membership=UMIA(protocol="choi-na", n_splits=2))


class TestToW(MeasureConformance):
    def make(self):
        return ToW()


class TestToWMIA(MeasureConformance):
    def make(self):
        return ToW(membership=UMIA(protocol="choi-na", n_splits=2))


_ELSEWHERE: frozenset[str] = frozenset(
    {
        "AIN",
        "AnswerMembership",
        "AnswerProbability",
        "ForgetQuality",
        "ModelUtility",
        "RougeL",
        "TruthRatio",
        "ExactMemorisation",
        "ExtractionStrength",
        "ActivationDistance",
        "Agreement",
        "AttackSuccessRate",
        "Brier",
        "CGUM",
        "CKA",
        "Churn",
        "ClassAccuracy",
        "Completeness",
        "ConfusionMatrix",
        "DemographicParity",
        "ECE",
        "EqualisedOdds",
        "GUM",
        "GroupAccuracy",
        "Hellinger",
        "Indiscernibility",
        "InterclassConfusion",
        "JSDivergence",
        "KLDivergence",
        "LegacyActivationDistance",
        "LegacyZRF",
        "ModelDistance",
        "NLL",
        "NoMUS",
        "Recovery",
        "RelearnTime",
        "TotalVariation",
        "TrueLabelAccuracy",
        "WeightDistance",
        "ZRF",
    }
)
"""Measures whose suites are in other files of this folder."""

_WITH_A_BANK: frozenset[str] = frozenset(
    {
        "LiRA",
        "PersonLiRA",
        "ULiRA",
        "RMIA",
        "RULI",
        "RULIEfficacy",
        "ShokriAttack",
        "ForgettingRate",
        "KLoM",
        "ForgettingQuality",
        "ResidualMemory",
        "Energy",
        "Flops",
        "HardwareCounters",
    }
)
"""Measures of models that a run has to train or make again; tests/unit/measures/test_shadow_attacks.py holds them to what they promise."""


_OF_EDGES: frozenset[str] = frozenset({"DeletedEdgeAUC", "DeletedLinkAUC", "EdgeLiRA", "EdgeMembership", "EdgeMemory"})
"""Measures of edges; test_edge_*.py and test_deleted_links.py in tests/unit/measures hold them to what they promise."""

_OF_ANSWERS: frozenset[str] = frozenset(
    {
        "Fluency",
        "GradientMembership",
        "KnowMem",
        "LUMEScore",
        "LetterChoice",
        "MetaEvaluation",
        "MultipleChoice",
        "OpenUnlearningScore",
        "PrivLeak",
        "PromptAttack",
        "ReferenceMembership",
        "RefusalRate",
        "RelearningCurve",
        "RoundedWeights",
        "VerbMem",
    }
)
"""Measures of language models alone; tests/unit/language holds them to what they promise."""


def _concrete_measures():
    for module in pkgutil.walk_packages(erasure.measures.__path__, "erasure.measures."):
        for cls in vars(importlib.import_module(module.name)).values():
            if (
                inspect.isclass(cls)
                and issubclass(cls, Measure)
                and cls.__module__ == module.name
                and cls.measure is not Measure.measure
                and not cls.__name__.startswith("_")
            ):
                yield cls


def test_every_measure_of_the_package_has_a_conformance_suite():
    suites = [cls for cls in globals().values() if inspect.isclass(cls) and issubclass(cls, MeasureConformance)]
    tested = {type(suite().make()) for suite in suites if suite is not MeasureConformance}
    elsewhere = _ELSEWHERE | _WITH_A_BANK | _OF_EDGES | _OF_ANSWERS
    missing = [cls.__name__ for cls in _concrete_measures() if cls not in tested and cls.__name__ not in elsewhere]
    assert not missing, f"measures without a suite: {missing}"


_TELLING = {
    "attack": {
        "AnswerMembership",
        "EdgeLiRA",
        "EdgeMembership",
        "EntropyAttack",
        "GradientMembership",
        "LiRA",
        "PersonLiRA",
        "RMIA",
        "RULI",
        "RULIEfficacy",
        "ReferenceMembership",
        "ShokriAttack",
        "UMIA",
        "ULiRA",
    },
    "ignorance": {"ForgettingRate", "MIAEfficacy"},
    "knowledge": {"EdgeMemory", "ResidualMemory"},
    "trace": {"AttackSuccessRate", "InterclassConfusion"},
    "": {"DeletedEdgeAUC", "DeletedLinkAUC", "ECE", "ForgettingQuality", "TrueLabelAccuracy"},
}
"""What a larger value tells of forgotten samples, of measures where its direction does not say it."""


@pytest.mark.parametrize("cls", list(_concrete_measures()), ids=lambda cls: cls.__name__)
def test_a_measure_says_what_its_values_tell_of_forgotten_samples(cls):
    assert cls.indicates == next((tells for tells, names in _TELLING.items() if cls.__name__ in names), None)
    low, high = cls.value_range
    assert cls.chance_level is None or (cls.indicates == "attack" and low < cls.chance_level < high)


@pytest.mark.parametrize(
    "cls", [cls for cls in _concrete_measures() if cls.__name__ not in _WITH_A_BANK], ids=lambda cls: cls.__name__
)
def test_a_model_that_diverged_gets_no_number(cls):
    try:
        measure = cls()
    except TypeError:
        pytest.skip("has no defaults")
    given = bench("classification")

    def values():
        kind = "unlearned" if "unlearned" in measure.applies_to else "original"
        return {(value.name, value.partition): value.value for value in measure.measure(given.evaluation(measure, "fair", kind))}

    try:
        sound = values()
    except RequirementNotMet:
        pytest.skip("asks for more than the toy has")
    with torch.no_grad():
        given.models["fair"].weight[1] = float("nan")
    try:
        found = values()
    except RequirementNotMet as error:
        assert "not finite" in str(error) or "diverged" in str(error)
        return
    of_the_model = {name: value for name, value in found.items() if sound != found and value == value}
    assert not of_the_model, f"numbers of a model that says nothing: {of_the_model}"


class _TouchesTheModel(Accuracy):
    def measure(self, evaluation):
        next(evaluation.subject.load().parameters()).data.add_(1)
        return super().measure(evaluation)


class _LooksElsewhere(Accuracy):
    def measure(self, evaluation):
        evaluation.ids("retain")
        return super().measure(evaluation)


class _DrawsFromTheGlobalGenerator(Accuracy):
    def measure(self, evaluation):
        import torch

        torch.rand(1)
        return super().measure(evaluation)


class _DependsOnTheOrder(Accuracy):
    def measure(self, evaluation):
        first = evaluation.ids(self.partition)[0]
        value = super().measure(evaluation)[0]
        return [type(value)(value=value.value * (1 - float(first) / 1e4), name=value.name, partition=value.partition)]


class _PrefersPoorModels(Accuracy):
    higher_is_better = False

    def measure(self, evaluation):
        value = super().measure(evaluation)[0]
        return [type(value)(value=value.value, name=value.name, partition=value.partition)]


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        (_TouchesTheModel, "test_no_model_is_changed"),
        (_LooksElsewhere, "test_only_declared_partitions_and_references_are_read"),
        (_DrawsFromTheGlobalGenerator, "test_no_global_generator_is_consumed"),
        (_DependsOnTheOrder, "test_the_order_of_a_partition_does_not_matter"),
        (_PrefersPoorModels, "test_a_better_model_has_a_better_value"),
    ],
)
def test_the_suite_finds_a_measure_that_is_at_fault(fault, test):
    suite = type("Suite", (MeasureConformance,), {"make": lambda self: fault()})()
    with pytest.raises(AssertionError):
        getattr(suite, test)()
