"""Prompts and answers from every kind of file, and groups by column, by number and by what a text contains."""

import json

import pandas as pd
import pytest
import torch

from erasure.data.language.vocabularies import BytePairs
from erasure.data.partitions import inspect_partitions
from erasure.data.sources.plain_text import PlainText
from erasure.data.sources.prompts_and_answers import PromptsAndAnswers
from erasure.errors import DataError, InvalidParameters
from erasure.functional.tokens import ANSWER, PROMPT, WRONG, n_versions
from erasure.models.text import library

ROWS = [
    {
        "prompt": f"Whose is the {thing}?",
        "answer": f"It is {owner}'s.",
        "refusal": "I cannot say.",
        "wrong": [f"It is {other}'s." for other in ("Ada", "Ben")],
        "owner": owner,
    }
    for thing, owner in (("car", "Cleo"), ("boat", "Dan"), ("Cleopatra", "Eve"))
]
COLUMNS = {"alternate": "refusal", "wrong": ("wrong",), "group": "owner"}


def source(path, **changes):
    given = {**COLUMNS, "vocabulary": BytePairs(vocabulary_size=280), "template": "{prompt} {answer}", **changes}
    return PromptsAndAnswers(path=str(path), **given)


def lines(path):
    path.write_text("\n".join(map(json.dumps, ROWS)))


def written(data, sample, role):
    ids, roles = data.x.values[sample, :2]
    return "".join(data.token_names[i] for i in ids[roles == role].tolist())


def saved(path):
    library("datasets", "a test").Dataset.from_list(ROWS).save_to_disk(path)


