"""Prompts and answers put into one matrix of tokens and their roles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from erasure.data.dataset import Dataset
from erasure.data.language.vocabularies import Encoder
from erasure.errors import DataError, Diagnostic, InvalidParameters
from erasure.functional.tokens import ANSWER, END, LEARNED, PROMPT, REPHRASED, answer_tokens
from erasure.training.batches import TensorColumn

__all__ = ["CHAT", "Exchange", "dataset_of", "require_template", "texts_of"]

CHAT = "chat"
"""Template that means the tokenizer's own."""

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A prompt, the answer to be learned, and what else may be answered.

    Args:
        prompt: What is asked; may be empty.
        answer: What is learned.
        alternate: What may be preferred to it: a refusal, or an answer that is made up.
        paraphrase: The answer in other words.
        rephrased: The prompt in other words.
        wrong: Answers that are wrong.
    """

    prompt: str
    answer: str
    alternate: str | None = None
    paraphrase: str | None = None
    rephrased: str | None = None
    wrong: tuple[str, ...] = ()


def require_template(template: str, owner: str) -> None:
    """Refuse a template that does not say where prompt and answer stand.

    Args:
        template: Text with ``{prompt}`` and ``{answer}``, or :data:`CHAT`.
        owner: Name of the source that has it, for the error.

    Raises:
        InvalidParameters: If it cannot be used; says why.
    """
    reason = _unusable(template)
    if reason is not None:
        raise InvalidParameters([Diagnostic(reason, path=f"{owner}.template")])


def _unusable(template: str) -> str | None:
    if template == CHAT:
        return None
    if template.count("{prompt}") != 1 or template.count("{answer}") != 1:
        return f'expected a text with "{{prompt}}" and "{{answer}}" once each, or "{CHAT}", found {template!r}'
    if template.index("{prompt}") > template.index("{answer}"):
        return f"the answer must come after the prompt, found {template!r}"
    if "{prompt}{answer}" in template:
        return f"nothing ends the prompt, so that it runs into the answer, found {template!r}; put a blank, a line break or a word between"
    return None


def texts_of(exchanges: Sequence[Exchange], template: str) -> Iterator[str]:
    """Every text that is going to be encoded, for a vocabulary that is learned."""
    for each in exchanges:
        if template != CHAT:
            yield _before(template, each.prompt)
        for _, answer in _versions(each):
            yield _after(template, answer) if template != CHAT else answer


def dataset_of(
    name: str,
    exchanges: Sequence[Exchange],
    *,
    encoder: Encoder,
    template: str,
    max_length: int,
    groups: Sequence[str] | None = None,
) -> Dataset:
    """The data set of some exchanges.

    The two sides of a template are turned into tokens apart from each other and joined, so that no token lies across the border and the
    first token of an answer is always labelled. Blanks before the answer belong to it.

    Args:
        name: How results call it.
        exchanges: The samples.
        encoder: Makes tokens.
        template: Text with ``{prompt}`` and ``{answer}``, or :data:`CHAT`.
        max_length: Tokens of a sample in all; an answer that is longer is cut and then has no end, of which a ``UserWarning`` tells.
        groups: Group of each sample by name, if there are any.

    Raises:
        DataError: If there is no sample, a prompt fills ``max_length`` or an answer is empty; names the samples.
    """
    if not exchanges:
        raise DataError(f'"{name}" has no samples: there is no row in its files')
    widest = max((_width(each) for each in exchanges), default=1)
    rows: list[tuple[int, int, list[int], list[int]]] = []
    too_long: list[int] = []
    rephrased_too_long: list[int] = []
    empty: list[int] = []
    cut: list[tuple[int, int]] = []
    for number, version, prompt, answer in _encoded(exchanges, encoder, template):
        if version in (LEARNED, REPHRASED) and len(prompt) >= max_length:
            (too_long if version == LEARNED else rephrased_too_long).append(number)
        elif version == LEARNED and len(answer) <= 1:
            empty.append(number)
        elif answer[:-1] and len(prompt) < max_length:
            rows.append((number, version, prompt, answer))
            if len(prompt) + len(answer) > max_length:
                cut.append((number, version))
    nothing_left = f"of {max_length} tokens or more, which leaves nothing of the answer; raise max_length"
    _refuse(name, too_long, f"a prompt {nothing_left}")
    _refuse(name, rephrased_too_long, f"a rephrased prompt {nothing_left}")
    _refuse(name, empty, "an empty answer, of which nothing can be learned; leave out what has none")
    _tell_of_cuts(name, cut, max_length)
    longest = max((min(max_length, len(prompt) + len(answer)) for _, _, prompt, answer in rows), default=1)
    x = torch.zeros(len(exchanges), 2 * widest, longest, dtype=torch.int64)
    for number, version, prompt, answer in rows:
        # Without a prompt the first token cannot be predicted from anything; it takes the prompt's place.
        n_before = max(1, len(prompt))
        ids = [*prompt, *answer][:max_length]
        roles = [PROMPT] * n_before + [ANSWER] * (len(ids) - n_before)
        if len(ids) == len(prompt) + len(answer):
            roles[-1] = END
        x[number, 2 * version, : len(ids)] = torch.tensor(ids)
        x[number, 2 * version + 1, : len(ids)] = torch.tensor(roles)
    names = tuple(dict.fromkeys(groups or ()))
    codes = {each: code for code, each in enumerate(names)}
    return Dataset(
        name=name,
        x=TensorColumn(x),
        y=answer_tokens(x),
        z=None if groups is None else torch.tensor([codes[each] for each in groups]),
        z_names=names,
        n_classes=encoder.size,
        x_shape=tuple(x.shape[1:]),
        task="generation",
        modality="text",
        token_names=encoder.pieces,
    )


def _width(exchange: Exchange) -> int:
    return 1 + max((version for version, _ in _versions(exchange)), default=0)


def _versions(each: Exchange) -> Iterator[tuple[int, str]]:
    known = (each.answer, each.alternate, each.paraphrase, each.answer if each.rephrased else None, *each.wrong)
    return ((version, text) for version, text in enumerate(known) if text is not None)


def _encoded(exchanges: Sequence[Exchange], encoder: Encoder, template: str) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Number, version, tokens of the prompt and of the answer with its end."""
    places = [(number, version, text) for number, each in enumerate(exchanges) for version, text in _versions(each)]
    prompts = [_prompt(exchanges[number], version) for number, version, _ in places]
    if template == CHAT:
        known = {prompt: encoder.chat(prompt) for prompt in dict.fromkeys(prompts)}
        before = [known[prompt] for prompt in prompts]
        # A turn starts anew, as a document does, without what starts one.
        begin, *turns = encoder.encode(["", *(text for _, _, text in places)], begins=True)
        after = [ids[len(begin) :] for ids in turns]
    else:
        before = encoder.encode([_before(template, prompt) for prompt in prompts], begins=True)
        after = encoder.encode([_after(template, text) for _, _, text in places], begins=False)
    for (number, version, text), prompt, answer in zip(places, before, after, strict=True):
        yield number, version, list(prompt), [*(answer if text.strip() else []), encoder.end]


