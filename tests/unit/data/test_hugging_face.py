"""The Hugging Face source turns texts into tokens, and reads pictures and tables, from local files and folders without a network."""

import gc
import gzip
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("datasets")
import datasets as library

from erasure.component import canonical
from erasure.data.preprocess.moving import MoveInputs
from erasure.data.sources.hugging_face import HuggingFace
from erasure.data.sources.preprocessed import Preprocessed
from erasure.data.storage import from_artifact, to_artifact
from erasure.data.text import fitted_tokens, hashed_tokens, words
from erasure.errors import DataError, InvalidParameters, MissingDependency

TEST_DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))


def real(name):
    file = TEST_DATA / "text" / name
    if not file.exists():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {file}")
    return str(file)


@pytest.fixture
def write(tmp_path):
    def a_file(text, name="talk.csv"):
        file = tmp_path / name
        file.write_text(text)
        return str(file)

    return a_file


TALK = "text,mood,person\nGood day!,glad,Ann\nBad day,sad,Ben\nA good dog,glad,Ben\n"


# Real files


def test_ag_news_is_read():
    source = HuggingFace(
        files=real("ag_news_test.csv.gz"),
        column_names=["topic", "title", "description"],
        columns=["title", "description"],
        label="topic",
        max_length=64,
    )
    data = source.load()
    assert (len(data), data.x_shape, data.modality, data.n_classes) == (7600, (64,), "text", 4)
    assert data.y.bincount().tolist() == [1900] * 4
    assert data.class_names == ("1", "2", "3", "4")
    first = "Fears for T N pension after talks"
    assert torch.equal(data.x.values[0, : len(first.split())], hashed_tokens([first], 7, 30_000)[0][0])
    assert data.z is None


def test_sms_is_read():
    source = HuggingFace(
        files=real("sms.tsv.gz"),
        column_names=["label", "text"],
        options={"quoting": 3},
        columns="text",
        label="label",
        contains="FREE",
    )
    data = source.load()
    assert (len(data), data.class_names, data.y.bincount().tolist()) == (5574, ("ham", "spam"), [4827, 747])
    assert data.z_names == ("without FREE", "with FREE")
    lines = gzip.decompress(Path(real("sms.tsv.gz")).read_bytes()).decode().splitlines()
    assert data.z.tolist() == [int("FREE" in line) for line in lines]


def test_sst2_is_read():
    source = HuggingFace(
        files=[real("sst2_train.tsv.gz"), real("sst2_dev.tsv.gz")],
        column_names=["text", "label"],
        options={"quoting": 3},
        columns="text",
        label="label",
        vocabulary="fitted",
        vocabulary_size=5000,
        max_length=32,
    )
    data = source.load()
    assert (len(data), data.n_classes, data.y[:6920].bincount().tolist()) == (7792, 2, [3310, 3610])
    assert (int(data.x.values.max()), int(data.x.values.min())) == (4999, 0)


# Tokens


def test_words_are_words_and_marks():
    assert words("Don't panic, it's 2 late!") == ["don't", "panic", ",", "it's", "2", "late", "!"]
    assert words("Ça VA", lowercase=False) == ["Ça", "VA"]


def test_hashed_ids_never_change():
    assert hashed_tokens(["the cat", "Cat the"], 4, 1000)[0].tolist() == [[HASH_THE, HASH_CAT, 0, 0], [HASH_CAT, HASH_THE, 0, 0]]


HASH_THE, HASH_CAT = 925, 769
"""1 plus the first 8 bytes of BLAKE2b, the lowest byte first, modulo 999."""


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.integers(3, 50), st.integers(1, 8))
def test_hashed_tokens_depend_on_their_text_alone(texts, vocabulary_size, max_length):
    ids, pieces = hashed_tokens(texts, max_length, vocabulary_size)
    assert ids.shape == (len(texts), max_length)
    assert ids.dtype == torch.int64
    assert int(ids.min()) >= 0
    assert int(ids.max()) < vocabulary_size
    assert bool((ids[:, 0] != 0).all())  # no row is padding alone
    for row, text in zip(ids, texts, strict=True):
        assert torch.equal(row, hashed_tokens([text], max_length, vocabulary_size)[0][0])
        assert int((row != 0).sum()) == min(max(1, len(words(text))), max_length)
        for number, word in zip(row.tolist(), words(text)[:max_length], strict=False):
            assert (
                word in pieces[number] or pieces[number].count("|") >= 2
            )  # at most three of those that share an id, "|" one of them


