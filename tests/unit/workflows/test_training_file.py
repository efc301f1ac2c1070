"""Who is meant: files of ids as people save them, values of columns."""

import pytest

from erasure.errors import DataError
from erasure.workflows.training_file import TrainingFile, read_ids


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"anna\nben\n", ["anna", "ben"]),
        (b"anna\r\nben\r\n\r\n", ["anna", "ben"]),
        (b"\xef\xbb\xbfanna\n", ["anna"]),
        (b"anna, ben\nanna", ["anna", "ben", "anna"]),
        (b'"Meier, Anna"\n"ben"\n', ["Meier, Anna", "ben"]),
        (b"  anna b  \n", ["anna b"]),
        (b"\n\n", []),
        (b"", []),
    ],
)
def test_ids_are_read_as_people_save_them(tmp_path, content, ids):
    (tmp_path / "ids.txt").write_bytes(content)
    assert read_ids(tmp_path / "ids.txt") == ids


@pytest.mark.parametrize(("content", "message"), [(b"m\xfcller\n", r"no text in UTF-8 \(byte 1\)"), (b"a\x00b", "is no text")])
def test_what_is_no_text_is_refused_in_one_sentence(tmp_path, content, message):
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_ids(tmp_path / "ids.txt")


COLUMNS = {"city": ["New York", " Bern", "Bern", "Oslo"], "zip": [8000.0, 8000.5, 3000.0, 8000.0], "code": ["07", "7", "7.0", ""]}


def meant(tmp_path, *, ids=(), where=()):
    file = TrainingFile(
        path=tmp_path / "training.py", functions={"ids": lambda: ["anna", "ben", "anna", "carl"], "columns": lambda: COLUMNS}
    )
    return file.chosen(4, ids=ids, where=where, place=())[0]


@pytest.mark.parametrize(
    ("where", "positions"),
    [("city=New York", [0]), ("city=Bern", [2]), ("city= Bern", [1]), ("zip=8000", [0, 3]), ("code=7", [1]), ("code=", [3])],
)
def test_text_is_compared_as_it_stands_and_numbers_as_numbers(tmp_path, where, positions):
    assert meant(tmp_path, where=[where]) == positions


def test_an_id_stands_for_all_samples_of_a_person_however_often_it_is_named(tmp_path):
    assert meant(tmp_path, ids=["anna", "anna"]) == [0, 2]
    assert meant(tmp_path, ids=["ben"], where=["city=Oslo"]) == [1, 3]


@pytest.mark.parametrize(
    ("ids", "where", "message"),
    [
        (["Anna", "x", "x"], [], "2 of 2 ids are not in the data: 'Anna', 'x'; did you mean \"anna\"?"),
        ([], ["zip=9"], "no sample has the value '9' in the column \"zip\""),
        ([], ["city=bern"], "did you mean"),
        ([], ["city"], "there are city, zip, code"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, ids, where, message):
    with pytest.raises(DataError) as caught:
        meant(tmp_path, ids=ids, where=where)
    assert message in str(caught.value)
