"""What turns prompts and answers into tokens, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol

from annotated_types import Ge, MinLen
from jinja2 import TemplateError

from erasure.component import Component
from erasure.data.text import library_version, pretrained_fingerprint
from erasure.errors import DataError, MissingDependency
from erasure.training.tokenizers import pieces_of, pretrained_tokenizer, written_bytes
from erasure.types import Json

__all__ = ["BytePairs", "Encoder", "PretrainedVocabulary", "Vocabulary"]

_END = "<|end|>"
_CHUNK = 1024
_DATE = "10 Apr 2025"
"""The day of every prompt whose template says one; that of open-unlearning."""


class Encoder(Protocol):
    """A vocabulary at work.

    Args:
        size: Tokens in all.
        end: The token that ends an answer.
        pieces: How each token reads, with the space before it; empty for special ones.
    """

    size: int
    end: int
    pieces: tuple[str, ...]

    def encode(self, texts: Sequence[str], *, begins: bool) -> list[list[int]]:
        """Tokens of each text.

        Args:
            texts: Beginnings of documents, or what goes on after something else.
            begins: Whether they are beginnings; what starts a document is put before them, where the vocabulary has such a token.
        """
        ...

    def chat(self, prompt: str) -> list[int]:
        """Tokens of a prompt as the model's own chat template writes it, up to where the answer starts."""
        ...


@dataclass(frozen=True, kw_only=True)
class Vocabulary(Component):
    """Turns text into tokens for a language model."""

    kind: ClassVar[str] = "vocabulary"

    def fingerprint(self) -> Json:
        """What the tokens depend on beside the parameters and the texts."""
        return None

    def encoder(self, texts: Iterable[str]) -> Encoder:
        """The vocabulary at work; one that is learned is learned from ``texts``.

        Raises:
            DataError: If it cannot be had.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class BytePairs(Vocabulary):
    """Pairs of bytes that occur often, learned from the data, for a model that is trained from scratch.

    It is learned from all texts, forgotten ones included, and tells which strings are frequent in them. Every text can be written in it,
    for the 256 bytes are tokens too.

    Args:
        vocabulary_size: Tokens in all, bytes and the end of an answer included.
    """

    version: ClassVar[int] = 2

    vocabulary_size: Annotated[int, Ge(257)] = 2048

    def fingerprint(self) -> Json:
        """Version of the library that learns it."""
        return {"tokenizers": library_version("tokenizers")}

    def encoder(self, texts: Iterable[str]) -> Encoder:
        """Learn the pairs."""
        try:
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        except ModuleNotFoundError as error:
            raise MissingDependency(error.name or "tokenizers", "text", "BytePairs") from error
        written = list(texts)
        # A pair takes two bytes or more to be found: no more tokens are learned, and the library sets memory aside for all it is asked for.
        n_tokens = min(self.vocabulary_size, 257 + sum(len(text.encode()) for text in written))
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=n_tokens,
            special_tokens=[_END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(written, trainer)
        return _Learned(tokenizer)


class _Learned:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.size, self.end = int(tokenizer.get_vocab_size()), int(tokenizer.token_to_id(_END))
        self.pieces = tuple("" if i == self.end else written_bytes(tokenizer.id_to_token(i)) for i in range(self.size))

    def encode(self, texts: Sequence[str], *, begins: bool) -> list[list[int]]:
        return [list(each.ids) for each in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def chat(self, prompt: str) -> list[int]:
        raise DataError('BytePairs has no chat template; give template as a text with "{prompt}" and "{answer}"')


@dataclass(frozen=True, kw_only=True)
class PretrainedVocabulary(Vocabulary):
    """The tokenizer of a pretrained language model.

    Args:
        name_or_path: A local folder, a GGUF file, or a name on the hub.
        download: Whether it may be fetched if it is not on this machine.
    """

    version: ClassVar[int] = 2

    name_or_path: Annotated[str, MinLen(1)]
    download: bool = field(default=False, metadata={"address": False})

    def fingerprint(self) -> Json:
        """Digest of a local folder, and the version of the library."""
        return pretrained_fingerprint(self.name_or_path)

    def encoder(self, texts: Iterable[str]) -> Encoder:
        """Load the tokenizer."""
        return _Loaded(pretrained_tokenizer(self.name_or_path, self.download), self.name_or_path)


class _Loaded:
    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        if tokenizer.eos_token_id is None:
            raise DataError(f'the tokenizer "{name}" has no token that ends a text; it is no tokenizer of a language model')
        self.end = int(tokenizer.eos_token_id)
        self.pieces = pieces_of(tokenizer)
        self.size = max(len(tokenizer), len(self.pieces))

    def encode(self, texts: Sequence[str], *, begins: bool) -> list[list[int]]:
        found = self._ids(texts)
        if not begins:
            return self._gone_on(texts, found)
        begin = self.tokenizer.bos_token_id
        # Whether documents start with a token is the tokenizer's own habit, seen on an empty text.
        is_habit = begin is not None and self.tokenizer("")["input_ids"][:1] == [begin]
        return [[begin, *ids] for ids in found] if is_habit else found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            found += self.tokenizer(chunk, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return found

    def _gone_on(self, texts: Sequence[str], found: list[list[int]]) -> list[list[int]]:
        """Tokens of texts that go on after others.

        Vocabularies of sentence pieces put a blank before whatever they are given, which is in no text: they are given a line break first.
        """
        first = self.tokenizer.convert_ids_to_tokens(self._ids(["a"])[0][:1])
        if not first or not first[0].startswith("▁"):
            return found
        before = self._ids(["\n"])[0]
        after = self._ids([f"\n{text}" for text in texts])
        is_apart = all(ids[: len(before)] == before for ids in after)
        return [ids[len(before) :] for ids in after] if is_apart else found

    def chat(self, prompt: str) -> list[int]:
        if not self.tokenizer.chat_template:
            raise DataError(f'the tokenizer "{self.name}" has no chat template; give template as a text')
        turns = [{"role": "user", "content": prompt}]
        try:
            # Templates that write the date would make other tokens of the same data every day.
            written = str(
                self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, date_string=_DATE)
            )
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
            raise DataError(
                f'the chat template of "{self.name}" cannot be used: {type(error).__name__}: {error}; give template as a text'
            ) from error
        if written.rstrip().endswith(prompt.strip()):
            raise DataError(f'nothing in the chat template of "{self.name}" ends the prompt; give template as a text')
        return list(self.tokenizer(written, add_special_tokens=False)["input_ids"])
