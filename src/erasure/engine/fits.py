"""Models that somebody's own training makes: ``fit(indices, seed) -> model``, each trained once and kept in the store."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from erasure.component import check_fields, component_slot, field_types
from erasure.config import Node
from erasure.config.build import Builder
from erasure.engine.given_data import GivenData
from erasure.errors import ConfigError, Diagnostic, ErasureError, InvalidParameters, RequirementNotMet
from erasure.events import Listener, Message, ignore_events
from erasure.functional.weights import changed_share
from erasure.measures.contract import Outputs, forward_pass
from erasure.registry.lookup import Registry
from erasure.store import Artifact, Store, Writer, address
from erasure.training.anatomy import load_state
from erasure.training.devices import synchronise
from erasure.training.parametrized import draw_anew
from erasure.training.predictor import Model, ModelInput, Predictor, train
from erasure.training.randomness import derive, isolated
from erasure.training.trial import deep_copy
from erasure.types import Json

__all__ = [
    "Fit",
    "Fits",
    "FittedModel",
    "callable_digest",
    "passed",
    "positions_explained",
    "recipe_fit",
    "remembered",
    "stored_outputs",
]

Fit: TypeAlias = Callable[[Any, int], nn.Module]
"""Trains a model from scratch on some samples: their positions in the training set, sorted, as an array of whole numbers, and a seed."""

_MAX_DEPTH = 6


class FittedModel:
    """A model that :class:`Fits` has trained, loaded when it is asked for.

    Args:
        load: Gives it, in eval mode, on the data's device; do not change it.
        outputs: What it says of the samples with some ids.
        elapsed_s: Seconds that training took.
        address: Its address in the store.
    """

    def __init__(
        self, load: Callable[[], nn.Module], outputs: Callable[[Tensor], Outputs], elapsed_s: float, address: str
    ) -> None:
        self.load: Callable[[], nn.Module] = functools.cache(load)
        self.outputs = outputs
        self.elapsed_s = elapsed_s
        self.address = address


class Fits:
    """Trains models by somebody's own function, each at most once: what the store has is not trained again.

    A model is addressed by the function (its code, what it refers to in its own file, its version), the training data, the ids and
    the seed. What a function reads from elsewhere, such as a file of settings, is not part of it: give it as ``version``.

    Args:
        fit: The function.
        like: A model of the same architecture; fitted ones get its shape.
        data: The data.
        store: Where models are kept.
        version: What else tells this function from others.
        listener: Receives a message for each training.
    """

    def __init__(
        self, fit: Fit, like: nn.Module, data: GivenData, store: Store, *, version: str = "", listener: Listener = ignore_events
    ) -> None:
        self.fit: Fit = fit
        self.like: nn.Module = like
        self.data: GivenData = data
        self.store: Store = store
        self.listener: Listener = listener
        self.trained_s: float = 0.0
        shapes = repr([(name, tuple(value.shape)) for name, value in like.state_dict().items()])
        self.identity: dict[str, Json] = {
            "fit": callable_digest(fit),
            "version": version,
            "data": data.fingerprint(),
            "architecture": hashlib.sha256(f"{type(like).__qualname__} {shapes}".encode()).hexdigest(),
            "torch": str(torch.__version__),
            "device": data.device.type,
        }
        self._known: dict[str, FittedModel] = {}
        self._first_of: dict[str, tuple[int, str]] = {}

    def where(self, ids: Tensor, seed: int) -> str:
        """Address of the model of some ids and a seed."""
        return address("fitted", self._content(ids, seed))

    def has(self, ids: Tensor, seed: int) -> bool:
        """Whether it is trained already."""
        return self.store.contains(self.where(ids, seed))

    def model(self, ids: Tensor, seed: int, name: str = "model") -> FittedModel:
        """The model trained on some samples.

        Args:
            ids: Positions of the samples, sorted.
            seed: Seed of training.
            name: What it is, for those who listen.

        Raises:
            RequirementNotMet: If what the function gives cannot be used, or is the same for another seed.
        """
        content = self._content(ids, seed)
        where = address("fitted", content)
        if where not in self._known:
            artifact = self.store.get_or_compute(where, "fitted", content, lambda writer: self._make(writer, ids, seed, name))
            self._known[where] = FittedModel(
                functools.partial(self._load, artifact),
                remembered(functools.partial(self._outputs, where)),
                cast(float, artifact.facts["elapsed_s"]),
                where,
            )
            self._check_seed(cast(str, content["ids"]), seed, where)
        return self._known[where]

    def _check_seed(self, ids: str, seed: int, where: str) -> None:
        """That the second model of some samples differs from the first: what never varies says nothing about chance."""
        first_seed, first = self._first_of.setdefault(ids, (seed, where))
        if first == where or first_seed == seed:
            return
        self._first_of[ids] = (seed, where)
        one, other = (self._known[each].load().state_dict() for each in (first, where))
        if not changed_share(one, other):
            raise RequirementNotMet(
                f"fit gives the same weights for the seeds {first_seed} and {seed}: it sets a seed of its own. Have it draw from the seed "
                "that it is given, such as torch.manual_seed(seed), so that retrained models show what chance does"
            )

    def _content(self, ids: Tensor, seed: int) -> dict[str, Json]:
        digest = hashlib.sha256(ids.cpu().numpy().astype("<i8").tobytes()).hexdigest()
        return {**self.identity, "ids": digest, "n": len(ids), "seed": seed}

    def _make(self, writer: Writer, ids: Tensor, seed: int, name: str) -> None:
        self.listener(Message(f"training {name} on {len(ids):,} samples (seed {seed})"))
        start = time.perf_counter()
        with isolated(derive(seed, "fit"), self.data.device), positions_explained(self.data, ids, "fit"):
            made = self._called(ids, seed)
        synchronise(self.data.device)
        elapsed_s = time.perf_counter() - start
        self._check(made)
        writer.save_tensors("model", {key: value.detach().cpu().contiguous() for key, value in made.state_dict().items()})
        writer.facts["elapsed_s"] = elapsed_s
        self.trained_s += elapsed_s

    def _called(self, ids: Tensor, seed: int) -> Any:
        try:
            return self.fit(ids.cpu().numpy().copy(), seed)
        except (ErasureError, IndexError, KeyError):  # a position that it does not know may be ours to explain
            raise
        except Exception as error:
            raise RequirementNotMet(
                f"fit(indices, seed) failed on {len(ids):,} samples: {type(error).__name__}: {error}"
            ) from error

    def _check(self, made: Any) -> None:
        if not isinstance(made, nn.Module):
            raise RequirementNotMet(f"fit gave a {type(made).__name__}, expected the trained torch.nn.Module")
        if made is self.like:
            raise RequirementNotMet("fit gave the original itself, expected a model trained from scratch on the given samples")
        wanted, found = ({key: tuple(v.shape) for key, v in m.state_dict().items()} for m in (self.like, made))
        if wanted != found:
            odd = next(key for key in (*wanted, *found) if wanted.get(key) != found.get(key))
            raise RequirementNotMet(
                f"fit gave a model of another architecture than the original: {odd} has shape {found.get(odd, 'none')}, expected "
                f"{wanted.get(odd, 'none')}"
            )
        before, after = self.like.state_dict(), made.state_dict()
        if all(torch.equal(value.detach().cpu(), after[key].detach().cpu()) for key, value in before.items()):
            raise RequirementNotMet("fit gave the original's weights, expected a model trained from scratch on the given samples")

    def _load(self, artifact: Artifact) -> nn.Module:
        model = self.data.prepared(self.like)
        load_state(model, artifact.tensors("model"))
        return model

    def _outputs(self, where: str, ids: Tensor) -> Outputs:
        return stored_outputs(self.store, where, self._known[where].load, self.data, ids)


def stored_outputs(store: Store, where: str, load: Callable[[], nn.Module], data: GivenData, ids: Tensor) -> Outputs:
    """What a model says, from the store: it is asked once, whichever attempt or request reads it.

    Args:
        store: Where it is kept.
        where: Address of the model.
        load: Gives the model.
        data: The data.
        ids: Of the samples.
    """
    samples = hashlib.sha256(ids.cpu().numpy().astype("<i8").tobytes()).hexdigest()
    content: dict[str, Json] = {"model": where, "ids": samples, "of": data.fingerprint_of(ids)}

    def compute(writer: Writer) -> None:
        said = passed(load(), data, ids)
        tensors = {"ids": said.ids, "logits": said.logits, "losses": said.losses, "labels": said.labels}
        writer.save_tensors("outputs", tensors | ({} if said.features is None else {"features": said.features}))

    found = store.get_or_compute(address("fitted-outputs", content), "fitted-outputs", content, compute)
    return Outputs(**found.tensors("outputs"), task=data.model_input.task)


@contextmanager
def positions_explained(data: GivenData, ids: Tensor, name: str) -> Iterator[None]:
    """Say what positions beyond the training set are to somebody's function that does not know them."""
    try:
        yield
    except (IndexError, KeyError) as error:
        n = len(data.partitions["train"]) if "train" in data.partitions else 0
        if not len(ids) or int(ids.max()) < n:
            raise
        raise RequirementNotMet(
            f"this measure trains on samples of test as well: {name} gets positions from {n:,} on for them, in the order of test, and "
            f"failed ({type(error).__name__}: {error}); have it take data and test joined, or give a recipe as train="
        ) from error


