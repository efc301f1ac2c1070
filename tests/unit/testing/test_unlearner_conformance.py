"""The suite must find what it is there to find: one culprit for each check."""

import copy
import random
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from erasure.errors import Diverged
from erasure.testing.problems import problem
from erasure.testing.unlearners import UnlearnerConformance
from erasure.types import PartitionRole
from erasure.unlearners.contract import IterativeUnlearner, Unlearner
from erasure.unlearners.finetuning import Finetuning

_LEAKED = []


@dataclass(frozen=True, kw_only=True)
class Culprit(IterativeUnlearner):
    """Breaks one rule, otherwise fine-tunes."""

    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    breaks: str = ""
    epochs: int = 1

    def unlearn(self, model, task):
        trainer, retain = self.trainer(model, task), task.batches("retain")
        for _ in trainer.epochs():
            trainer.train_on(retain, lambda batch: task.loss(model, batch))
        getattr(self, self.breaks, lambda model, task: None)(model, task)
        return model

    def global_generator(self, model, task):
        random.random()

    def surplus_partition(self, model, task):
        task.x.gather(task.partitions["test"][:1])
        task.x.gather(task.partitions["forget"][:1])

    def hook(self, model, task):
        model.register_forward_hook(lambda *_: None)

    def process(self, model, task):
        with torch.no_grad():
            next(model.parameters()).add_(1e-6 * (hash("salted by each process") % 1_000_000))

    def threads(self, model, task):
        with torch.no_grad():
            next(model.parameters()).add_(1e-3 * torch.get_num_threads())

    def memory(self, model, task):
        _LEAKED.append(1)
        with torch.no_grad():
            next(model.parameters()).add_(1e-3 * len(_LEAKED))

    def moves_without_epochs(self, model, task):
        with torch.no_grad():
            next(model.parameters()).add_(1e-3)

    def not_finite(self, model, task):
        with torch.no_grad():
            list(model.parameters())[-2].fill_(3e38)  # finite, but no trained weight is that large

    def trained_teacher(self, model, task):
        teacher = copy.deepcopy(model).eval()
        for p in teacher.parameters():
            p.requires_grad_(False)
        x = task.x.gather(task.ids("retain"))
        teacher(x)
        next(teacher.parameters()).add_(1.0)

    def shared_teacher(self, model, task):
        teacher = copy.copy(model)
        for p in model.parameters():
            p.requires_grad_(False)
        teacher(task.x.gather(task.ids("retain")))
        for p in model.parameters():
            p.requires_grad_(True)

    def single_samples_refused_without_reason(self, model, task):
        if len(task.partitions["forget"]) == 1:
            raise IndexError("list index out of range")


@dataclass(frozen=True, kw_only=True)
class Thief(Unlearner):
    """Works on the model that it was given, not on a copy."""

    def run(self, model, task):
        result = super().run(model, task)
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        return result

    def unlearn(self, model, task):
        return model


@dataclass(frozen=True, kw_only=True)
class Lazy(Unlearner):
    """Declares what it does not read."""

    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})

    def unlearn(self, model, task):
        return model


class Suite(UnlearnerConformance):
    breaks = ""

    def make(self):
        return Culprit(breaks=self.breaks)


class ProcessSuite(Suite):
    breaks = "process"


class ThreadsSuite(Suite):
    breaks = "threads"


def suite(breaks: str = "", **facts) -> UnlearnerConformance:
    return type("Local", (Suite,), {"breaks": breaks, **facts})()


CAUGHT = [
    ("global_generator", "test_no_global_generator_is_consumed", "generator of random"),
    ("surplus_partition", "test_no_sample_outside_the_declared_partitions_is_read", "not declare"),
    ("hook", "test_hooks_flags_and_modes_are_as_before", "hooks"),
    ("memory", "test_the_same_seed_gives_the_same_bytes", "differ"),
    ("moves_without_epochs", "test_zero_epochs_change_neither_weights_nor_buffers", "no epoch"),
    ("trained_teacher", "test_teachers_are_frozen_copies_that_never_change", "changed"),
    ("shared_teacher", "test_teachers_are_frozen_copies_that_never_change", "shares memory"),
]


@pytest.mark.parametrize(("breaks", "check", "message"), CAUGHT, ids=[c[0] for c in CAUGHT])
def test_a_broken_rule_fails_its_check(breaks, check, message):
    getattr(suite(), check)()
    with pytest.raises(AssertionError, match=message):
        getattr(suite(breaks), check)()


def test_another_process_with_other_bytes_is_noticed():
    with pytest.raises(AssertionError, match="another process"):
        ProcessSuite().test_the_same_seed_gives_the_same_bytes_in_another_process()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_other_process_takes_as_many_threads(n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        ThreadsSuite().test_the_same_seed_gives_the_same_bytes_in_another_process()
    finally:
        torch.set_num_threads(before)


def test_a_changed_original_is_noticed():
    thief = type("Local", (UnlearnerConformance,), {"make": lambda self: Thief()})()
    with pytest.raises(AssertionError, match="input model"):
        thief.test_the_original_model_is_unchanged_bit_for_bit()


def test_an_unread_partition_is_noticed():
    reader = type("Local", (UnlearnerConformance,), {"make": lambda self: Lazy()})()
    with pytest.raises(AssertionError, match="read none"):
        reader.test_every_declared_partition_is_read()


def test_a_wrong_claim_about_randomness_is_noticed():
    with pytest.raises(AssertionError, match="stochastic is False"):
        suite(stochastic=False).test_the_seed_matters_exactly_if_the_method_is_stochastic()


def test_a_crash_is_not_taken_for_a_refusal():
    with pytest.raises(IndexError):
        suite("single_samples_refused_without_reason").test_a_single_forget_sample_works_or_is_refused()


def test_an_endless_model_is_noticed():
    with pytest.raises(Diverged, match="Culprit has diverged"):
        suite("not_finite").test_networks_that_return_features_and_logits_work()


def test_the_bank_repeats_the_original_and_shows_every_update():
    given = problem()
    steps = []
    given.models.replay(lambda model, update: steps.append((update.batch, copy.deepcopy(model.state_dict()))))
    assert steps[0][0] is None
    assert len(steps) == 1 + 6 * 5
    assert all(torch.equal(steps[-1][1][name], value) for name, value in given.model.state_dict().items())
    assert not torch.equal(steps[0][1]["layers.0.weight"], steps[1][1]["layers.0.weight"])


def test_a_retrained_model_differs_from_the_original_but_is_reproducible():
    given = problem()
    one, other = given.models.retrained("retain")[0], given.models.retrained("retain")[0]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(given.model.parameters()))
    assert isinstance(one, nn.Module)


def test_the_cache_computes_once():
    bank, calls = problem().models, []

    def compute():
        calls.append(1)
        return {"a": torch.zeros(1)}

    bank.cached("x", {"n": 1}, compute)
    bank.cached("x", {"n": 1}, compute)
    bank.cached("x", {"n": 2}, compute)
    assert len(calls) == 2


def test_the_suite_passes_for_a_sound_method():
    sound = type("Local", (UnlearnerConformance,), {"make": lambda self: Finetuning(epochs=1)})()
    for name in [name for name in dir(sound) if name.startswith("test_") and "process" not in name]:
        getattr(sound, name)()
