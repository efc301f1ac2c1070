"""Measures of what is left of poisoned samples against the suite."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from erasure.errors import RequirementNotMet
from erasure.measures.backdoor import AttackSuccessRate
from erasure.measures.corrupted import TrueLabelAccuracy
from erasure.measures.recovery import Recovery
from erasure.testing.evaluations import ToyEvaluation
from erasure.testing.measures import MeasureConformance
from erasure.training.triggers import FeatureTrigger

TRIGGER = FeatureTrigger(features=(5,), values=(4.0,))


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return layer.eval()


class TestAttackSuccessRate(MeasureConformance):
    """The poor model obeys the trigger, as one that has forgotten nothing."""

    def bench(self, task="classification", seed=0):
        plain = super().bench(task, seed)
        state = {name: value.clone() for name, value in plain.models["gold"].state_dict().items()}
        state["weight"][min(1, len(state["weight"]) - 1), 5] += 5.0
        return replace(plain, models={**plain.models, "poor": linear(state["weight"], state["bias"])})

    def make(self):
        return AttackSuccessRate(trigger=TRIGGER, target=1)


class KnowingBench(ToyEvaluation):
    def evaluation(self, measure, model="fair", kind="unlearned", *, elapsed_s=1.0):
        # Every third sample has a wrong label; the models were fitted to the true ones.
        k = self.model_input.n_classes
        wrong = torch.where(torch.arange(len(self.y)) % 3 == 0, (self.y + 1) % k, self.y)
        known = replace(self, y=wrong, read=self.read, compared=self.compared)
        made = ToyEvaluation.evaluation(known, measure, model, kind, elapsed_s=elapsed_s)
        return replace(made, facts={"clean_y": self.y})


class TestTrueLabelAccuracy(MeasureConformance):
    """The poor model takes each class for the next, as the wrong labels say."""

    def bench(self, task="classification", seed=0):
        plain = super().bench(task, seed)
        weight, bias = plain.models["gold"].state_dict().values()
        poor = linear(weight.roll(1, 0), bias.roll(1)) if len(bias) > 1 else linear(-weight, -bias)
        models = {**plain.models, "poor": poor}
        return KnowingBench(**{**vars(plain), "models": models, "read": set(), "compared": set()})

    def make(self):
        return TrueLabelAccuracy(partition="test")


class TestRecovery(MeasureConformance):
    """The original is what wrong data has made of gold: it takes each class for the next."""

    def bench(self, task="classification", seed=0):
        plain = super().bench(task, seed)
        weight, bias = plain.models["gold"].state_dict().values()
        ruined = linear(weight.roll(1, 0), bias.roll(1)) if len(bias) > 1 else linear(-weight, -bias)
        return replace(plain, models={**plain.models, "original": ruined, "poor": ruined})

    def make(self):
        return Recovery(partition="test")


def test_recovery_is_refused_where_nothing_was_lost():
    bench = TestRecovery().bench()
    same = replace(bench, models={**bench.models, "original": bench.models["gold"]})
    with pytest.raises(RequirementNotMet, match="no harm there"):
        Recovery(partition="test").measure(same.evaluation(Recovery(partition="test")))
