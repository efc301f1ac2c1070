"""What every unlearner must keep to, as a test suite to inherit.

::

    class TestMyMethod(UnlearnerConformance):
        def make(self):
            return MyMethod(epochs=2)

The problems are tiny and in memory (:func:`erasure.testing.problems.problem`); a suite runs in about two seconds.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import functools
import importlib
import itertools
import json
import subprocess
import sys
import unittest
import weakref
from collections.abc import MutableMapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from erasure.errors import PartitionError, RequirementNotMet
from erasure.testing.checks import check, check_generators, global_states
from erasure.testing.problems import ForgetSet, Kind, ToyProblem, problem
from erasure.training.forward import logits_of
from erasure.training.predictor import Predictor
from erasure.types import PartitionRole, Task
from erasure.unlearners.contract import Unlearned, Unlearner, model_digest

__all__ = ["LanguageUnlearnerConformance", "UnlearnerConformance"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


class UnlearnerConformance:
    """Checks of one unlearner; give :meth:`make`, and change the class data where the method differs.

    Class data:
        kind: The network and inputs it is usually run with.
        forget: The forget set it is usually run with; ``class`` for methods that forget whole classes only.
        stochastic: Whether another seed gives other weights; if False, it must give the same.
        reads: Roles of the partitions whose inputs it looks at; by default all that it declares.
        recipe: How the original is trained where that is no network of the suite by Adam, such as an estimator.
        zero_epochs_change_nothing: Whether the method is the identity when every parameter that counts epochs is 0.
    """

    kind: ClassVar[Kind] = "table"
    forget: ClassVar[ForgetSet] = "some"
    stochastic: ClassVar[bool] = True
    reads: ClassVar[frozenset[PartitionRole] | None] = None
    zero_epochs_change_nothing: ClassVar[bool] = True
    recipe: ClassVar[Predictor | None] = None

    def make(self) -> Unlearner:
        """The unlearner under test, small enough to run in a fraction of a second."""
        raise NotImplementedError

    def problem(
        self, kind: Kind | None = None, forget: ForgetSet | None = None, task: Task = "classification", seed: int = 0
    ) -> ToyProblem:
        """The problem it is tested on; override it to use one of your own (and ignore what does not apply)."""
        # No estimator takes several labels a sample; methods made for them have to refuse the task.
        recipe = self.recipe if task in self.make().defined_for else None
        return problem(kind or self.kind, forget or self.forget, task, seed=seed, recipe=recipe)

    def digest(self, seed: int = 0) -> str:
        """Digest of the unlearned model's weights and buffers."""
        return model_digest(_run(self.make(), self.problem(seed=seed)).model)

    def _usual(self) -> _Looked:
        """The method on its usual problem, run once for all checks that only look at what it did."""
        if type(self) not in _USUAL:
            _USUAL[type(self)] = _looked_at(self.make(), self.problem())
        return _USUAL[type(self)]

    def _in_training(self) -> tuple[_Looked, _Witness]:
        """The method on a model in training mode whose first weights are frozen, run once as well, and who computed meanwhile."""
        if type(self) not in _IN_TRAINING:
            given = self.problem()
            given.model.train()
            for first in itertools.islice(given.model.parameters(), 1):  # an estimator has none
                first.requires_grad_(False)
            with _Witness(type(given.model)) as seen:  # a hook: numbers may be rounded otherwise
                _IN_TRAINING[type(self)] = _looked_at(self.make(), given), seen
        return _IN_TRAINING[type(self)]

    def _digest_of_seed_3(self) -> str:
        digests, n_threads = _DIGESTS.setdefault(type(self), {}), torch.get_num_threads()
        if n_threads not in digests:
            digests[n_threads] = self.digest(seed=3)
        return digests[n_threads]

    # What must not be touched

    def test_the_original_model_is_unchanged_bit_for_bit(self) -> None:
        for run, training in ((self._usual(), False), (self._in_training()[0], True)):
            original = run.given.model
            check(model_digest(original) == run.before, "the input model's weights or buffers changed")
            check(all(p.grad is None for p in original.parameters()), "the input model received gradients")
            check(all(m.training == training for m in original.modules()), "the input model's modes changed")

    def test_the_unlearned_model_shares_no_storage_with_the_original(self) -> None:
        usual = self._usual()
        shared = _storages(usual.given.model) & _storages(usual.unlearned)
        check(not shared, "the unlearned model shares memory with the input model")

    def test_teachers_are_frozen_copies_that_never_change(self) -> None:
        run, seen = self._in_training()
        for teacher, digest in seen.frozen:
            if teacher is run.unlearned:
                continue
            check(model_digest(teacher) == digest, "a frozen model changed while the method ran")
            check(not _storages(teacher) & _storages(run.unlearned), "a frozen model shares memory with the unlearned one")
            check(all(p.grad is None for p in teacher.parameters()), "a frozen model received gradients")

    def test_hooks_flags_and_modes_are_as_before(self) -> None:
        method, (run, _) = self.make(), self._in_training()
        flags, original, unlearned = run.flags, run.given.model, run.unlearned
        check(_flags(original) == flags, "the input model's flags changed")
        check(_flags(unlearned) == flags, "requires_grad flags are not restored")
        before = dict(original.named_parameters())
        moved = [name for name, p in unlearned.named_parameters() if not flags[name] and not torch.equal(p, before[name])]
        check(bool(before) or not method.changes_weights(), "it works on a model without weights: needs_weights has to be False")
        goes_back = method.exact or method.at_training  # to before or into a training that had them free
        check(goes_back or not moved, f"the frozen weights {', '.join(moved)} have changed")
        check(_n_hooks(unlearned) == 0 and _n_hooks(original) == 0, "hooks were left behind")
        check(list(unlearned.state_dict()) == list(original.state_dict()), "the model's parameters have other names")

    # Randomness

    def test_the_same_seed_gives_the_same_bytes(self) -> None:
        check(self.digest() == self._usual().digest, "two runs with one seed differ")

    def test_the_same_seed_gives_the_same_bytes_in_another_process(self) -> None:
        cls = type(self)
        if "<locals>" in cls.__qualname__ or cls.__module__ == "__main__":
            raise unittest.SkipTest("a class without an import path cannot be sent to another process")
        check(_digest_elsewhere(cls, seed=3) == self._digest_of_seed_3(), "another process gives other weights for the same seed")

    def test_no_global_generator_is_consumed(self) -> None:
        usual = self._usual()
        check_generators(usual.generators, usual.generators_after)

    def test_the_seed_matters_exactly_if_the_method_is_stochastic(self) -> None:
        same = self._usual().digest == self._digest_of_seed_3()
        if self.stochastic:
            check(not same, "two seeds give the same weights; set stochastic = False if so meant")
        else:
            check(same, "two seeds give different weights, but stochastic is False")

    # Data

    def test_no_sample_outside_the_declared_partitions_is_read(self) -> None:
        method, given = self.make(), self._usual().given
        allowed = {i for name in self._declared(method).values() for i in given.context.partitions[name].tolist()}
        surplus = sorted(given.column.gathered - allowed)
        check(not surplus, f"samples of partitions that the method does not declare were read: {surplus[:10]}")

    def test_every_declared_partition_is_read(self) -> None:
        method, given = self.make(), self._usual().given
        for role, name in self._declared(method).items():
            read = given.column.gathered & set(given.context.partitions[name].tolist())
            check(bool(read), f"the method declares that it reads {role}, but read none of its samples")

    def _declared(self, method: Unlearner) -> dict[PartitionRole, str]:
        """The roles whose inputs it may read (a composition has no reads of its own), and their partitions."""
        roles = self.reads if self.reads is not None else method.reads or frozenset(method.partitions())
        return {role: name for role, name in method.partitions().items() if role in roles}

    def test_an_empty_forget_set_works_or_is_refused(self) -> None:
        self._works_or_is_refused(self.problem(forget="none"))

    def test_a_single_forget_sample_works_or_is_refused(self) -> None:
        self._works_or_is_refused(self.problem(forget="one"))

    def test_a_forget_set_smaller_than_a_batch_works_or_is_refused(self) -> None:
        self._works_or_is_refused(self.problem(forget="three"))

    def test_a_whole_class_works_or_is_refused(self) -> None:
        self._works_or_is_refused(self.problem(forget="class"))

    def test_token_inputs_work_or_are_refused(self) -> None:
        self._works_or_is_refused(self.problem("text"))

    def test_each_kind_of_task_works_exactly_if_the_method_is_defined_for_it(self) -> None:
        kinds: tuple[Task, ...] = ("binary", "multilabel")
        for kind in kinds:
            # For binary labels a whole class is the only forget set that every method takes.
            given = self.problem(task=kind, forget="class" if kind == "binary" else None)
            method = self.make()
            reason = method.unsupported_reason(given.context.model_input)
            if kind not in method.defined_for:
                check(bool(reason), f"the method is not defined for {kind} tasks, but does not refuse them")
            if reason is None:
                _run(method, given)

    # Networks

    def test_a_batchnorm_network_works_with_batches_of_one(self) -> None:
        method = self.make().replace(batch_size=4)
        _run(method, self.problem("image"))
        self._works_or_is_refused(self.problem("image", forget="one"), method)

    def test_networks_that_return_features_and_logits_work(self) -> None:
        if self.kind == "table":
            _run(self.make(), self.problem("pair"))
        else:  # it may need layers that this small network does not have
            self._works_or_is_refused(self.problem("pair"))

    def test_zero_epochs_change_neither_weights_nor_buffers(self) -> None:
        if not self.zero_epochs_change_nothing:
            raise unittest.SkipTest("the method changes the model beside its epochs")
        method = self.make()
        counts = [f.name for f in dataclasses.fields(method) if f.name == "epochs" or f.name.endswith("_epochs")]
        if not counts:
            raise unittest.SkipTest("the method counts no epochs")
        for kind in sorted({self.kind, "image"}):
            given = self.problem(kind)
            unlearned = _run(method.replace(**dict.fromkeys(counts, 0)), given).model
            check(model_digest(unlearned) == model_digest(given.model), "the model changed although no epoch was run")

    def _works_or_is_refused(self, given: ToyProblem, method: Unlearner | None = None) -> None:
        try:
            _run(method or self.make(), given)
        except (RequirementNotMet, PartitionError) as refusal:
            check(len(str(refusal).split()) > 3, "a refusal must say what was found and what was expected")