def test_the_fitted_vocabulary_is_the_most_frequent_words():
    ids, pieces = fitted_tokens(["b a b", "c a b", ""], 4, 4)
    assert pieces == ("", " [unknown]", " b", " a")
    assert ids.tolist() == [[2, 3, 2, 0], [1, 3, 2, 0], [1, 0, 0, 0]]


def test_long_texts_are_cut_and_the_mask_follows_the_ids(write):
    fields = {"files": write(TALK), "columns": "text", "label": "mood", "max_length": 3}
    ids = HuggingFace(**fields).load()
    both = HuggingFace(**fields, attention=True).load()
    assert ids.x.values.dtype == torch.int64
    assert both.x_shape == (2, 3)
    assert torch.equal(both.x.values[:, 0], ids.x.values)
    assert both.x.values[:, 1].tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 1]]


@pytest.fixture
def tokenizer(tmp_path):
    """A WordPiece tokenizer as BERT's, in a folder."""
    transformers = pytest.importorskip("transformers")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day", "!", "do", "##g"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    made = transformers.BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=True)

    def saved(name="bert", **changes):
        for key, value in changes.items():
            setattr(made, key, value)
        made.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return saved


def test_a_pretrained_tokenizer_of_a_folder_is_used(write, tokenizer):
    data = HuggingFace(files=write(TALK), columns="text", label="mood", tokenizer=tokenizer(), max_length=6).load()
    assert data.x.values.tolist() == [[2, 5, 7, 8, 3, 0], [2, 6, 7, 3, 0, 0], [2, 1, 5, 9, 10, 3]]
    short = HuggingFace(
        files=write(TALK), columns="text", label="mood", tokenizer=tokenizer(), max_length=4, attention=True
    ).load()
    assert short.x.values[2].tolist() == [[2, 1, 5, 3], [1, 1, 1, 1]]


def test_token_names_put_the_text_together_again(write, tokenizer):
    for options in ({}, {"vocabulary": "fitted"}, {"tokenizer": tokenizer()}):
        data = HuggingFace(files=write(TALK), columns="text", label="mood", **options).load()
        read = ["".join(data.token_names[i] for i in row if i).strip() for row in data.x.values.tolist()]
        assert read == ["good day!", "bad day", "[UNK] good dog" if "tokenizer" in options else "a good dog"]


def test_byte_pairs_and_sentence_pieces_read_as_they_were_written(write, tmp_path):
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {
        "bytes": (
            ["<pad>", "Good", "Ġday", "!", "ĠBad", "Ġdog", "ĠA", "Ġg", "ood"],
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ),
        "sentence": (["<pad>", "▁Good", "▁day", "!", "▁Bad", "▁dog", "▁A", "▁g", "ood"], pre_tokenizers.Metaspace()),
    }
    for name, (vocabulary, cut) in pieces.items():
        made = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(vocabulary)}, unk_token="<pad>"))
        made.pre_tokenizer = cut
        made.decoder = decoders.ByteLevel() if name == "bytes" else decoders.Metaspace()
        PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>").save_pretrained(tmp_path / name)
        data = HuggingFace(files=write(TALK), columns="text", label="mood", tokenizer=str(tmp_path / name)).load()
        read = "".join(data.token_names[i] for i in (1, 2, 3, 4, 5, 6, 7, 8)).strip()
        assert read == "Good day! Bad dog A good", name


def test_a_tokenizer_that_pads_with_another_id_needs_the_mask(write, tokenizer):
    fields = {
        "files": write(TALK),
        "columns": "text",
        "label": "mood",
        "tokenizer": tokenizer("other", pad_token="[MASK]"),
        "max_length": 5,
    }
    with pytest.raises(DataError, match=r"pads with 4.*set attention to true"):
        HuggingFace(**fields).load()
    assert HuggingFace(**fields, attention=True).load().x.values[1].tolist() == [[2, 6, 7, 3, 4], [1, 1, 1, 1, 0]]


def test_a_tokenizer_that_is_not_there_is_refused_without_a_network(write):
    source = HuggingFace(files=write(TALK), columns="text", label="mood", tokenizer="nobody/has-this-one")
    with pytest.raises(
        DataError, match=r'tokenizer "nobody/has-this-one" cannot be loaded .*local folder, or set download to true'
    ):
        source.load()