def remembered(compute: Callable[[Tensor], Outputs]) -> Callable[[Tensor], Outputs]:
    """What a model that does not change says of samples by their ids, each set of them asked once."""
    known: dict[bytes, Outputs] = {}

    def outputs(ids: Tensor) -> Outputs:
        key = ids.cpu().numpy().tobytes()
        if key not in known:
            known[key] = compute(ids)
        return known[key]

    return outputs


def passed(model: nn.Module, data: GivenData, ids: Tensor) -> Outputs:
    """One pass of a prepared model."""
    return forward_pass(model, x=data.x, y=data.y, ids=ids, criterion=data.criterion, task=data.model_input.task)


# A recipe instead of a function


class _Given(Model):
    """Stands where a recipe names its network."""

    def build(self, data: ModelInput) -> nn.Module:
        raise RequirementNotMet("the network is the original's")


def recipe_fit(recipe: Mapping[str, Any], like: nn.Module, data: GivenData) -> Fit:
    """A training function from a recipe: the original's network with new random weights, trained as a configuration's predictor is.

    Args:
        recipe: Fields of :class:`~erasure.training.predictor.Predictor` but ``model``, such as ``{"epochs": 20, "optimizer": "Adam"}``.
        like: The original.
        data: The data.

    Raises:
        ConfigError: With every problem of the recipe.
    """
    builder = Builder(Registry())
    values: dict[str, Any] = {}
    for name, value in recipe.items():
        slot = component_slot(field_types(Predictor).get(name))
        made_here = slot is not None and isinstance(value, str | Mapping)
        values[name] = builder.build(Node.of(value), slot, name) if made_here and slot is not None else value
    if builder.problems:
        raise ConfigError(builder.problems)
    checked, problems = check_fields(Predictor, {**values, "model": _Given()})
    if problems:
        raise InvalidParameters([Diagnostic(each.message, path=f"train.{each.location}", hint=each.hint) for each in problems])
    predictor = Predictor(**checked)
    sample = deep_copy(like)

    def fit(indices: Any, seed: int) -> nn.Module:
        model = deep_copy(sample)
        with isolated(derive(seed, "init"), data.device):
            draw_anew(model)
        prepared = data.prepared(model).train()
        trained = train(
            prepared,
            predictor,
            x=data.x,
            y=data.y,
            ids=torch.as_tensor(indices, device=data.device),
            criterion=data.criterion,
            seed=seed,
            batch_size=data.batch_size,
        )
        return data.released(trained)

    fit.__erasure_recipe__ = json.dumps(dict(recipe), sort_keys=True, default=repr)  # type: ignore[attr-defined]
    return fit


