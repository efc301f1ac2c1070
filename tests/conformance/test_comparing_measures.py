"""Measures of confusion, calibration, groups, distance to another model, relearning and composite scores against the suite."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from erasure.measures.activations import ActivationDistance, LegacyActivationDistance
from erasure.measures.attacks.umia import UMIA
from erasure.measures.calibration import ECE, NLL, Brier
from erasure.measures.cka import CKA
from erasure.measures.composites import CGUM, GUM, Indiscernibility, NoMUS
from erasure.measures.confusion import ConfusionMatrix, InterclassConfusion
from erasure.measures.contract import Measure, Value
from erasure.measures.gold_distance import (
    Agreement,
    Churn,
    Completeness,
    Hellinger,
    JSDivergence,
    KLDivergence,
    TotalVariation,
)
from erasure.measures.groups import ClassAccuracy, DemographicParity, EqualisedOdds, GroupAccuracy
from erasure.measures.model_distance import ModelDistance
from erasure.measures.relearn_time import AIN, RelearnTime
from erasure.measures.weights import WeightDistance
from erasure.measures.zrf import ZRF, LegacyZRF
from erasure.testing.evaluations import ToyEvaluation
from erasure.testing.measures import MeasureConformance
from erasure.types import Partition


@dataclass(frozen=True, eq=False, kw_only=True)
class RichBench(ToyEvaluation):
    """A bench whose samples belong to groups and whose networks can be built anew."""

    z: torch.Tensor

    def fresh(self, seed):
        original = self.models["original"]
        layer = nn.Linear(original.in_features, original.out_features, device="meta")
        generator = torch.Generator().manual_seed(seed)
        state = {name: torch.randn(p.shape, generator=generator) for name, p in original.state_dict().items()}
        layer.load_state_dict(state, assign=True)
        return layer.eval()

    def evaluation(self, measure, model="fair", kind="unlearned", *, elapsed_s=1.0):
        return replace(super().evaluation(measure, model, kind, elapsed_s=elapsed_s), z=self.z, fresh=self.fresh)


class Comparing(MeasureConformance):
    def bench(self, task="classification", seed=0):
        plain = super().bench(task, seed)
        # Groups that differ in their inputs, as groups of people do.
        z = torch.stack([torch.arange(len(plain.x)) % 4, (plain.x[:, 0] > plain.x[:, 0].median()).long()], dim=1)
        return RichBench(**{**vars(plain), "read": set(), "compared": set(), "z": z})


class TestECE(Comparing):
    def make(self):
        return ECE()


class TestAdaptiveECE(Comparing):
    def make(self):
        return ECE(bins="equal-mass", partition="retain")


class TestBrier(Comparing):
    def make(self):
        return Brier()


class TestNLL(Comparing):
    def make(self):
        return NLL(partition="forget")


class TestConfusionMatrix(Comparing):
    def make(self):
        return ConfusionMatrix()


class TestConfusionMatrixOfOneClass(Comparing):
    def make(self):
        return ConfusionMatrix(classes=(1,), normalized=True, partition="forget")


class TestInterclassConfusion(Comparing):
    def make(self):
        return InterclassConfusion(first=0, second=1)


class TestClassAccuracy(Comparing):
    def make(self):
        return ClassAccuracy()


class TestGroupAccuracy(Comparing):
    def make(self):
        return GroupAccuracy()


class TestDemographicParity(Comparing):
    def make(self):
        return DemographicParity(positive=1, column=1)


class TestEqualisedOdds(Comparing):
    def make(self):
        return EqualisedOdds(positive=1, column=1)


class TestChurn(Comparing):
    def make(self):
        return Churn()


class TestChurnFromTheOriginal(Comparing):
    def make(self):
        return Churn(reference="original")


class TestAgreement(Comparing):
    def make(self):
        return Agreement()


class TestKappa(Comparing):
    def make(self):
        return Agreement(chance_corrected=True)


class TestCompleteness(Comparing):
    def make(self):
        return Completeness()


class TestJSDivergence(Comparing):
    def make(self):
        return JSDivergence()


class TestKLDivergence(Comparing):
    def make(self):
        return KLDivergence()


class TestTotalVariation(Comparing):
    def make(self):
        return TotalVariation(partition="test")


class TestHellinger(Comparing):
    def make(self):
        return Hellinger()


class TestRelearnTime(Comparing):
    def make(self):
        return RelearnTime(cap=12, batch_size=16, eval_samples=32)


class TestRelearnTimeInEpochsByLoss(Comparing):
    def make(self):
        return RelearnTime(cap=4, count="epochs", target="loss", relearn="retain")


class TestAIN(Comparing):
    def make(self):
        return AIN(cap=6)


class TestZRF(Comparing):
    def make(self):
        return ZRF()


class TestLegacyZRF(Comparing):
    def make(self):
        return LegacyZRF()


class TestActivationDistance(Comparing):
    def make(self):
        return ActivationDistance()


class TestActivationDistanceL1FromTheOriginal(Comparing):
    def make(self):
        return ActivationDistance(norm="l1", reference="original")


class TestLegacyActivationDistance(Comparing):
    def make(self):
        return LegacyActivationDistance()


class TestWeightDistance(Comparing):
    def make(self):
        return WeightDistance(by_layer=True)


class TestWeightDistanceFromTheOriginal(Comparing):
    def make(self):
        return WeightDistance(reference="original")


class TestModelDistance(Comparing):
    def make(self):
        return ModelDistance()


class TestModelDistanceOfActivations(Comparing):
    def make(self):
        return ModelDistance(function="jsdistance", activations=True, block_diag=True)


class TestCKA(Comparing):
    def make(self):
        return CKA()


class TestUnbiasedCKA(Comparing):
    def make(self):
        return CKA(unbiased=True, partition="retain", max_samples=64)


class TestIndiscernibility(Comparing):
    def make(self):
        return Indiscernibility(membership=UMIA(protocol="choi-na", n_splits=2))


class TestNoMUS(Comparing):
    def make(self):
        return NoMUS(membership=UMIA(protocol="choi-na", n_splits=2))


@dataclass(frozen=True, kw_only=True)
class Certainty(Measure):
    """An attack that tells the linear models of the bench apart, unlike one that counts samples."""

    value_range = (0.0, 1.0)

    partition: Partition = "forget"

    def measure(self, evaluation):
        return [Value(value=float((-evaluation.outputs(self.partition).losses).exp().mean()))]


class TestGUM(Comparing):
    def make(self):
        return GUM(membership=Certainty())

    def benches(self):
        # Elsewhere the attack finds the linear original no easier than gold, and the score is refused.
        return [self.bench("classification")]


class TestCGUM(Comparing):
    def make(self):
        return CGUM(membership=Certainty())
