"""Each preprocess step against values worked out by hand, and what it says about data that it does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from erasure.data.dataset import Dataset
from erasure.data.preprocess.finish import finished
from erasure.data.preprocess.images import CelebALabels, CoarseClasses, ImageToTensor
from erasure.data.preprocess.moving import CopyLabels, MoveInputs, MoveLabels, PickLabels
from erasure.data.preprocess.samples import Field, Samples, objects, samples_of
from erasure.data.preprocess.texts import ContainsText, JoinColumns, MatchPatterns, Tokenize
from erasure.data.preprocess.tokenizers import Words
from erasure.data.preprocess.values import Add, Encode, ListToTensor, ParseLists, RemoveCharacter
from erasure.data.reading.torchvision_labels import CIFAR100_COARSE
from erasure.data.text import hashed_tokens
from erasure.errors import DataError, InvalidParameters
from erasure.training.batches import TensorColumn


def texts(*values):
    return Field(objects(values))


def numbers(*values):
    return Field(np.array(values))


def people(**changes):
    given = {
        "name": "people",
        "x": {"city": texts("Rome", "Oslo", "Rome"), "age": numbers(20.0, 30.0, 40.5), "price": texts("$3", " $1.5", "$20")},
        "y": {"label": texts("b", "c", "a")},
        "z": {"sex": texts("m", "f", "m")},
    }
    return Samples(**given | changes)


def pictures(values, **facts):
    return samples_of(
        Dataset(
            name="pictures",
            x=TensorColumn(values, scale=1 / 255 if values.dtype == torch.uint8 else None),
            y=torch.tensor([0, 1]),
            n_classes=2,
            modality="image",
            x_shape=tuple(values.shape[1:]),
            **facts,
        )
    )


def values_of(fields):
    return {name: each.values.tolist() for name, each in fields.items()}


# Values


def test_encode_sorts_by_letters_and_numbers_by_size():
    made = Encode(x=True, y=True, z=True).apply(people())
    assert made.x["price"].names == (" $1.5", "$20", "$3")
    assert made.x["price"].values.tolist() == [2, 0, 1]
    assert (made.y["label"].values.tolist(), made.y["label"].names) == ([1, 2, 0], ("a", "b", "c"))
    assert (made.z["sex"].values.tolist(), made.z["sex"].names) == ([1, 0, 1], ("f", "m"))
    as_text = Encode(x=True).apply(people(x={"n": texts("10", "9", "2")}))
    assert (as_text.x["n"].values.tolist(), as_text.x["n"].names) == ([2, 1, 0], ("2", "9", "10"))
    assert as_text.x["n"].values.dtype == np.int64


def test_encode_of_asked_columns_encodes_numbers_too_and_leaves_the_others():
    made = Encode(x=True, columns=["age", 0]).apply(people())
    assert values_of(made.x)["age"] == [0, 1, 2]
    assert values_of(made.x)["city"] == [1, 0, 1]
    assert made.x["price"].is_text
    assert made.x["age"].names == ("20", "30", "40.5")


def test_encode_in_a_given_order_depends_on_no_sample():
    step = Encode(y=True, values=["c", "b", "a", "d"])
    assert step.apply(people()).y["label"].values.tolist() == [1, 0, 2]
    assert finished(step.apply(people(x={"n": numbers(1.0, 2.0, 3.0)}))).n_classes == 4
    with pytest.raises(DataError, match=r'column "label" has \'c\' in sample 1, which is not among values'):
        Encode(y=True, values=["a", "b"]).apply(people())


def test_codes_that_have_names_stay_unless_an_order_is_given():
    coded = people(y={"label": Field(np.array([0, 1, 0]), ("world", "arts"))})
    assert Encode(y=True).apply(coded).y["label"].values.tolist() == [0, 1, 0]
    assert Encode(y=True, values=["arts", "world"]).apply(coded).y["label"].values.tolist() == [1, 0, 1]


def test_a_character_is_removed_and_what_is_a_number_then_is_one():
    made = RemoveCharacter(character="$", x=True).apply(people())
    assert values_of(made.x) == {"city": ["Rome", "Oslo", "Rome"], "age": [20.0, 30.0, 40.5], "price": [3.0, 1.5, 20.0]}
    assert made.x["price"].values.dtype == np.float64
    only = RemoveCharacter(character="o", x=True, columns=["city"]).apply(people())
    assert values_of(only.x)["city"] == ["Rme", "Osl", "Rme"]
    assert RemoveCharacter(character=".", y=True).apply(people(y={"label": texts("x.", "y", " x")})).y[
        "label"
    ].values.tolist() == [
        "x",
        "y",
        "x",
    ]


@pytest.mark.parametrize(
    ("step", "samples", "message"),
    [
        (RemoveCharacter(character="$", x=True, columns=["age"]), people(), 'column "age" holds no texts'),
        (RemoveCharacter(character="$", z=True), people(z={"g": numbers(1, 2, 3)}), "z has no text to remove '\\$' from"),
        (RemoveCharacter(character="$", x=True, columns=["pric"]), people(), 'x has no column "pric".*did you mean "price"'),
        (Encode(x=True, columns=[7]), people(), "x has no column 7; it has city, age, price; positions count from 0"),
        (Encode(z=True), people(z={}), r"there are no groups \(z\)"),
        (Encode(y=True), people(y={"l": Field(objects([[1], [2], [1, 2]]))}), 'column "l" holds a list.*ParseLists pads'),
        (Add(add=1, x=True), people(), "column \"city\" holds 'Rome', expected numbers to add 1 to"),
    ],
)
def test_a_step_on_what_it_does_not_fit_says_so(step, samples, message):
    with pytest.raises(DataError, match=message):
        step.apply(samples)


def test_add_keeps_whole_numbers_whole():
    made = Add(add=-1, y=True, z=True).apply(people(y={"l": numbers(1, 2, 3)}, z={"g": numbers(0.5, 1.0, 2.0)}))
    assert (made.y["l"].values.tolist(), made.y["l"].values.dtype) == ([0, 1, 2], np.int64)
    assert made.z["g"].values.tolist() == [-0.5, 0.0, 1.0]
    assert Add(add=0.5, y=True).apply(people(y={"l": numbers(1, 2, 3)})).y["l"].values.tolist() == [1.5, 2.5, 3.5]
    assert Add(add=2, x=True, columns=["age"]).apply(people()).x["age"].values.tolist() == [22.0, 32.0, 42.5]


def test_add_to_pictures_adds_to_what_the_model_sees_and_keeps_bytes():
    x = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).reshape(2, 1, 1, 2)
    made = Add(add=0.25, x=True).apply(pictures(x))
    assert made.x.values.dtype == torch.uint8
    seen = made.x.gather(torch.tensor([0, 1])).flatten()
    assert torch.allclose(seen, torch.tensor([0.25, 0.45, 1.25, 0.65]))


def test_lists_in_texts_become_rows_filled_up_with_minus_one():
    lists = people(
        x={"l": texts("[1, 2, 3]", "7", " [4]")}, z={"artists": texts("['Ann', 'Bo']", "['Bo']", "['Cy', 'Ann', 'Bo']")}
    )
    made = ParseLists(max_length=2, x=True, z=True).apply(lists)
    assert made.x["l"].values.tolist() == [[1, 2], [7, -1], [4, -1]]
    assert made.x["l"].values.dtype == np.int64
    assert made.z["artists"].values.tolist() == [["Ann", "Bo"], ["Bo", -1], ["Cy", "Ann"]]
    coded = Encode(z=True).apply(made).z["artists"]
    assert (coded.values.tolist(), coded.names) == ([[0, 1], [1, -1], [2, 0]], ("Ann", "Bo", "Cy"))
    assert ParseLists(max_length=2, x=True).apply(people(x={"n": numbers(1.5, 2.0, 3.0)})).x["n"].values.tolist() == [
        [1.5, -1],
        [2.0, -1],
        [3.0, -1],
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[1, 2", "has '\\[1, 2' in sample 1, expected a list such as"),
        ("__import__('os')", "expected a list such as"),
        ("{'a': 1}", "in sample 1, expected a list"),
        ("[[1], 2]", "lists that hold list, expected numbers or texts"),
    ],
)
def test_texts_that_are_no_lists_are_refused_and_never_run(value, message):
    with pytest.raises(DataError, match=message):
        ParseLists(max_length=3, x=True).apply(people(x={"l": texts("[1]", value, "[2]")}))


def test_lists_of_one_length_become_arrays():
    nested = people(x={"l": Field(objects([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]))}, y={"l": numbers(0, 1)}, z={})
    made = ListToTensor(x=True, y=True).apply(nested)
    assert made.x["l"].values.shape == (2, 2, 2)
    assert made.x["l"].values.tolist()[1] == [[5, 6], [7, 8]]
    data = finished(made)
    assert (data.x_shape, data.x.values.dtype) == ((2, 2), torch.float32)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1, 2], [3]], r"a list of shape \(1,\) in sample 1, expected shape \(2,\); ParseLists pads"),
        ([[[1, 2], [3, 4]], [[1], [2, 3]]], "a ragged list in sample 1"),
        ([["a"], ["b"]], "something else than numbers"),
        ([[1], None], "in sample 1, expected shape"),
    ],
)
def test_ragged_lists_are_refused_with_their_sample(lists, message):
    with pytest.raises(DataError, match=message):
        ListToTensor(x=True).apply(people(x={"l": Field(objects(lists))}))


# Moving


def test_inputs_move_to_the_groups():
    made = MoveInputs(move=["city"]).apply(people())
    assert list(made.x) == ["age", "price"]
    assert values_of(made.z) == {"city": ["Rome", "Oslo", "Rome"]}
    kept = MoveInputs(move=0, keep=[1]).apply(people())
    assert (list(kept.x), list(kept.z)) == (["age"], ["city"])
    with pytest.raises(DataError, match="no input is left when city, age, price are moved"):
        MoveInputs(move=[0, 1, 2]).apply(people())


def test_labels_move_to_the_groups_by_column_or_by_element():
    two = people(y={"class": numbers(0, 1, 0), "writer": texts("u", "v", "u")})
    made = MoveLabels(keep=0, move=["writer"]).apply(two)
    assert (list(made.y), list(made.z)) == (["class"], ["writer"])
    bits = people(y={"y": Field(np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0]]), ("tall", "old", "kind"))})
    made = MoveLabels(keep=["old"], move=[0, 2]).apply(bits)
    assert values_of(made.y) == {"old": [1, 0, 0]}
    assert values_of(made.z) == {"tall": [0, 1, 0], "kind": [1, 1, 0]}


def test_positions_that_are_no_columns_are_the_path_that_published_files_mean():
    bits = Field(np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0]]), ("tall", "old", "kind"))
    celeba = people(y={"attributes": bits, "identity": numbers(7, 8, 7)})
    with pytest.warns(UserWarning, match=r"keep = \[0, 2\] is read as a path, number 2 of column 0: there are 2 columns"):
        made = MoveLabels(keep=[0, 2], move=[1]).apply(celeba)
    assert (values_of(made.y), values_of(made.z)) == ({"kind": [1, 1, 0]}, {"identity": [7, 8, 7]})
    for keep in ([0, 3], [1, 2], ["attributes", "kind"]):
        with pytest.raises(DataError):
            MoveLabels(keep=keep, move=[1]).apply(celeba)


def test_labels_are_picked_by_a_path():
    celeba = people(y={"attributes": Field(np.array([[0, 1], [1, 0], [1, 1]])), "identity": numbers(7, 8, 7)})
    made = PickLabels(keep=[0, 1], move=[1]).apply(celeba)
    assert values_of(made.y) == {"attributes[1]": [1, 0, 1]}
    assert values_of(made.z) == {"identity": [7, 8, 7]}
    for path, message in (([1, 0], '"identity" is one value a sample'), ([0, 5], "y has no column 5"), ([0, 0, 0], "nothing at")):
        with pytest.raises(DataError, match=message):
            PickLabels(keep=path, move=[1]).apply(celeba)


def test_labels_are_copied_to_the_groups():
    made = CopyLabels().apply(people(x={"n": numbers(1.0, 2.0, 3.0)}))
    data = finished(made)
    assert data.y.tolist() == data.z.tolist() == [1, 2, 0]
    assert data.class_names == data.z_names == ("a", "b", "c")


# Texts


def test_columns_are_joined_by_spaces_in_the_order_given():
    made = JoinColumns(columns=["price", "city"]).apply(people())
    assert values_of(made.x) == {"text": ["$3 Rome", " $1.5 Oslo", "$20 Rome"]}
    assert made.modality == "text"
    assert JoinColumns().apply(people()).x["text"].values[0] == "Rome 20.0 $3"


def test_the_group_says_whether_a_string_occurs():
    made = ContainsText(contains=["Os", "$2"]).apply(people())
    assert (made.z["contains"].values.tolist(), made.z["contains"].names) == ([0, 1, 1], ("without Os, $2", "with Os, $2"))
    with pytest.raises(DataError, match="no column of text to search"):
        ContainsText(contains="a").apply(people(x={"age": numbers(1.0, 2.0, 3.0)}))


def test_the_group_is_the_number_of_the_first_pattern_that_matches():
    genres = people(z={"g": texts("hard rock", "soft pop", "jazz")})
    made = MatchPatterns(patterns=["rock|pop", "^soft"]).apply(genres)
    assert made.z["g"].values.tolist() == [1, 1, 0]
    assert MatchPatterns(patterns=["^soft", "rock|pop"]).apply(genres).z["g"].values.tolist() == [2, 1, 0]
    coded = people(z={"g": Field(np.array([1, 0, 1]), ("left", "right"))})
    assert MatchPatterns(patterns="^r").apply(coded).z["g"].values.tolist() == [1, 0, 1]
    with pytest.raises(InvalidParameters, match=r"MatchPatterns.patterns\[1\]: '\(' is no regular expression"):
        MatchPatterns(patterns=["a", "("])


def test_texts_become_token_ids_over_their_mask():
    step = Tokenize(tokenizer=Words(max_length=3, vocabulary_size=50), columns=["city", "price"])
    data = finished(step.apply(people()))
    assert (data.modality, data.x_shape, data.x.values.dtype) == ("text", (2, 3), torch.int64)
    ids, _ = hashed_tokens(["Rome $3", "Oslo  $1.5", "Rome $20"], 3, 50)
    assert torch.equal(data.x.values[:, 0], ids)
    assert data.x.values[:, 1].tolist() == [[1, 1, 1]] * 3
    short = finished(Tokenize(tokenizer=Words(max_length=3, vocabulary_size=50), columns="city").apply(people()))
    assert short.x.values[:, 1].tolist() == [[1, 0, 0]] * 3
    alone = finished(replace(step, attention=False).apply(people()))
    assert (alone.modality, alone.x_shape) == ("text", (3,))
    assert torch.equal(alone.x.values, ids)


# Pictures


def test_arrays_become_pictures_with_their_channels_first():
    grey = people(x={"a": Field(np.arange(8).reshape(2, 2, 2))}, y={"l": numbers(0, 1)}, z={})
    data = finished(ImageToTensor().apply(grey))
    assert (data.modality, data.x_shape, data.x.values.dtype) == ("image", (1, 2, 2), torch.uint8)
    assert torch.allclose(data.x.gather(torch.tensor([1])).flatten(), torch.tensor([4.0, 5, 6, 7]) / 255)
    colour = people(x={"a": Field(np.zeros((2, 5, 4, 3)))}, y={"l": numbers(0, 1)}, z={})
    assert finished(ImageToTensor().apply(colour)).x_shape == (3, 5, 4)
    ready = pictures(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    assert ImageToTensor().apply(ready).x is ready.x


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (people(), r"expected one array a sample of shape \(height, width\).*found city: object"),
        (people(x={"a": Field(np.full((3, 2, 2), 300))}), "whole numbers from 300 to 300, expected 0 to 255"),
        (people(x={"a": Field(np.zeros((3, 2, 6, 5)))}), r"1, 3 or 4 channels, found arrays of shape \(2, 6, 5\)"),
    ],
)
def test_what_is_no_picture_is_refused(samples, message):
    with pytest.raises(DataError, match=message):
        ImageToTensor().apply(samples)


def test_fine_classes_become_groups_and_coarse_ones_labels():
    fine = sorted(name for each in CIFAR100_COARSE.values() for name in each.split())
    codes = np.array([fine.index("beaver"), fine.index("tractor"), fine.index("apple")])
    made = CoarseClasses().apply(people(x={"n": numbers(1.0, 2.0, 3.0)}, y={"y": Field(codes, tuple(fine))}))
    data = finished(made)
    assert [data.class_names[each] for each in data.y] == ["aquatic_mammals", "vehicles_2", "fruit_and_vegetables"]
    assert (data.n_classes, data.z.tolist(), data.z_names[codes[0]]) == (20, codes.tolist(), "beaver")
    with pytest.raises(DataError, match="not the 100 classes"):
        CoarseClasses().apply(people())


def test_attributes_become_one_class_or_several_labels_and_the_identity_the_group():
    bits = Field(np.array([[0, 1, 1], [1, 0, 1], [0, 0, 0]]), ("tall", "old", "kind"))
    celeba = people(x={"n": numbers(1.0, 2.0, 3.0)}, y={"attributes": bits, "identity": numbers(7, 8, 7)})
    one = finished(CelebALabels(columns=["kind", 0]).apply(celeba))
    assert (one.y.tolist(), one.n_classes, one.z.tolist()) == ([2, 3, 0], 4, [7, 8, 7])
    assert one.class_names == ("kind=0, tall=0", "kind=0, tall=1", "kind=1, tall=0", "kind=1, tall=1")
    several = finished(CelebALabels(columns=[1, 2], multilabel=True).apply(celeba))
    assert (several.task, several.y.tolist(), several.class_names) == ("multilabel", [[1, 1], [0, 1], [0, 0]], ("old", "kind"))
    then_moved = finished(MoveLabels(keep=[0], move=[1]).apply(CelebALabels(columns=["kind", 0]).apply(celeba)))
    assert torch.equal(then_moved.y, one.y)
    assert torch.equal(then_moved.z, one.z)
    with pytest.raises(DataError, match="the labels are label, expected CelebA's attributes and identity"):
        CelebALabels(columns=0).apply(people())


# From samples to a data set


def test_columns_end_as_one_matrix_with_their_names():
    x = {"n": numbers(1, 2, 3), "list": Field(np.array([[1, 2], [3, 4], [5, 6]])), "text": texts("1.5", "2", "3")}
    data = finished(people(x=x))
    assert data.feature_names == ("n", "list[0]", "list[1]", "text")
    assert data.x.values.tolist() == [[1, 1, 2, 1.5], [2, 3, 4, 2], [3, 5, 6, 3]]
    assert data.x.values.dtype == torch.float32
    assert (data.y.tolist(), data.z.tolist(), data.modality, data.task) == ([1, 2, 0], [1, 0, 1], "table", "classification")


def test_categorical_columns_that_are_still_text_become_one_column_a_value():
    data = finished(people(x={"city": people().x["city"], "n": numbers(1, 2, 3)}, categorical=("city", "n")))
    assert data.feature_names == ("city=Oslo", "city=Rome", "n")
    assert data.x.values.tolist() == [[0, 1, 1], [1, 0, 2], [0, 1, 3]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {},
            'text left in the input columns "city", "price" \\("city" has \'Rome\' in sample 0\\).*Encode.*Tokenize.*categorical',
        ),
        ({"x": {"l": Field(objects([[1], [2], [3]]))}}, "lists left in the input columns.*ParseLists"),
        ({"x": {}}, "no input is left"),
        ({"x": {"n": numbers(1.0, np.nan, 3.0)}}, 'NaN or infinite values in "n"'),
        ({"y": {"a": numbers(0, 1, 2), "b": numbers(0, 1, 1)}}, r"labels have 2 columns \(a, b\) after all steps.*MoveLabels"),
        ({"y": {"a": numbers(0.5, 1, 2)}}, 'label "a" is 0.5 in sample 0, expected whole numbers or text'),
        ({"y": {"a": texts("u", "v", "w")}, "n_classes": 2}, 'label "a" has 3 values, expected 2 classes: u, v, w'),
        ({"y": {"a": numbers(0, 1, -1)}, "n_classes": 2}, 'label "a" has 3 values, expected 2 classes'),
    ],
)
def test_what_no_network_can_learn_is_one_error(changes, message):
    ready = {"x": {"n": numbers(1, 2, 3)}} if "x" not in changes and changes else {}
    with pytest.raises(DataError, match=message):
        finished(people(**ready | changes))


def test_labels_of_zeros_and_ones_in_several_columns_are_a_multilabel_task():
    data = finished(people(x={"n": numbers(1, 2, 3)}, y={"a": numbers(0, 1, 1), "b": texts("1", "1", "0")}))
    assert (data.task, data.y.tolist(), data.class_names) == ("multilabel", [[0, 1], [1, 1], [1, 0]], ("a", "b"))


def test_labels_with_a_single_one_in_each_row_are_classes_or_are_told():
    with pytest.warns(UserWarning, match="one 1 among 2 numbers in each of 3 samples and are taken for labels of their own"):
        data = finished(people(x={"n": numbers(1, 2, 3)}, y={"a": numbers(0, 1, 1), "b": texts("1", "0", "0")}))
    assert (data.task, data.y.tolist()) == ("multilabel", [[0, 1], [1, 0], [1, 0]])
    rows = Field(np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]))
    with pytest.warns(UserWarning, match="one 1 among 3 numbers in each of 3 samples and are taken for classes"):
        data = finished(people(x={"n": numbers(1, 2, 3)}, y={"kind": rows}))
    assert (data.task, data.y.tolist(), data.n_classes) == ("classification", [1, 2, 0], 3)


def test_several_groups_have_codes_that_never_coincide():
    data = finished(people(x={"n": numbers(1, 2, 3)}, z={"sex": texts("m", "f", "m"), "age": numbers(30.0, 20.0, 20.0)}))
    assert data.z.tolist() == [[1, 3], [0, 2], [1, 2]]
    assert data.z_names == ("sex=f", "sex=m", "age=20", "age=30")


def test_groups_of_lists_are_padded_first():
    ready = people(x={"n": numbers(1, 2, 3)}, z={"artists": texts("['a', 'b']", "['b']", "['c']")})
    padded = finished(ParseLists(max_length=2, z=True).apply(ready))
    assert (padded.z.tolist(), padded.z_names) == ([[0, 1], [1, -1], [2, -1]], ("a", "b", "c"))
    with pytest.raises(DataError, match='column "artists" holds a list, expected texts or numbers; ParseLists pads lists'):
        finished(replace(ready, z={"artists": Field(objects([["a"], ["b"], ["a", "b"]]))}))


def test_a_data_set_that_no_step_touches_stays_what_it_was():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.5]])
    data = Dataset(
        name="d",
        x=TensorColumn(x),
        y=torch.tensor([1, 0]),
        n_classes=5,
        x_shape=(2,),
        feature_names=("a", "b"),
        z=torch.tensor([4, 4]),
    )
    again = finished(samples_of(data))
    assert torch.equal(again.x.values, x)
    assert (again.y.tolist(), again.n_classes, again.feature_names, again.z.tolist()) == ([1, 0], 5, ("a", "b"), [4, 4])


def test_labels_made_wrong_on_purpose_are_not_changed_afterwards():
    y = torch.tensor([1, 0])
    data = Dataset(
        name="d",
        x=TensorColumn(torch.ones(2, 1)),
        y=y,
        n_classes=2,
        x_shape=(1,),
        clean_y=torch.tensor([0, 0]),
        corrupted=torch.tensor([True, False]),
    )
    assert finished(Add(add=1, x=True).apply(samples_of(data))).clean_y.tolist() == [0, 0]
    with pytest.raises(DataError, match="put Poisoned around"):
        finished(Encode(y=True, values=["1", "0"]).apply(replace(samples_of(data))))


def test_steps_on_columns_refuse_pictures_and_graphs_by_name():
    with pytest.raises(DataError, match="these inputs are pictures"):
        Encode(x=True).apply(pictures(torch.zeros(2, 1, 2, 2)))
    with pytest.raises(DataError, match="these inputs are token ids already"):
        JoinColumns().apply(replace(pictures(torch.zeros(2, 4)), modality="text"))
