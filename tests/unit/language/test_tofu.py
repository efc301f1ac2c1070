"""The source TOFU on two made-up authors in the files' own layout."""

import json

import pytest

from erasure.data.language.vocabularies import BytePairs
from erasure.data.sources.tofu import TOFU
from erasure.errors import DataError, InvalidParameters


@pytest.fixture
def folder(tmp_path):
    full = [{"question": f"What did author {k // 20} write as number {k % 20}?", "answer": f"Book {k}."} for k in range(40)]
    more = [
        {
            **row,
            "paraphrased_answer": f"It was {row['answer']}",
            "paraphrased_question": "Which?",
            "perturbed_answer": ["No.", "None."],
        }
        for row in full
    ]
    for name, rows in {"full": full, "forget10_perturbed": more[20:], "retain_perturbed": more[:20]}.items():
        (tmp_path / f"{name}.json").write_text("\n".join(map(json.dumps, rows)))
    facts = [{"question": "Who?", "answer": "A", "option1": "A", "option2": "B", "option3": "C", "option4": "D"}]
    (tmp_path / "real_authors.json").write_text("\n".join(map(json.dumps, facts)))
    return tmp_path


def tofu(folder, **changes):
    return TOFU(path=str(folder), vocabulary=BytePairs(vocabulary_size=300), **changes)


def test_each_author_is_a_group_of_twenty_questions(folder):
    data = tofu(folder).load()
    assert (len(data), data.task) == (40, "generation")
    assert data.z.tolist() == [0] * 20 + [1] * 20
    assert len(tofu(folder, authors=(1,)).load()) == 20


def test_other_questions_are_groups_of_their_own(folder):
    data = tofu(folder, others=("real_authors",)).load()
    assert len(data) == 41
    assert len(data.z.unique()) == 3


def test_an_author_or_a_group_that_is_not_there_is_named(folder):
    with pytest.raises(DataError, match="has 2 authors"):
        tofu(folder, authors=(7,)).load()
    with pytest.raises(InvalidParameters, match="nobody"):
        tofu(folder, others=("nobody",))


def test_the_fingerprint_follows_the_files(folder):
    before = tofu(folder).fingerprint()
    assert tofu(folder).fingerprint() == before
    text = (folder / "full.json").read_text()
    (folder / "full.json").write_text(text.replace("Book 3.", "Book three."))
    assert tofu(folder).fingerprint() != before