@dataclasses.dataclass(frozen=True, eq=False)
class _Looked:
    """A run: the problem afterwards, digest and flags of the original and states of the global generators before, and what came out."""

    given: ToyProblem
    before: str
    flags: dict[str, bool]
    generators: tuple[Any, ...]
    generators_after: tuple[Any, ...]
    unlearned: nn.Module
    digest: str


_USUAL: MutableMapping[type[UnlearnerConformance], _Looked] = weakref.WeakKeyDictionary()
_IN_TRAINING: MutableMapping[type[UnlearnerConformance], tuple[_Looked, _Witness]] = weakref.WeakKeyDictionary()
_DIGESTS: MutableMapping[type[UnlearnerConformance], dict[int, str]] = weakref.WeakKeyDictionary()


class LanguageUnlearnerConformance(UnlearnerConformance):
    """The same checks for a method that is defined for language models alone, on a tiny one."""

    def problem(
        self, kind: Kind | None = None, forget: ForgetSet | None = None, task: Task = "classification", seed: int = 0
    ) -> ToyProblem:
        """A problem of prompts and answers, whatever network and labels are asked for."""
        return problem("language", forget or self.forget, "generation", seed=seed)

    def test_each_kind_of_task_works_exactly_if_the_method_is_defined_for_it(self) -> None:
        method = self.make()
        kinds: tuple[Task, ...] = ("classification", "binary", "multilabel")
        for kind in kinds:
            check(
                kind in method.defined_for or bool(method.unsupported_reason(problem("table", task=kind).context.model_input)),
                "is not refused",
            )


