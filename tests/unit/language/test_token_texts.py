"""How tokens read that hold parts of characters, and vocabularies that put a blank before whatever they are given."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers

from erasure.data.language.exchanges import Exchange, dataset_of
from erasure.data.language.vocabularies import BytePairs, PretrainedVocabulary
from erasure.functional.tokens import without_padding
from erasure.measures.generation import text_of
from erasure.models.text import library
from erasure.reports.answers import _changed
from erasure.token_texts import piece_of, text_of_pieces

TEXTS = (" In Lima.", " naïve café", " Привет, мир", "東京 😀", "\n\nA: b")
MERGES = [("▁", "L"), ("▁L", "i"), ("▁Li", "m"), ("▁Lim", "a"), ("▁", "I"), ("▁I", "n")]


@pytest.fixture(scope="module")
def sentence_pieces(tmp_path_factory):
    """A vocabulary in the manner of Llama 2: a blank before each text, and bytes for what has no piece."""
    letters = ("▁", *map(chr, range(97, 123)), *map(chr, range(65, 91)), *".,:?")
    tokens = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *map("".join, MERGES))
    made = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=MERGES, unk_token="<unk>", byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    fast = library("transformers", "a test").PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = "{{ messages[0]['content'] }} [/INST]"
    path = tmp_path_factory.mktemp("pieces")
    fast.save_pretrained(path)
    return PretrainedVocabulary(name_or_path=str(path)).encoder([])


def test_parts_of_characters_are_put_together_and_what_is_left_over_is_shown():
    data = "é😀".encode()
    assert text_of_pieces(piece_of(data[k : k + 1]) for k in range(len(data))) == "é😀"
    assert text_of_pieces([piece_of(data[:1]), " x", piece_of(data[1:])]) == "\ufffd x\ufffd😀"
    assert text_of_pieces([]) == ""


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_reads_as_it_was_written_whatever_its_tokens_are(text, sentence_pieces, tmp_path):
    learned = BytePairs(vocabulary_size=257).encoder([text])
    library("transformers", "a test").PreTrainedTokenizerFast(
        tokenizer_object=learned.tokenizer, eos_token="<|end|>"
    ).save_pretrained(tmp_path)
    for encoder in (learned, PretrainedVocabulary(name_or_path=str(tmp_path)).encoder([]), sentence_pieces):
        (ids,) = encoder.encode([text], begins=False)
        assert text_of(encoder.pieces, ids) == text


def test_answers_go_on_after_prompts_without_a_blank_of_their_own(sentence_pieces):
    for template, whole in (
        ("Q: {prompt}\nA: {answer}", "Q: Where?\nA: In Lima"),
        ("Q: {prompt}\n{answer}", "Q: Where?\nIn Lima"),
    ):
        found = dataset_of(
            "x", [Exchange(prompt="Where?", answer="In Lima")], encoder=sentence_pieces, template=template, max_length=64
        )
        ((prompt, answer, has_end),) = without_padding(found.x.values)
        assert has_end
        assert [*prompt, *answer[:-1]] == sentence_pieces.tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_a_turn_of_a_chat_starts_anew(sentence_pieces):
    found = dataset_of(
        "x", [Exchange(prompt="Where?", answer="In Lima")], encoder=sentence_pieces, template="chat", max_length=64
    )
    ((_, answer, _),) = without_padding(found.x.values)
    assert sentence_pieces.tokenizer.convert_ids_to_tokens(answer) == ["▁In", "▁Lima", "</s>"]


def test_parts_of_a_character_are_shaded_as_one():
    pieces = [*(piece_of(bytes([byte])) for byte in " é".encode()), "a"]
    before, after = ([(token, value) for token, value in enumerate(values)] for values in ((-1, -2, -3, -4), (-1, -1, -1, -6)))
    assert [(each["text"], each["change"], each["shade"]) for each in _changed(before, after, pieces)] == [
        (" ", 0, 0),
        ("é", 3, 3),
        ("a", -2, -2),
    ]
    assert [each["text"] for each in _changed([], after[:2], pieces)] == [" ", "\ufffd"]
    assert [each["change"] for each in _changed([], after, pieces)] == [None] * 3