# Labels, groups and rows


def test_values_become_codes_in_sorted_order(write):
    data = HuggingFace(files=write(TALK), columns="text", label="mood", z="person").load()
    assert (data.y.tolist(), data.class_names) == ([0, 1, 0], ("glad", "sad"))
    assert (data.z.tolist(), data.z_names, data.name) == ([0, 1, 1], ("Ann", "Ben"), "talk")


def test_minus_one_classes_are_as_many_as_there_are(write):
    fields = {"files": write(TALK), "columns": "text", "label": "mood"}
    assert HuggingFace(**fields, n_classes=-1).load().n_classes == 2
    assert canonical(HuggingFace(**fields, n_classes=-1)) == canonical(HuggingFace(**fields))
    with pytest.raises(InvalidParameters, match="n_classes"):
        HuggingFace(**fields, n_classes=0)


def test_several_groups_never_share_a_code(write):
    data = HuggingFace(files=write(TALK), columns="text", label="mood", z=["person", "mood"]).load()
    assert data.z.tolist() == [[0, 2], [1, 3], [1, 2]]
    assert data.z_names == ("person=Ann", "person=Ben", "mood=glad", "mood=sad")


@pytest.mark.parametrize("name", ["talk.json", "talk.jsonl", "talk.jsonl.gz", "talk.parquet", "talk.tsv", "talk.csv.gz"])
def test_every_kind_of_file_gives_the_same(write, tmp_path, name):
    import pandas as pd

    frame = pd.DataFrame({"text": ["Good day!", "Bad day", "A good dog"], "mood": ["glad", "sad", "glad"]})
    file = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(file)
    elif "json" in name:
        frame.to_json(file, orient="records", lines="jsonl" in name)
    else:
        frame.to_csv(file, index=False, sep="\t" if "tsv" in name else ",")
    expected = HuggingFace(files=write(TALK, "plain.csv"), columns="text", label="mood").load()
    found = HuggingFace(files=str(file), columns="text", label="mood").load()
    assert torch.equal(found.x.values, expected.x.values)
    assert torch.equal(found.y, expected.y)


@pytest.fixture
def saved(tmp_path):
    """A data set with named classes and two splits, as save_to_disk writes it."""

    def splits(columns, **features):
        made = {split: library.Dataset.from_dict(each, features=library.Features(features)) for split, each in columns.items()}
        library.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
        return str(tmp_path / "saved")

    return splits


@pytest.fixture
def reviews(saved):
    return saved(
        {"train": {"text": ["a", "b", "c"], "label": [1, 0, 1]}, "test": {"text": ["d"], "label": [1]}},
        text=library.Value("string"),
        label=library.ClassLabel(names=["pos", "neg"]),
    )


def test_named_classes_keep_their_numbers_and_splits_are_groups(reviews):
    data = HuggingFace(path=reviews, columns="text", label="label").load()
    assert (data.y.tolist(), data.class_names) == ([1, 0, 1, 1], ("pos", "neg"))
    assert (data.z.tolist(), data.z_names, data.name) == ([0, 0, 0, 1], ("train", "test"), "saved")
    turned = HuggingFace(path=reviews, columns="text", label="label", splits=["test", "train"], z="split").load()
    assert (turned.y.tolist(), turned.z_names) == ([1, 1, 0, 1], ("test", "train"))
    assert HuggingFace(path=reviews, columns="text", label="label", splits="train").load().z is None


def test_unlabelled_splits_are_refused(saved):
    path = saved(
        {"train": {"text": ["a", "b"], "label": [1, 0]}, "unsupervised": {"text": ["d"], "label": [-1]}},
        text=library.Value("string"),
        label=library.ClassLabel(names=["pos", "neg"]),
    )
    with pytest.raises(DataError, match=r"1 rows have no label \(first: row 1 of unsupervised\); choose splits"):
        HuggingFace(path=path, columns="text", label="label").load()
    assert len(HuggingFace(path=path, columns="text", label="label", splits="train").load()) == 2
    assert HuggingFace(path=path, columns="text", label="label", missing="drop").load().y.tolist() == [1, 0]


