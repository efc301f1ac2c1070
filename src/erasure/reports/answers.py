"""What language models say of forgotten samples: their answers side by side, and how each token of the true one has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erasure.errors import StoreError
from erasure.records.run_folder import RunFolder
from erasure.records.stages_file import read_stages
from erasure.store import Artifact, Store
from erasure.token_texts import text_of_pieces

__all__ = ["STEPS", "answers_of"]

STEPS = 4
"""Shades in either direction."""

_LARGEST = 4.0
"""Change of a token's log-probability, in nats, that has the deepest shade."""

_MAX_MODELS = 12
_MAX_PARTS = 4
"""Bytes of a character at most."""

_ANSWERS, _LOG_PROBABILITY = "answers", 0
_READ = frozenset({"outputs", "values"})


def answers_of(folder: RunFolder, store: Store, ids: Sequence[int], pieces: Sequence[str]) -> dict[int, list[dict[str, Any]]]:
    """For each sample, what the models of the first repetition say, the original and gold first.

    Args:
        folder: The run.
        store: Where its results are.
        ids: Samples.
        pieces: How each token reads.

    Returns:
        By sample, for each model ``label``; ``said``, its answer as a measure had it generated, or None; and
        ``tokens``, of the true answer: ``text``, ``change`` of the log-probability from the original in nats, and ``shade`` from -4 (much
        less likely) to 4. The original's own tokens have no change. What the store does not have is left out.
    """
    models = _first_models(folder)
    if folder.directory is None or not models:
        return {}
    said: dict[tuple[str, int], str] = {}
    likely: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for artifact, address in _artifacts(folder, store, models):
        label = models[address]
        if artifact.kind == "values":
            answers: Any = artifact.json(_ANSWERS)
            for each in answers:
                said.setdefault((label, int(each["sample"])), str(each["said"]))
        else:
            likely.update({(label, i): tokens for i, tokens in _tokens(artifact, ids).items()})
    original = next(iter(models.values()))
    found: dict[int, list[dict[str, Any]]] = {}
    for i in ids:
        before = likely.get((original, i), [])
        for label in models.values():
            after = likely.get((label, i), [])
            if (label, i) in said or after:
                tokens = _changed(before if label != original else [], after, pieces)
                found.setdefault(i, []).append({"label": label, "said": said.get((label, i)), "tokens": tokens})
    return found


def _first_models(folder: RunFolder) -> dict[str, str]:
    """Labels by address, one model a label; the original, gold, then methods in the order of the run."""
    order = {"original": 0, "gold": 1}
    labels: dict[str, str] = {}
    for model in sorted(folder.record.models, key=lambda each: order.get(each.role, 2)):
        if model.address and not model.failed and model.label not in labels.values():
            labels.setdefault(model.address, model.label)
    return dict(list(labels.items())[:_MAX_MODELS])


def _artifacts(folder: RunFolder, store: Store, models: Mapping[str, str]) -> list[tuple[Artifact, str]]:
    """Outputs and values of these models, with the address of the model."""
    if folder.directory is None:
        return []
    try:
        stages = read_stages(folder.directory)
    except StoreError:
        return []
    wanted = {entry.address for entry in store.entries() if entry.kind in _READ} & stages.keys()
    found: list[tuple[Artifact, str]] = []
    for where in sorted(wanted):
        artifact = store.open(where)
        content: Any = artifact.content
        if content.get("model") in models and (artifact.kind != "values" or f"{_ANSWERS}.json" in artifact.files):
            found.append((artifact, content["model"]))
    return found


def _tokens(artifact: Artifact, ids: Sequence[int]) -> dict[int, list[tuple[int, float]]]:
    """Tokens of the true answers with their log-probabilities, of those samples that the outputs are of."""
    from safetensors import safe_open

    found: dict[int, list[tuple[int, float]]] = {}
    with safe_open(artifact.path("outputs.safetensors"), framework="numpy") as file:
        samples = file.get_tensor("ids").tolist()
        places = {sample: place for place, sample in enumerate(samples)}
        labels, statistics = file.get_slice("labels"), file.get_slice("logits")
        if len(statistics.get_shape()) != 3:
            return {}
        for i in ids:
            if i not in places:
                continue
            place = places[i]
            row, numbers = labels[place : place + 1][0], statistics[place : place + 1][0]
            found[i] = [
                (int(token), float(each[_LOG_PROBABILITY])) for token, each in zip(row, numbers, strict=True) if token >= 0
            ]
    return found


def _changed(
    before: Sequence[tuple[int, float]], after: Sequence[tuple[int, float]], pieces: Sequence[str]
) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = []
    parts: list[str] = []
    change: float | None = None
    for place, (token, value) in enumerate(after, start=1):
        parts.append(pieces[token] if token < len(pieces) else "?")
        if place <= len(before):
            change = (change or 0.0) + value - before[place - 1][1]
        text = text_of_pieces(parts)
        if text.endswith("\ufffd") and len(parts) < _MAX_PARTS and place < len(after):
            continue  # a part of a character is shown with the rest of it
        shade = 0 if change is None else max(-STEPS, min(STEPS, round(STEPS * change / _LARGEST)))
        tokens.append({"text": text, "change": change, "shade": shade})
        parts, change = [], None
    return tokens
