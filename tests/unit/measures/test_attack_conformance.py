"""The conformance suite on the attacks with shadow models, which are linear models fitted in closed form."""

from dataclasses import dataclass, fields, replace

import pytest
import torch

from erasure.measures.attacks.lira import LiRA, ULiRA
from erasure.measures.attacks.person_lira import PersonLiRA
from erasure.measures.attacks.rmia import RMIA
from erasure.measures.attacks.ruli import RULI, RULIEfficacy
from erasure.measures.attacks.shokri import ForgettingRate, ShokriAttack
from erasure.measures.contract import forward_pass
from erasure.measures.requested_models import UnlearnedShadow
from erasure.stages.blocks import ModelStack, forgotten_ids, seen_ids
from erasure.testing import MeasureConformance
from erasure.testing.evaluations import ToyEvaluation, bench
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion

_FITTED = {}


@dataclass(frozen=True, eq=False, kw_only=True)
class RequestingEvaluation(ToyEvaluation):
    """A bench with a provider; shadow models are fitted to the data as it was first, as the models under test are.

    Args:
        first: Inputs and labels that shadow models learn from.
    """

    first: tuple

    def evaluation(self, measure, model="fair", kind="unlearned", *, elapsed_s=1.0):
        given = super().evaluation(measure, model, kind, elapsed_s=elapsed_s)
        return replace(given, provider=Fitted(self, dict(measure.requests(kind)), kind))


@dataclass
class Fitted:
    """Answers requests with ridge regressions; every method unlearns by retraining."""

    bench: RequestingEvaluation
    declared: dict
    kind: str

    def _ids(self, request, way):
        block = ModelStack(requests=(request,), seeds=(0,), way="train", root=5)
        return way(request, block, self.bench.partitions)

    def seen(self, request):
        return self._ids(request, seen_ids)

    def forgotten(self, request):
        return self._ids(request, forgotten_ids)

    def load(self, request):
        # Models are read only, and equal whatever the order of a partition.
        parts = tuple((name, len(ids), int(ids.sum())) for name, ids in self.bench.partitions.items())
        key = (request, self.kind, self.bench.task, self.bench.seed, parts)
        if key not in _FITTED:
            _FITTED[key] = self._fitted(request)
        return _FITTED[key]

    def _fitted(self, request):
        seen = self.seen(request)
        gone = self.forgotten(request) if isinstance(request, UnlearnedShadow) and self.kind != "original" else seen[:0]
        x, y = self.bench.first
        return _ridge(self.bench.task, x, y, seen[~torch.isin(seen, gone)])

    def outputs(self, request, partition):
        assert partition in self.declared[request]
        return forward_pass(
            self.load(request),
            x=TensorColumn(self.bench.x),
            y=self.bench.y,
            ids=self.bench.partitions[partition],
            criterion=Criterion(self.bench.task),
            task=self.bench.task,
            batch_size=self.bench.batch_size,
        )


def _ridge(task, x, y, ids):
    """Ridge regression on labels of -1 and 1, as logits."""
    inputs = torch.cat([x[ids], torch.ones(len(ids), 1)], dim=1).double()
    if task == "classification":
        wanted = 2 * torch.nn.functional.one_hot(y[ids], 3).double() - 1
    else:
        wanted = 2 * y[ids].double().reshape(len(ids), -1) - 1
    weight = 2 * torch.linalg.solve(inputs.T @ inputs + torch.eye(inputs.shape[1]).double(), inputs.T @ wanted)
    layer = torch.nn.Linear(weight.shape[0] - 1, weight.shape[1], device="meta")
    layer.load_state_dict({"weight": weight[:-1].T.float(), "bias": weight[-1].float()}, assign=True)
    return layer.eval()


@dataclass(frozen=True, eq=False, kw_only=True)
class PeopleBench(RequestingEvaluation):
    """A bench whose samples are those of persons, five each, nobody on two sides."""

    def evaluation(self, measure, model="fair", kind="unlearned", *, elapsed_s=1.0):
        z = torch.full((len(self.x),), -1)
        for side, name in enumerate(("forget", "test")):
            ids = self.partitions[name].unique()
            z[ids] = 1000 * side + torch.arange(len(ids)) // 5
        return replace(super().evaluation(measure, model, kind, elapsed_s=elapsed_s), z=z)


class AttackConformance(MeasureConformance):
    """The suite, with a provider."""

    def bench(self, task="classification", seed=0):
        plain = bench(task, seed=seed)
        return RequestingEvaluation(**{f.name: getattr(plain, f.name) for f in fields(plain)}, first=(plain.x, plain.y))


class TestLiRAConformance(AttackConformance):
    def make(self):
        return LiRA(n_shadows=8)


@pytest.mark.nightly  # another setting of an attack that is here
class TestOfflineLiRAConformance(AttackConformance):
    def make(self):
        return LiRA(n_shadows=16, variant="offline", interval="models", top=0.5)


class TestULiRAConformance(AttackConformance):
    def make(self):
        return ULiRA(n_shadows=8)


@pytest.mark.nightly  # another setting of an attack that is here
class TestULiRATopConformance(AttackConformance):
    def make(self):
        return ULiRA(n_shadows=8, top=0.5, variant="online")


class TestPersonLiRAConformance(AttackConformance):
    def make(self):
        return PersonLiRA(n_shadows=8, fpr=0.3)

    def bench(self, task="classification", seed=0):
        given = super().bench(task, seed)
        return PeopleBench(**{f.name: getattr(given, f.name) for f in fields(given)})


class TestRMIAConformance(AttackConformance):
    def make(self):
        return RMIA(n_shadows=4)


@pytest.mark.nightly  # another setting of an attack that is here
class TestRMIAPopulationConformance(AttackConformance):
    def make(self):
        return RMIA(n_shadows=4, population="validation", variant="online")


class TestRULIConformance(AttackConformance):
    def make(self):
        return RULI(n_shadows=24)


class TestRULIEfficacyConformance(AttackConformance):
    def make(self):
        return RULIEfficacy(n_shadows=24)


class TestShokriAttackConformance(AttackConformance):
    tolerance = 1e-3  # attack models are fitted iteratively

    def make(self):
        return ShokriAttack(n_shadows=4)


class TestForgettingRateConformance(AttackConformance):
    tolerance = 0.05  # a sample at the attack's threshold may change sides

    def make(self):
        return ForgettingRate(n_shadows=4)


def test_a_measure_that_needs_a_bank_says_so_without_one():
    given = bench()
    with pytest.raises(Exception, match="trains other models"):
        LiRA(n_shadows=4).measure(given.evaluation(LiRA(n_shadows=4)))