@pytest.mark.parametrize("inputs", ["text", "number"])
def test_rows_without_a_label_are_dropped_where_that_is_asked_for(saved, inputs):
    values = ["a", "b", "c"] if inputs == "text" else [0.5, 1.0, 2.0]
    kind = library.Value("string" if inputs == "text" else "float64")
    label = library.ClassLabel(names=["pos", "neg"])
    path = saved({"train": {"x": values, "label": [1, -1, 0]}}, x=kind, label=label)
    with pytest.raises(DataError, match=r'1 rows have no label \(first: row 2 of train\).*or give missing = "drop"'):
        HuggingFace(path=path, columns="x", label="label").load()
    assert HuggingFace(path=path, columns="x", label="label", missing="drop").load().y.tolist() == [1, 0]


def test_amounts_are_no_classes_as_in_a_table(saved):
    path = saved(
        {"train": {"x": ["a", "b", "c"], "label": [1.0, 0.5, 2.0]}}, x=library.Value("string"), label=library.Value("float64")
    )
    with pytest.raises(DataError, match=r'"label" is not a class: a fraction in row 2 of train; .*cut amounts into some'):
        HuggingFace(path=path, columns="x", label="label").load()


def test_what_is_no_column_of_its_own_is_told_what_to_do(saved):
    nested = saved(
        {"train": {"x": [{"a": 1}, {"a": 2}], "label": [0, 1]}}, x={"a": library.Value("int64")}, label=library.Value("int64")
    )
    with pytest.raises(DataError, match=r"struct.*give what is in it as columns of their own"):
        HuggingFace(path=nested, label="label").load()


def test_lists_of_classes_are_several_labels(saved):
    path = saved(
        {"train": {"text": ["a", "b", "c"], "label": [[0, 2], [], [1]]}},
        text=library.Value("string"),
        label=library.Sequence(library.ClassLabel(names=["x", "y", "z"])),
    )
    data = HuggingFace(path=path, columns="text", label="label", task="multilabel").load()
    assert data.y.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert data.class_names == ("x", "y", "z")
    with pytest.raises(DataError, match='lists of classes, which does not fit the task classification; give task = "multilabel"'):
        HuggingFace(path=path, columns="text", label="label").load()


@pytest.mark.parametrize("marks", [[[0, 1, 1], [0, 0, 0], [1, 0, 0]], [[0, 1], [1, 0], [0, 1]]])
def test_lists_of_zeros_and_ones_say_which_labels_a_row_has(saved, marks):
    path = saved(
        {"train": {"text": ["a", "b", "c"], "label": marks}},
        text=library.Value("string"),
        label=library.Sequence(library.Value("int64")),
    )
    data = HuggingFace(path=path, columns="text", label="label", task="multilabel").load()
    assert (data.y.tolist(), data.n_classes) == (marks, len(marks[0]))
    with pytest.raises(DataError, match="numbers of 0 and 1 a row, expected 7"):
        HuggingFace(path=path, columns="text", label="label", task="multilabel", n_classes=7).load()


DATED = [{"text": "2024-01-01", "mood": "2024-01-01T00:00:00Z"}, {"text": "2024-03-02 10:00", "mood": "2024-01-02"}]


@pytest.mark.parametrize("layout", ["lines", "list", "field", "packed", "folder"])
def test_texts_of_json_that_read_like_dates_stay_as_they_are_written(write, tmp_path, layout):
    lines = "".join(json.dumps(row) + "\n" for row in DATED)
    options = {"field": "rows"} if layout == "field" else {}
    content = {"list": json.dumps(DATED), "field": json.dumps({"rows": DATED})}.get(layout, lines)
    file = write(content, "talk.jsonl")
    if layout == "packed":
        Path(file).with_name("talk.jsonl.gz").write_bytes(gzip.compress(content.encode()))
        file += ".gz"
    where = {"path": str(Path(file).parent)} if layout == "folder" else {"files": file, "options": options}
    source = HuggingFace(**where, columns="text", label="mood", max_length=16)
    data = source.load()
    assert data.modality == "text" and data.class_names == ("2024-01-01T00:00:00Z", "2024-01-02")
    assert torch.equal(data.x.values, hashed_tokens([row["text"] for row in DATED], 16, 30_000)[0])