# What a function is


def callable_digest(function: Any) -> str:
    """SHA-256 of what a function does: its code, defaults, what it encloses, and what it refers to in its own file."""
    recipe = getattr(function, "__erasure_recipe__", None)
    digest = hashlib.sha256()
    _add(digest, recipe if recipe is not None else function, set(), 0)
    return digest.hexdigest()


def _add(digest: Any, value: Any, seen: set[int], depth: int) -> None:
    if id(value) in seen or depth > _MAX_DEPTH:
        return
    if isinstance(value, functools.partial):
        seen.add(id(value))
        for each in (value.func, *value.args, *sorted(value.keywords.items())):
            _add(digest, each, seen, depth + 1)
    elif isinstance(value, types.MethodType):
        _add(digest, value.__func__, seen, depth + 1)
        _add(digest, value.__self__, seen, depth + 1)
    elif isinstance(value, types.FunctionType):
        seen.add(id(value))
        _add_code(digest, value.__code__)
        inner = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        names = sorted(_names(value.__code__))
        own = [value.__globals__[name] for name in names if name in value.__globals__]
        for each in (*(value.__defaults__ or ()), *sorted((value.__kwdefaults__ or {}).items()), *inner):
            _add(digest, each, seen, depth + 1)
        for each in own:
            if _is_plain(each) or getattr(each, "__module__", None) == value.__module__:
                _add(digest, each, seen, depth + 1)
    elif isinstance(value, type):
        seen.add(id(value))
        digest.update(value.__qualname__.encode())
        for name, member in sorted(vars(value).items()):
            if isinstance(member, types.FunctionType):
                digest.update(name.encode())
                _add(digest, member, seen, depth + 1)
    else:
        _add_value(digest, value, seen, depth)


def _add_value(digest: Any, value: Any, seen: set[int], depth: int) -> None:
    if _is_plain(value):
        digest.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for each in sorted(value.items(), key=lambda pair: repr(pair[0])):
            _add(digest, each, seen, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            _add(digest, each, seen, depth + 1)
    elif isinstance(value, np.ndarray | Tensor):
        # Training data is part of the address by itself; of other arrays their shape tells.
        digest.update(f"{type(value).__name__} {tuple(value.shape)}".encode())
    else:
        digest.update(f"{type(value).__module__}.{type(value).__qualname__}".encode())
        _add(digest, type(value), seen, depth + 1)


def _add_code(digest: Any, code: types.CodeType) -> None:
    digest.update(code.co_code + repr(code.co_names).encode())
    for each in code.co_consts:
        if inspect.iscode(each):
            _add_code(digest, each)
        else:
            digest.update(repr(each).encode())


def _names(code: types.CodeType) -> set[str]:
    inner = (each for each in code.co_consts if inspect.iscode(each))
    return set(code.co_names).union(*(_names(each) for each in inner))


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that has no value yet
        return False


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)