def _run(method: Unlearner, given: ToyProblem) -> Unlearned:
    """Run the method and check what holds for every result."""
    result = method.run(given.model, given.context)
    check(not any(m.training for m in result.model.modules()), "the unlearned model is not in eval mode")
    inputs = given.context.x.gather(given.context.partitions["test"])
    given.column.gathered.difference_update(given.context.partitions["test"].tolist())
    with torch.no_grad():
        # A copy: in training mode the input model's own running statistics would follow.
        logits, before = (logits_of(model(inputs)) for model in (result.model, copy.deepcopy(given.model).eval()))
    check(
        logits.shape == before.shape, f"the unlearned model's logits have shape {tuple(logits.shape)}, not {tuple(before.shape)}"
    )
    check(bool(torch.isfinite(logits).all()), "the unlearned model's logits are not finite")
    check(result.elapsed_s >= 0 and result.precompute_s >= 0, "negative time")
    return result


def _looked_at(method: Unlearner, given: ToyProblem) -> _Looked:
    """Run the method once and keep all that checks look at."""
    before, flags, generators = model_digest(given.model), _flags(given.model), global_states()
    unlearned = _run(method, given).model
    return _Looked(given, before, flags, generators, global_states(), unlearned, model_digest(unlearned))


def _flags(model: nn.Module) -> dict[str, bool]:
    return {name: p.requires_grad for name, p in model.named_parameters()}