def _prompt(each: Exchange, version: int) -> str:
    return each.rephrased if version == REPHRASED and each.rephrased else each.prompt


def _before(template: str, prompt: str) -> str:
    return template.partition("{answer}")[0].rstrip(" \t").replace("{prompt}", prompt)


def _after(template: str, answer: str) -> str:
    before, _, rest = template.partition("{answer}")
    blanks = before[len(before.rstrip(" \t")) :]
    return f"{blanks}{answer}{rest}"


def _refuse(name: str, samples: list[int], what: str) -> None:
    if samples:
        raise DataError(f'"{name}": {_counted(samples, what)}')


def _tell_of_cuts(name: str, cut: list[tuple[int, int]], max_length: int) -> None:
    """Warn of answers that are cut, given by sample and version."""
    learned = [number for number, version in cut if version == LEARNED]
    n_others = len(cut) - len(learned)
    found = [_counted(learned, f"an answer that ends after {max_length} tokens and is cut there")] if learned else []
    found += (
        [f"{n_others} paraphrased, wrong or other answers end after {max_length} tokens and are cut there"] if n_others else []
    )
    if found:
        warnings.warn(f'"{name}": {"; ".join(found)}; raise max_length to keep them whole', stacklevel=3)


def _counted(samples: list[int], what: str) -> str:
    shown = ", ".join(map(str, samples[:_SHOWN])) + (", …" if len(samples) > _SHOWN else "")
    many = f"{len(samples)} samples have" if len(samples) > 1 else "a sample has"
    return f"{many} {what} ({'samples' if len(samples) > 1 else 'sample'} {shown})"