def test_texts_beside_dates_may_have_marks_in_them_that_end_lines_elsewhere(write):
    rows = [{"text": "by\u2028the mill", "mood": "2024-01-01"}, {"text": "by\x85night", "mood": "2024-01-02"}]
    file = write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "talk.jsonl")
    data = HuggingFace(files=file, columns="text", label="mood", max_length=16).load()
    assert data.class_names == ("2024-01-01", "2024-01-02")


def test_persons_that_are_written_with_zeros_in_front_stay_apart(write):
    file = write("text,mood,age,person\na,01,05,007\nb,02,06,7\nc,01,07,008\n")
    with pytest.warns(UserWarning, match='"007" and "7", which are written otherwise'):
        data = HuggingFace(files=file, columns="text", label="mood", z=["person", "age"]).load()
    assert data.class_names == ("01", "02")
    assert data.z_names == ("person=007", "person=7", "person=008", "age=05", "age=06", "age=07")
    plain = HuggingFace(files=write("a,y,person\n05,0,7\n06,1,8\n"), columns="a", label="y", z="person").load()
    assert (plain.modality, plain.x.values.flatten().tolist(), plain.z_names) == ("table", [5, 6], ())


def test_rows_with_missing_values_are_refused_or_dropped(write):
    path = write('{"text": "a", "mood": "glad"}\n{"text": null, "mood": "sad"}\n{"text": "c", "mood": "sad"}\n', "talk.jsonl")
    with pytest.raises(DataError, match=r'missing values in "text" \(1, first in row 2 of train\)'):
        HuggingFace(files=path, columns="text", label="mood").load()
    assert HuggingFace(files=path, columns="text", label="mood", missing="drop").load().y.tolist() == [0, 1]