def _storages(model: nn.Module) -> set[int]:
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel()}


def _n_hooks(model: nn.Module) -> int:
    on_modules = sum(len(getattr(m, name)) for m in model.modules() for name in _HOOKS)
    return on_modules + sum(
        bool(p._backward_hooks) + bool(getattr(p, "_post_accumulate_grad_hooks", None)) for p in model.parameters()
    )


class _Witness:
    """Notes every model of a class that computes while its parameters take no gradient."""

    def __init__(self, cls: type[nn.Module]) -> None:
        self.cls = cls
        self.frozen: list[tuple[nn.Module, str]] = []
        self._seen: list[nn.Module] = []

    def __enter__(self) -> _Witness:
        self._handle = register_module_forward_pre_hook(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    def _note(self, module: nn.Module, inputs: Any) -> None:
        if type(module) is not self.cls or any(module is seen for seen in self._seen):
            return
        self._seen.append(module)
        if not any(p.requires_grad for p in module.parameters()):
            self.frozen.append((module, model_digest(module)))


# Another process: one for all suites of a test run, so that torch is imported once.


@functools.cache
def _worker() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from erasure.testing.unlearners import _serve; _serve()"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    atexit.register(_stop, worker)
    return worker


def _stop(worker: subprocess.Popen[str]) -> None:
    worker.communicate()


def _digest_elsewhere(suite: type[UnlearnerConformance], seed: int) -> str:
    worker = _worker()
    # Sums over several threads are rounded in another order, so the other process takes as many as this one.
    request = {
        "module": suite.__module__,
        "name": suite.__qualname__,
        "seed": seed,
        "path": sys.path,
        "n_threads": torch.get_num_threads(),
    }
    if worker.stdin is None or worker.stdout is None:
        raise RuntimeError("the other process has no pipes")
    worker.stdin.write(json.dumps(request) + "\n")
    worker.stdin.flush()
    answer: dict[str, str] = json.loads(worker.stdout.readline())
    check("digest" in answer, f"the other process failed: {answer.get('error')}")
    return answer["digest"]


def _serve() -> None:
    """Answer requests for digests, one JSON object a line, until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        sys.path[:] = request["path"]
        try:
            suite: Any = importlib.import_module(request["module"])
            for part in request["name"].split("."):
                suite = getattr(suite, part)
            torch.set_num_threads(request["n_threads"])
            answer = {"digest": suite().digest(request["seed"])}
        except Exception as error:  # whatever it was belongs to the process that asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
