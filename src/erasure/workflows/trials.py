"""The search of a tuning: trials that Optuna proposes, kept in a database from which an interrupted search goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from erasure.errors import ErasureError, MissingDependency
from erasure.training.randomness import derive
from erasure.unlearners.contract import Unlearner
from erasure.unlearners.search import Range, SearchSpace, current

__all__ = ["Trial", "begin", "history_of", "load_optuna", "open_study", "published", "search"]


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Args:
        number: Its number, from 0.
        parameters: The setting.
        objective: What is minimised; None if it was pruned.
        state: ``complete`` or ``pruned``.
        reason: Why it was pruned.
        unlearning_s: Seconds of the method itself, over the tuning seeds.
        elapsed_s: Seconds that the trial took, measuring included; little where the store had it.
    """

    number: int
    parameters: Mapping[str, Any]
    objective: float | None
    state: str
    reason: str = ""
    unlearning_s: float = 0.0
    elapsed_s: float = 0.0


def load_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        MissingDependency: If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingDependency("optuna", "tune", "tuning") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_study(optuna: Any, storage: Any, name: str, seed: int) -> Any:
    """The study of that name, with a sampler that depends on the seed and on how many trials there are already."""
    names = {each.study_name for each in storage.get_all_studies()}
    done = len(optuna.load_study(study_name=name, storage=storage).trials) if name in names else 0
    sampler = optuna.samplers.TPESampler(seed=derive(seed, done) % 2**32)
    return optuna.create_study(study_name=name, storage=storage, sampler=sampler, direction="minimize", load_if_exists=True)


def begin(study: Any, optuna: Any, unlearner: Unlearner, space: SearchSpace) -> None:
    """Begin with the defaults and the configured setting; try again what was interrupted."""
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
        study.enqueue_trial(trial.params, skip_if_exists=False)
    if study.trials:
        return
    for start in filter(None, (published(unlearner), unlearner)):
        values = {name: current(start, name) for name in space}
        known = {name: value for name, value in values.items() if value is not None and _fits(space[name], value)}
        study.enqueue_trial(known, skip_if_exists=True)


def published(unlearner: Unlearner) -> Unlearner | None:
    """The method as its paper has it, on the same partitions; None for a composition, which no paper has."""
    roles = {name: getattr(unlearner, name) for name in ("forget", "retain", "train")}
    try:
        return type(unlearner)(**roles)
    except TypeError:  # something that has no default
        return None


def _fits(kind: Any, value: Any) -> bool:
    return kind.low <= value <= kind.high if isinstance(kind, Range) else value in kind.values


def search(
    study: Any,
    optuna: Any,
    space: SearchSpace,
    budget: int,
    attempt: Callable[[Mapping[str, Any]], tuple[float | None, str, float, float]],
    on_trial: Callable[[Trial], None] | None,
    end: float,
) -> None:
    """Try settings until as many as ``budget`` have ended, or until the monotonic clock shows ``end``.

    Args:
        study: The study.
        optuna: The library.
        space: What may be tried.
        budget: Trials, pruned ones among them.
        attempt: Objective (None prunes), reason, seconds of unlearning and of retraining of a setting.
        on_trial: Called after every trial.
        end: When no trial starts any more.
    """
    states = optuna.trial.TrialState
    while time.monotonic() < end and len(study.get_trials(states=(states.COMPLETE, states.PRUNED))) < budget:
        trial = study.ask()
        parameters = {name: _suggest(trial, name, kind) for name, kind in space.items()}
        start = time.perf_counter()
        try:
            objective, reason, seconds, gold_s = attempt(parameters)
        except ErasureError as error:
            study.tell(trial, state=states.FAIL)
            raise error
        elapsed = time.perf_counter() - start
        for key, value in {"reason": reason, "unlearning_s": seconds, "gold_s": gold_s, "elapsed_s": elapsed}.items():
            trial.set_user_attr(key, value)
        if objective is None or not math.isfinite(objective):
            study.tell(trial, state=states.PRUNED)
        else:
            study.tell(trial, objective)
        if on_trial is not None:
            on_trial(history_of(study)[-1])


def _suggest(trial: Any, name: str, kind: Any) -> Any:
    if not isinstance(kind, Range):
        return trial.suggest_categorical(name, kind.values)
    if kind.is_whole:
        return trial.suggest_int(name, kind.low, kind.high, log=kind.log)
    return trial.suggest_float(name, kind.low, kind.high, log=kind.log)


def history_of(study: Any) -> list[Trial]:
    """Trials that ended, numbered in their order; those that were interrupted are not among them."""
    ended = [trial for trial in study.trials if trial.state.name in {"COMPLETE", "PRUNED"}]
    return [
        Trial(
            number=number,
            parameters=dict(trial.params),
            objective=trial.value if trial.state.name == "COMPLETE" else None,
            state=trial.state.name.lower(),
            reason=str(trial.user_attrs.get("reason", "")),
            unlearning_s=float(trial.user_attrs.get("unlearning_s", 0.0)),
            elapsed_s=float(trial.user_attrs.get("elapsed_s", 0.0)),
        )
        for number, trial in enumerate(ended)
    ]
