"""Ratings from files, in the forms that MovieLens has published and in others."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure.data.sources.ratings_file import RatingsFile
from erasure.data.splitters import ByZSplitter
from erasure.errors import DataError, InvalidParameters

LINES = [
    (user, item, 1 + (3 * user + item) % 5, 900 + user) for user in range(1, 13) for item in range(1, 10) if (user * item) % 4
]


@pytest.fixture
def write(tmp_path):
    """A file of the lines in one of the layouts, and what reads it."""

    def written(layout):
        files = {
            "u.data": ("\t", "", {"separator": "\t", "header": False}),
            "ratings.dat": ("::", "", {"separator": "::", "header": False, "encoding": "latin-1"}),
            "ratings.csv": (",", "userId,movieId,rating,timestamp\n", {}),
        }
        separator, head, given = files[layout]
        text = head + "".join(separator.join(map(str, line)) + "\n" for line in LINES)
        (tmp_path / layout).write_text(text, encoding="utf-8")
        return {"path": str(tmp_path / layout), "min_items": 1, "min_users": 1} | given

    return written


def items_of(data):
    return {(data.z_names[u], data.class_names[i]) for u, i in torch.nonzero(data.y).tolist()}


@pytest.mark.parametrize("layout", ["u.data", "ratings.dat", "ratings.csv"])
def test_the_published_layouts_are_read_alike(write, layout):
    data = RatingsFile(**write(layout), min_rating=4).load()
    assert items_of(data) == {(str(user), str(item)) for user, item, rating, _ in LINES if rating >= 4}
    assert data.task == "multilabel"
    every = RatingsFile(**write(layout), hidden=0.0).load()
    assert items_of(every) == {(str(user), str(item)) for user, item, *_ in LINES}
    assert torch.equal(every.x.values, every.y)
    assert data.name == layout.partition(".")[0]


def test_inputs_lack_a_share_of_the_items_and_never_have_others(write):
    data = RatingsFile(**write("u.data"), hidden=0.3, seed=1).load()
    assert bool((data.x.values <= data.y).all())
    assert 0.5 < float(data.x.values.sum() / data.y.sum()) < 0.9
    assert torch.equal(data.x.values, RatingsFile(**write("u.data"), hidden=0.3, seed=1).load().x.values)


def test_a_user_is_forgotten_by_name(write):
    data = RatingsFile(**write("ratings.csv")).load()
    splitter = ByZSplitter(parts_names=("forget", "retain"), z_labels=["7", "3"])
    forget, retain = splitter.split(data, {"all": torch.arange(len(data))}, None)
    assert [data.z_names[k] for k in data.z[forget]] == ["3", "7"]
    assert len(retain) == len(data) - 2


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60), st.integers(1, 3), st.integers(1, 3))
def test_few_are_left_out_until_everybody_has_enough(tmp_path_factory, pairs, min_items, min_users):
    path = tmp_path_factory.mktemp("ratings") / "r.csv"
    path.write_text("u,i\n" + "".join(f"{u},{i}\n" for u, i in pairs), encoding="utf-8")
    kept = set(pairs)
    while True:
        of_user, of_item = Counter(u for u, _ in kept), Counter(i for _, i in kept)
        left = {(u, i) for u, i in kept if of_user[u] >= min_items and of_item[i] >= min_users}
        if left == kept:
            break
        kept = left
    source = RatingsFile(path=str(path), min_items=min_items, min_users=min_users)
    if len({i for _, i in kept}) < 2 or len({u for u, _ in kept}) < 2:
        return
    assert items_of(source.load()) == {(str(u), str(i)) for u, i in kept}


def test_of_two_ratings_of_one_item_the_last_counts(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("u,i,r\n1,1,5\n1,2,5\n2,1,4\n2,2,1\n1,2,2\n2,2,5\n", encoding="utf-8")
    data = RatingsFile(path=str(path), min_rating=4, min_items=1, min_users=1).load()
    assert items_of(data) == {("1", "1"), ("2", "1"), ("2", "2")}


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        ("u,i,r\n1,1,5\n", {"min_items": 9}, "no users with 9 items .* are left"),
        ("u,i,r\n1,,5\n", {}, '"i" is missing in row 1'),
        ("u,i,r\n1,2,good\n2,1,bad\n", {"min_rating": 3}, "holds text, and ratings are numbers"),
        ("1 2 5\n3 4 5\n", {}, "set separator"),
        ("u,i\n1,2\n", {"user": "who"}, "who"),
        ("u,i\n1,2\n", {"min_rating": 3}, "has the column u, i"),
    ],
)
def test_files_that_cannot_be_meant_are_refused(tmp_path, text, changes, said):
    path = tmp_path / "r.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        RatingsFile(**{"path": str(path), "min_items": 1, "min_users": 1} | changes).load()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"separator": "ab"}, "expected one character"),
        ({"header": False, "user": "u"}, "have no names"),
        ({"separator": "::"}, "header = false"),
        ({"rating": "r"}, "no effect without min_rating"),
        ({"header": False, "n_columns": 2, "min_rating": 3.0}, "a rating"),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(changes, said):
    with pytest.raises(InvalidParameters, match=said):
        RatingsFile(path="ratings.csv", **changes)
