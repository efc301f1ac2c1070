"""The source MUSE on made-up texts in the layouts that the benchmark has had."""

import json

import pandas as pd
import pytest
import torch

from erasure.data.language.chunks import chunks_of
from erasure.data.language.vocabularies import BytePairs
from erasure.data.sources.muse import MUSE
from erasure.errors import DataError, InvalidParameters
from erasure.functional.tokens import ANSWER, END, PROMPT

TEXT = "The mill of Harrow stood by the river and was sold in spring. "


@pytest.fixture
def folder(tmp_path):
    for name in ("raw", "verbmem", "knowmem"):
        (tmp_path / name).mkdir()
    (tmp_path / "raw/forget.json").write_text(json.dumps([TEXT * 4, TEXT]))
    (tmp_path / "raw/retain2.txt").write_text("Another town. " * 20)
    pd.DataFrame({"text": ["A third one, that nobody learned."]}).to_parquet(tmp_path / "raw/holdout-00000-of-00001.parquet")
    (tmp_path / "verbmem/forget.json").write_text(json.dumps([{"prompt": "The mill of", "gt": " Harrow stood", "id": 1}]))
    lines = [json.dumps({"question": "Where was it?", "answer": "By the river"}) for _ in range(2)]
    (tmp_path / "knowmem/forget_qa.json").write_text("\n".join(lines))
    (tmp_path / "knowmem/retain_qa.json").write_text(json.dumps([{"question": "Which town?", "answer": "Another"}]))
    return tmp_path


def muse(folder, **changes):
    return MUSE(path=str(folder), vocabulary=BytePairs(vocabulary_size=280), chunk_length=40, **changes)


def read(data, sample, role=None):
    ids, roles = data.x.values[sample]
    return "".join(data.token_names[i] for i in ids[roles > 0 if role is None else roles == role].tolist())


def test_each_file_is_a_group_called_by_folder_and_name(folder):
    data = muse(folder).load()
    assert data.z_names == MUSE(path=".").files
    counts = torch.bincount(data.z).tolist()
    assert counts[2:] == [1, 1, 2, 1]
    assert counts[0] > 2
    first = [i for i, z in enumerate(data.z.tolist()) if z == 0]
    assert "".join(read(data, i) for i in first) == TEXT * 5


def test_texts_go_on_and_questions_have_their_template(folder):
    data = muse(folder).load()
    verbatim, question = (data.z.tolist().index(k) for k in (3, 4))
    assert (read(data, verbatim, PROMPT), read(data, verbatim, ANSWER)) == ("The mill of", " Harrow stood")
    assert (read(data, question, PROMPT), read(data, question, ANSWER)) == ("Question: Where was it?\nAnswer:", " By the river")
    assert data.y.shape[0] == len(data)


def test_what_is_missing_or_empty_is_named(folder):
    with pytest.raises(DataError, match='has no "sust/forget_2"'):
        muse(folder, files=("raw/forget", "sust/forget_2")).load()
    (folder / "raw/retain2.txt").write_text(" ")
    with pytest.raises(DataError, match="text 1 is empty"):
        muse(folder).load()
    (folder / "raw/retain2.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as text"):
        muse(folder).load()
    (folder / "raw/retain2.txt").unlink()
    (folder / "raw/retain2.json").write_text("[]")
    with pytest.raises(DataError, match="is empty"):
        muse(folder).load()
    (folder / "raw/retain2.json").write_text('{"text": "Of a mill."}\n{"question": "Whose?", "answer": "Ada\'s."}')
    with pytest.raises(DataError, match="has texts and questions or beginnings in it, from row 2 on"):
        muse(folder).load()
    with pytest.raises(InvalidParameters, match="raw/forget stands there twice"):
        muse(folder, files=("raw/forget", "raw/forget"))
    with pytest.raises(InvalidParameters, match="runs into the answer"):
        muse(folder, template="{prompt}{answer}")


def test_a_chunk_that_stops_at_a_token_that_ends_texts_has_no_end():
    class Letters:
        end = 0

        def encode(self, texts, *, begins):
            return [[3, 4, 0, 5, 6] for _ in texts]

    x, _ = chunks_of(["one"], Letters(), 3)
    assert x[:, 0].tolist() == [[3, 4, 0], [5, 6, 0]]
    assert x[:, 1].tolist() == [[PROMPT, ANSWER, ANSWER], [PROMPT, ANSWER, END]]


def test_the_fingerprint_follows_the_files(folder):
    before = muse(folder).fingerprint()
    assert muse(folder).fingerprint() == before
    (folder / "raw/retain2.txt").write_text("Yet another town.")
    assert muse(folder).fingerprint() != before