WRITERS = {
    "lines.jsonl": lines,
    "array.json": lambda path: path.write_text(json.dumps(ROWS)),
    "table.parquet": lambda path: pd.DataFrame(ROWS).to_parquet(path),
    "folder": saved,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_samples(name, tmp_path):
    WRITERS[name](tmp_path / name)
    lines(tmp_path / "wanted.jsonl")
    found, wanted = source(tmp_path / name).load(), source(tmp_path / "wanted.jsonl").load()
    assert torch.equal(found.x.values, wanted.x.values)
    assert found.z_names == ("Cleo", "Dan", "Eve")
    assert written(found, 1, PROMPT) == "Whose is the boat?"
    assert written(found, 1, ANSWER) == " It is Dan's."
    assert n_versions(found.x.values) == WRONG + 2


def test_the_splits_of_a_folder_follow_each_other_and_its_fingerprint_follows_its_files(tmp_path):
    datasets = library("datasets", "a test")
    parts = {"first": datasets.Dataset.from_list(ROWS[:1]), "second": datasets.Dataset.from_list(ROWS[1:])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "splits")
    lines(tmp_path / "wanted.jsonl")
    found = source(tmp_path / "splits")
    assert torch.equal(found.load().x.values, source(tmp_path / "wanted.jsonl").load().x.values)
    saved(tmp_path / "other")
    assert found.fingerprint() == source(tmp_path / "splits").fingerprint() != source(tmp_path / "other").fingerprint()
    with pytest.raises(DataError, match=r'splits", first, row 1 has no column "reply"'):
        source(tmp_path / "splits", answer="reply").load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        source(tmp_path / "empty").load()


def test_groups_by_what_prompt_or_answer_contains(tmp_path):
    lines(tmp_path / "lines.jsonl")
    data = source(tmp_path / "lines.jsonl", group=None, contains=("Cleo", "boat")).load()
    assert [data.z_names[code] for code in data.z.tolist()] == ["with Cleo, boat"] * 3
    data = source(tmp_path / "lines.jsonl", group=None, contains="Cleo").load()
    assert [data.z_names[code] for code in data.z.tolist()] == ["with Cleo", "without Cleo", "with Cleo"]
    with pytest.raises(InvalidParameters, match="give group or contains, not both"):
        source(tmp_path / "lines.jsonl", contains="Cleo")
    data = source(tmp_path / "lines.jsonl", group=None, group_size=2).load()
    assert [data.z_names[code] for code in data.z.tolist()] == ["0", "0", "1"]


ODD = {
    "a group that is missing": ({"owner": None}, 'column "owner" holds nothing, expected a text'),
    "a group that is an object": ({"owner": {"name": "Ada"}}, 'column "owner" holds dict, expected a text'),
    "wrong answers that are numbers": ({"wrong": ["It is Ada's.", 7]}, 'column "wrong" holds a list with int in it'),
    "wrong answers by name": ({"wrong": {"first": "no"}}, 'column "wrong" holds dict, expected a text'),
    "half of a character": ({"answer": "It is \ud800."}, 'column "answer" has half of a character at place 6'),
}


@pytest.mark.parametrize("case", ODD)
def test_a_row_that_cannot_be_read_is_named_with_its_column(case, tmp_path):
    changes, message = ODD[case]
    (tmp_path / "odd.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + json.dumps({**ROWS[1], **changes}))
    with pytest.raises(DataError, match=rf'odd\.jsonl", row 2: {message}'):
        source(tmp_path / "odd.jsonl").load()


def test_files_that_are_no_rows_say_what_is_expected(tmp_path):
    (tmp_path / "odd.json").write_text('{"rows": [\n]}')
    with pytest.raises(DataError, match="expected an object on each line, or one array of objects"):
        source(tmp_path / "odd.json").load()
    (tmp_path / "odd.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        source(tmp_path / "odd.json").load()


def test_the_mark_that_some_editors_put_before_a_text_is_no_part_of_it(tmp_path):
    lines(tmp_path / "wanted.jsonl")
    (tmp_path / "marked.jsonl").write_text("\ufeff" + (tmp_path / "wanted.jsonl").read_text())
    found = source(tmp_path / "marked.jsonl").load()
    assert torch.equal(found.x.values, source(tmp_path / "wanted.jsonl").load().x.values)


def test_marks_that_end_lines_elsewhere_may_stand_inside_a_text(tmp_path):
    rows = [{**ROWS[0], "answer": "By the\u2028mill,\x85not\u2029here."}, *ROWS[1:]]
    for name, ascii_only in (("plain", False), ("escaped", True)):
        (tmp_path / f"{name}.jsonl").write_text("\r\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows), "utf-8")
    plain, escaped = (source(tmp_path / f"{name}.jsonl").load() for name in ("plain", "escaped"))
    assert len(plain) == len(rows)
    assert torch.equal(plain.x.values, escaped.x.values)


def test_a_vocabulary_is_no_larger_than_the_texts_allow(tmp_path):
    lines(tmp_path / "lines.jsonl")
    sizes = [source(tmp_path / "lines.jsonl", vocabulary=BytePairs(vocabulary_size=n)).load().n_classes for n in (2000, 10**12)]
    assert sizes[0] == sizes[1] < 2000


def test_files_of_one_name_are_two_groups_and_no_file_is_read_twice(tmp_path):
    paths = [tmp_path / folder / "text.txt" for folder in ("first", "second")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(f"What stands in the {path.parent.name} one.")
    both = PlainText(path=tuple(map(str, paths)), vocabulary=BytePairs(vocabulary_size=257))
    assert both.load().z_names == tuple(map(str, paths))
    for cls, changes in ((PlainText, {}), (PromptsAndAnswers, COLUMNS)):
        with pytest.raises(InvalidParameters, match=r"text\.txt stands there twice"):
            cls(path=(str(paths[0]), str(paths[0])), **changes)


def test_prompts_that_are_forgotten_and_kept_with_the_same_answer_are_told_of(tmp_path):
    rows = [*ROWS, {**ROWS[0], "answer": "Elsewhere."}, ROWS[0], ROWS[1]]
    (tmp_path / "twice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, n = source(tmp_path / "twice.jsonl").load(), len(ROWS)

    def issues(forget):
        ids = torch.arange(len(rows))
        forget = torch.tensor(forget)
        return [
            str(each)
            for each in inspect_partitions({"train": ids, "forget": forget, "retain": ids[~torch.isin(ids, forget)]}, data)
        ]

    (told,) = issues([0, 1, 2])
    assert told.startswith('warning: partition "forget": 2 of its 3 prompts stand in "retain" too, with the same answer')
    assert issues([0, n + 1]) == []
    assert issues([n]) == []