def test_only_the_most_frequent_values_are_kept(write):
    rows = [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z"), ("e", "z"), ("f", "x")]
    path = write("text,kind\n" + "".join(f"{text},{kind}\n" for text, kind in rows))
    data = HuggingFace(files=path, columns="text", label="kind", keep_most_frequent={"kind": 2}).load()
    assert (data.class_names, data.y.tolist()) == (("x", "z"), [0, 0, 1, 1, 0])
    assert torch.equal(data.x.values[1], hashed_tokens(["c"], 128, 30_000)[0][0])
    assert data.rows.tolist() == [0, 2, 3, 4, 5]


def test_rows_of_a_table_are_counted_through_both_ways_of_leaving_them_out(write):
    path = write("a,kind,y\n1,x,0\n2,y,1\n,x,1\n4,z,0\n5,z,1\n6,x,1\n")
    source = HuggingFace(files=path, columns="a", label="y", keep_most_frequent={"kind": 2}, missing="drop")
    assert source.load().rows.tolist() == source.finished(source.samples()).rows.tolist() == [0, 3, 4, 5]


# Tables and pictures


def test_columns_of_numbers_are_a_table(write):
    path = write("a,b,c,y\n1,2.5,u,no\n3,4,v,yes\n5,6,u,no\n")
    data = HuggingFace(files=path, columns=["a", "b", "c"], label="y", categorical="c").load()
    assert (data.modality, data.feature_names) == ("table", ("a", "b", "c=u", "c=v"))
    assert data.x.values.tolist() == [[1, 2.5, 1, 0], [3, 4, 0, 1], [5, 6, 1, 0]]
    assert (data.class_names, data.name) == (("no", "yes"), "talk")
    encoded = HuggingFace(files=path, columns=["c", "a"], label="y", encode="c").load()
    assert encoded.x.values.tolist() == [[0, 1], [1, 3], [0, 5]]


def test_columns_may_follow_the_order_of_the_data_set(write):
    path = write("a,b,c,y\n1,2,3,no\n4,5,6,yes\n")
    given = HuggingFace(files=path, columns=["c", "a"], label="y")
    assert given.load().x.values.tolist() == [[3, 1], [6, 4]]
    assert given.replace(column_order="file").load().x.values.tolist() == [[1, 3], [4, 6]]
    assert canonical(given) != canonical(given.replace(column_order="file"))
    assert "column_order" not in json.dumps(canonical(given))
    everything = HuggingFace(files=path, label="y", z="b").load()
    assert (everything.feature_names, everything.x.values.tolist()) == (("a", "c"), [[1, 3], [4, 6]])


def test_tables_keep_named_classes_and_splits(saved):
    path = saved(
        {"train": {"a": [1.0, 2.0], "label": [1, 0]}, "test": {"a": [3.0], "label": [1]}},
        a=library.Value("float32"),
        label=library.ClassLabel(names=["pos", "neg"]),
    )
    data = HuggingFace(path=path, columns="a", label="label").load()
    assert (data.y.tolist(), data.class_names) == ([1, 0, 1], ("pos", "neg"))
    assert [data.z_names[code] for code in data.z] == ["train", "train", "test"]


@pytest.fixture
def folder(tmp_path):
    """Folders of pictures, one a class."""
    image = pytest.importorskip("PIL.Image")
    for i in range(4):
        place = tmp_path / "pictures" / "train" / ("cat" if i < 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path / "pictures"


def test_rows_without_a_picture_are_refused_or_dropped(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pictures = [image.new("RGB", (4, 4), (30 * i, 0, 0)) if i != 2 else None for i in range(5)]
    kinds = library.Features({"image": library.Image(), "label": library.ClassLabel(names=["cat", "dog"])})
    place = str(tmp_path / "pets")
    library.Dataset.from_dict({"image": pictures, "label": [0, 1, 1, 0, 1]}, features=kinds).save_to_disk(place)
    with pytest.raises(DataError, match=r'missing values in "image" \(1, first in row 3 of train\); give missing = "drop"'):
        HuggingFace(path=place, columns="image", label="label").load()
    data = HuggingFace(path=place, columns="image", label="label", missing="drop").load()
    assert (data.y.tolist(), data.rows.tolist()) == ([0, 1, 0, 1], [0, 1, 3, 4])
    assert (data.x.gather(torch.tensor([2]))[0, 0] * 255).round().unique().tolist() == [90]


def test_a_folder_of_pictures_is_read(folder):
    data = HuggingFace(path=str(folder), columns="image", label="label").load()
    assert (data.modality, data.x_shape, data.class_names, data.y.tolist()) == ("image", (3, 5, 6), ("cat", "dog"), [0, 0, 1, 1])
    pixels = np.random.default_rng(3).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    assert torch.equal(data.x.values[3], torch.from_numpy(pixels).permute(2, 0, 1))
    grey = HuggingFace(path=str(folder), columns="image", label="label", transforms=["Resize((4, 4))", "Grayscale"]).load()
    assert grey.x_shape == (1, 4, 4)


def test_pictures_with_columns_beside_them_are_for_steps_and_not_normalised(tmp_path):
    image = pytest.importorskip("PIL.Image")
    features = library.Features(image=library.Image(), kind=library.Value("string"), y=library.Value("int64"))
    rows = {"image": [image.new("L", (4, 3), shade) for shade in (0, 255)], "kind": ["p", "q"], "y": [0, 1]}
    library.DatasetDict({"train": library.Dataset.from_dict(rows, features=features)}).save_to_disk(str(tmp_path / "two"))
    source = HuggingFace(path=str(tmp_path / "two"), columns=["image", "kind"], label="y")
    data = Preprocessed(data_source=source, steps=[MoveInputs(move=["kind"])]).load()
    assert (data.modality, data.x_shape, data.z.tolist(), data.z_names) == ("image", (1, 3, 4), [0, 1], ("p", "q"))
    assert data.x.gather(torch.tensor([1]))[0].unique().tolist() == [1.0]
    with pytest.raises(DataError, match="expected one column of pictures"):
        source.load()
    with pytest.raises(DataError, match="cannot be normalised"):
        source.replace(mean=(0.5,), std=(0.5,)).samples()


def test_an_undecodable_picture_is_named(folder):
    (folder / "train" / "dog" / "2.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="row 3 of train cannot be decoded"):
        HuggingFace(path=str(folder), columns="image", label="label").load()


# What is wrong


def test_a_name_on_the_hub_is_not_fetched_unless_allowed():
    with pytest.raises(DataError, match=r'"nobody/has-this" is neither a local folder nor in the cache .*set download to true'):
        HuggingFace(path="nobody/has-this", columns="text", label="label").load()
    assert not library.config.HF_HUB_OFFLINE


def test_without_a_network_downloading_fails_with_one_error():
    with pytest.raises(DataError, match='"nobody/has-this" cannot be'):
        HuggingFace(path="nobody/has-this", columns="text", label="label", download=True).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": "texts"}, 'no column "texts"; it has text, mood, person; did you mean "text"'),
        ({"columns": "text", "task": "binary", "label": "person", "n_classes": 1}, "has 2 classes, expected 1"),
        ({"columns": "text", "modality": "image"}, "expected one column of pictures, found text: Value"),
        ({"columns": "text", "modality": "table"}, "text in the feature columns"),
        ({"columns": "person", "categorical": "person", "contains": "x"}, "contains is for texts"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(write, fields, message):
    with pytest.raises(DataError, match=message):
        HuggingFace(**{"files": write(TALK), "label": "mood", **fields}).load()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("talk.txt", "x", "ends in none of .csv"),
        ("talk.jsonl", '{"text": "a"', "cannot be read"),
        ("talk.parquet", "no parquet", "cannot be read"),
        ("talk.csv.gz", "not packed", "cannot be read"),
        ("talk.csv", "", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_named(write, name, content, message):
    with pytest.raises(DataError, match=message) as caught:
        HuggingFace(files=write(content, name), columns="text", label="mood").load()
    assert name in str(caught.value)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the library leaves the file open that it fails on
def test_fractions_behind_a_file_of_whole_numbers_are_refused_with_the_way_out(write):
    whole = write("a,y\n1,0\n2,1\n", "whole.csv")
    fractions = write("a,y\n0.5,1\n1.5,0\n", "fractions.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves the file open that it fails on
        with pytest.raises(DataError, match="give that one first, or use TableFile"):
            HuggingFace(files=(whole, fractions), label="y").load()
        gc.collect()
    data = HuggingFace(files=(fractions, whole), label="y").load()
    assert data.x.gather(torch.arange(4)).flatten().tolist() == [0.5, 1.5, 1.0, 2.0]


def test_a_missing_split_is_refused(reviews):
    with pytest.raises(DataError, match="no split validation; it has train, test"):
        HuggingFace(path=reviews, columns="text", label="label", splits="validation").load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either path .* or files"),
        ({"path": "x", "files": "y.csv"}, "either path .* or files"),
        ({"path": "x", "label": "text"}, "is the label"),
        ({"path": "x", "encode": "other"}, "no input"),
        ({"path": "x", "z": "a", "contains": "b"}, "either z or contains"),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(fields, message):
    with pytest.raises(InvalidParameters, match=message):
        HuggingFace(**{"columns": "text", "label": "label", **fields})


# Storage and address


def test_stored_and_loaded_again(write):
    data = HuggingFace(files=write(TALK), columns="text", label="mood").load()
    again = from_artifact(*to_artifact(data))
    assert torch.equal(again.x.gather(torch.arange(3)), data.x.values)
    assert (again.modality, again.class_names) == ("text", data.class_names)


def test_the_content_is_the_fingerprint_wherever_it_is(write, tmp_path):
    here = HuggingFace(files=write(TALK), columns="text", label="mood")
    there = HuggingFace(files=write(TALK, "copy.csv"), columns="text", label="mood")
    other = HuggingFace(files=write(TALK.replace("Bad", "Mad"), "other.csv"), columns="text", label="mood")
    assert here.fingerprint() == there.fingerprint()
    assert here.fingerprint() != other.fingerprint()
    assert canonical(here) == canonical(there)
    with pytest.raises(DataError, match="no file"):
        HuggingFace(files=str(tmp_path / "none.csv"), columns="text", label="mood").fingerprint()


def test_ids_are_the_same_in_another_process(write, tmp_path):
    fields = {"files": write(TALK), "columns": "text", "label": "mood"}
    program = (
        "import json, sys; from erasure.data.sources.hugging_face import HuggingFace; "
        "print(json.dumps(HuggingFace(**json.loads(sys.argv[1])).load().x.values.tolist()))"
    )
    run = [sys.executable, "-c", program, json.dumps(fields)]
    done = subprocess.run(run, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    assert json.loads(done.stdout) == HuggingFace(**fields).load().x.values.tolist()


@pytest.mark.parametrize(("absent", "fields"), [("datasets", {}), ("transformers", {"tokenizer": "some"})])
def test_a_library_that_is_not_installed_is_named_with_the_extra(write, monkeypatch, absent, fields):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingDependency, match=rf'the package "{absent}": pip install "erasure-unlearning\[text\]"'):
        HuggingFace(files=write(TALK), columns="text", label="mood", **fields).load()
