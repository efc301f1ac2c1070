"""Steps on what real sources read, and functions of one's own."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch

from erasure.component import canonical
from erasure.data.corruption import Mislabel
from erasure.data.preprocess.contract import Step
from erasure.data.preprocess.moving import CopyLabels, MoveInputs
from erasure.data.preprocess.per_sample import PerSample, SampleFunction, SampleStep
from erasure.data.preprocess.samples import samples_of
from erasure.data.preprocess.texts import ContainsText, JoinColumns, Tokenize
from erasure.data.preprocess.tokenizers import Pretrained, Words
from erasure.data.preprocess.values import Add, Encode, RemoveCharacter
from erasure.data.sources.hugging_face import HuggingFace
from erasure.data.sources.poisoned import Poisoned
from erasure.data.sources.preprocessed import Preprocessed
from erasure.data.sources.scikit_learn import Sklearn
from erasure.data.sources.synthetic import SyntheticImages
from erasure.data.sources.table import TableFile
from erasure.data.sources.uci import UCI
from erasure.data.storage import from_artifact, to_artifact
from erasure.data.text import hashed_tokens
from erasure.errors import DataError, InvalidParameters

SHOPS = "town,price,open,verdict\nRome,$3.5,9,good\nOslo,$8,10,bad\nRome,$1,?,good\nBergen,$2,8,bad\n"
TALK = "title,text,mood\nOne,Good day!,glad\nTwo,Bad day,sad\nThree,A good dog,glad\n"

FUNCTIONS = """
def ratio(x, y, z, by=1.0):
    return {"ratio": x["price"] / by, "town": x["town"]}, y.upper(), x["town"]

def flip(x, y, z):
    return x.flip(-1), 1 - y, z

def only_y(x, y, z):
    return x, 1 - y, z

def in_place(x, y, z):
    x += 1
    return x, y, z

def second(x, y, z):
    if y == 1:
        raise KeyError("nothing here")
    return x, y, z

def pair(x, y, z):
    return x, y

def uneven(x, y, z):
    return [1.0] * (1 + y), y, z

def shapes(x, y, z):
    import numpy
    return numpy.zeros(1 + y), y, z

def noisy(x, y, z):
    import torch
    return x + torch.rand(1), y, z
"""


@pytest.fixture
def write(tmp_path):
    def a_file(text, name="shops.csv"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return a_file


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module of one's own, which has not been imported before."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_sample_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("own_sample_functions")
    sys.modules.pop("own_sample_functions", None)
    importlib.invalidate_caches()


def shops(write, *steps, **changes):
    fields = {"path": write(SHOPS), "label": "verdict", "features": ["town", "price"]}
    return Preprocessed(data_source=TableFile(**fields | changes), steps=steps)


PRICE = RemoveCharacter(character="$", x=True, columns="price")


# Tables


def test_a_table_with_text_is_made_of_numbers(write):
    data = shops(write, PRICE, Encode(x=True), CopyLabels()).load()
    assert data.x.values.tolist() == [[2, 3.5], [1, 8], [2, 1], [0, 2]]
    assert (data.feature_names, data.name, data.modality) == (("town", "price"), "shops", "table")
    assert (data.y.tolist(), data.z.tolist(), data.class_names) == ([1, 0, 1, 0], [1, 0, 1, 0], ("bad", "good"))


def test_the_options_of_the_table_still_count(write):
    fields = {"features": ["town", "price", "open"], "categorical": "town", "z": "town", "label_strip": "d"}
    dropped = shops(write, PRICE, **fields, missing="drop").load()
    assert dropped.feature_names == ("town=Bergen", "town=Oslo", "town=Rome", "price", "open")
    assert dropped.x.values.tolist() == [[0, 0, 1, 3.5, 9], [0, 1, 0, 8, 10], [1, 0, 0, 2, 8]]
    assert (dropped.class_names, dropped.z_names) == (("ba", "goo"), ("Bergen", "Oslo", "Rome"))
    filled = shops(write, PRICE, **fields, missing="impute").load()
    assert filled.x.values[2].tolist() == [0, 0, 1, 1, 9]
    with pytest.raises(DataError, match=r'missing values in "open" \(1, first in row 3 of shops.csv'):
        shops(write, PRICE, **fields).load()
    assert shops(write, PRICE, MoveInputs(move="town"), task="binary").load().task == "binary"


def test_steps_that_change_nothing_change_nothing(write):
    nothing = Encode()
    for source in (
        TableFile(path=write("a,b,y\n1,2.5,3\n4,-1,5\n", "n.csv"), label="y"),
        Sklearn(name="iris"),
        SyntheticImages(n_samples=12),
    ):
        plain, again = source.load(), Preprocessed(data_source=source, steps=[nothing]).load()
        facts = [to_artifact(each)[1] for each in (plain, again)]
        assert facts[0] == facts[1]
        assert torch.equal(plain.x.values, again.x.values)
        assert torch.equal(plain.y, again.y)


def test_what_is_left_is_one_error_that_names_the_column(write):
    with pytest.raises(DataError, match='text left in the input columns "town"') as error:
        shops(write, PRICE).load()
    assert "Rome" in str(error.value)
    with pytest.raises(DataError, match=r'preprocess\[1\] \(Encode\): x has no column "twon".*did you mean "town"'):
        shops(write, PRICE, Encode(x=True, columns="twon")).load()


def test_a_uci_table_is_preprocessed_by_its_columns(tmp_path):
    folder = tmp_path / "uci" / "7"
    folder.mkdir(parents=True)
    (folder / "data.csv").write_text("size,colour,kind\n1.5,red,a\n2.5,blue,b\n3.5,red,a\n")
    (folder / "about.json").write_text(json.dumps({"features": ["size", "colour"], "targets": ["kind"], "name": "Things"}))
    source = UCI(id=7, root=str(tmp_path))
    assert Preprocessed(data_source=source, steps=[Add(add=1, x=True, columns="size")]).load().x.values.tolist() == [
        [2.5, 0, 1],
        [3.5, 1, 0],
        [4.5, 0, 1],
    ]
    coded = Preprocessed(data_source=source, steps=[Encode(x=True)]).load()
    assert (coded.x.values.tolist(), coded.name) == ([[1.5, 1], [2.5, 0], [3.5, 1]], "Things")


# Texts


def test_texts_are_searched_joined_and_tokenised(write):
    source = HuggingFace(files=write(TALK, "talk.csv"), columns=["title", "text"], label="mood", max_length=4, vocabulary_size=40)
    steps = [ContainsText(contains="good"), JoinColumns(columns=["text", "title"])]
    data = Preprocessed(data_source=source, steps=steps).load()
    texts = ["Good day! One", "Bad day Two", "A good dog Three"]
    assert torch.equal(data.x.values, hashed_tokens(texts, 4, 40)[0])
    assert (data.z.tolist(), data.y.tolist(), data.class_names) == ([0, 0, 1], [0, 1, 0], ("glad", "sad"))
    assert (data.modality, data.x_shape) == ("text", (4,))
    own = Preprocessed(data_source=source, steps=[*steps, Tokenize(tokenizer=Words(max_length=6, vocabulary_size=40))]).load()
    assert torch.equal(own.x.values[:, 0], hashed_tokens(texts, 6, 40)[0])
    assert torch.equal(own.x.values[:, 1], (own.x.values[:, 0] != 0).long())


def test_a_text_column_of_codes_is_a_table(write):
    source = HuggingFace(files=write(TALK, "talk.csv"), columns="title", label="mood")
    data = Preprocessed(data_source=source, steps=[Encode(x=True)]).load()
    assert (data.modality, data.x.values.tolist(), data.feature_names) == ("table", [[0], [2], [1]], ("title",))


def test_a_pretrained_tokenizer_gives_ids_and_mask(write, tmp_path):
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day", "!", "do", "##g"]
    made = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, do_lower_case=True)
    made.save_pretrained(tmp_path / "bert")
    tokenizer = Pretrained(name_or_path=str(tmp_path / "bert"), max_length=6)
    source = Preprocessed(
        data_source=TableFile(path=write(TALK), label="mood", features="text"), steps=[Tokenize(tokenizer=tokenizer)]
    )
    data = source.load()
    assert data.x.values[0].tolist() == [[2, 5, 7, 8, 3, 0], [1, 1, 1, 1, 1, 0]]
    assert data.x.values[2].tolist() == [[2, 1, 5, 9, 10, 3], [1] * 6]
    made.pad_token = "[MASK]"
    made.save_pretrained(tmp_path / "other")
    masked = Tokenize(tokenizer=tokenizer.replace(name_or_path=str(tmp_path / "other")))
    padded = Preprocessed(data_source=source.data_source, steps=[masked]).load()
    assert padded.x.values[0].tolist() == [[2, 5, 7, 8, 3, 4], [1, 1, 1, 1, 1, 0]]
    with pytest.raises(DataError, match="does not pad with 0; set attention to true"):
        Preprocessed(data_source=source.data_source, steps=[masked.replace(attention=False)]).load()
    before = source.fingerprint()
    (tmp_path / "bert" / "tokenizer_config.json").write_text("{}")
    assert source.fingerprint() != before
    with pytest.raises(DataError, match=r'preprocess\[0\] \(Tokenize\): the tokenizer "nobody/has-it" cannot be loaded'):
        Preprocessed(data_source=source.data_source, steps=[Tokenize(tokenizer=Pretrained(name_or_path="nobody/has-it"))]).load()


def test_numbers_beside_a_text_that_is_moved_away_are_a_table(write):
    text = "artist,length,genre\nAnn,1.5,a\nBo,2.5,b\n"
    source = HuggingFace(files=write(text, "songs.csv"), columns=["artist", "length"], label="genre")
    data = Preprocessed(data_source=source, steps=[MoveInputs(move="artist")]).load()
    assert (data.modality, data.x.values.tolist(), data.feature_names) == ("table", [[1.5], [2.5]], ("length",))
    assert (data.z.tolist(), data.z_names) == ([0, 1], ("Ann", "Bo"))


# Functions of one's own


def test_a_function_of_ones_own_sees_one_sample_at_a_time(write, functions):
    step = PerSample(function=SampleFunction(path="own_sample_functions.ratio", parameters={"by": 2.0}))
    data = shops(write, PRICE, step, MoveInputs(move="town")).load()
    assert data.x.values.tolist() == [[1.75], [4.0], [0.5], [1.0]]
    assert data.feature_names == ("ratio",)
    assert (data.class_names, data.z_names) == (("BAD", "GOOD"), ("Bergen", "Oslo", "Rome"))
    assert PerSample(function=functions.ratio).function == SampleFunction(path="own_sample_functions.ratio")


def test_a_function_sees_pictures_as_the_model_does(functions):
    source = SyntheticImages(n_samples=8, n_classes=2)
    plain = source.load()
    data = Preprocessed(data_source=source, steps=[PerSample(function=functions.flip)]).load()
    ids = torch.arange(8)
    assert torch.equal(data.x.gather(ids), plain.x.gather(ids).flip(-1))
    assert torch.equal(data.y, 1 - plain.y)
    assert (data.modality, data.x_shape) == ("image", plain.x_shape)


def test_pictures_that_a_function_leaves_alone_stay_bytes(functions):
    source = SyntheticImages(n_samples=8, n_classes=2)
    data = Preprocessed(data_source=source, steps=[PerSample(function=functions.only_y)]).load()
    plain = source.load()
    assert torch.equal(data.x.values, plain.x.values)
    assert data.x.values.dtype == plain.x.values.dtype
    assert torch.equal(data.y, 1 - plain.y)


def test_a_function_that_changes_its_arguments_does_not_change_the_data(functions):
    samples = samples_of(SyntheticImages(n_samples=4).load())
    before = samples.x.values.clone()
    made = PerSample(function=functions.in_place).apply(samples)
    assert torch.equal(samples.x.values, before)
    assert torch.equal(made.x.gather(torch.arange(4)), samples.x.gather(torch.arange(4)) + 1)


def test_the_chance_in_a_function_is_its_own_and_the_same_every_time(functions):
    source = Preprocessed(data_source=SyntheticImages(n_samples=4), steps=[PerSample(function=functions.noisy)])
    state = torch.random.get_rng_state()
    first = source.load().x.values
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(source.load().x.values, first)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("second", "the function failed on sample 1: KeyError: 'nothing here'"),
        ("pair", r"the function gave tuple for sample 0, expected a tuple \(x, y, z\)"),
        ("uneven", "lists left in the input columns"),
        ("shapes", r"an array of shape \(2,\) for x of sample 1, and of \(1,\) before"),
    ],
)
def test_a_function_that_fails_is_told_with_its_sample(write, functions, name, message):
    source = TableFile(path=write("a,y\n1,0\n2,1\n", "n.csv"), label="y")
    with pytest.raises(DataError, match=message):
        Preprocessed(data_source=source, steps=[_WholeLabels(), PerSample(function=getattr(functions, name))]).load()


class _WholeLabels(Step):
    """Labels as whole numbers; its own code is part of the address."""

    def apply(self, samples):
        return samples.mapped("y", lambda _, each: type(each)(each.values.astype(np.int64)))


class _Doubled(SampleStep):
    """Twice the only input."""

    def sample(self, x, y, z):
        return 2 * x, y, z


def test_a_class_of_ones_own_is_a_step():
    source = Sklearn(name="iris")
    plain = source.load()
    data = Preprocessed(data_source=source, steps=[MoveInputs(move=[0, 1, 2]), CopyLabels(), _Doubled()]).load()
    assert torch.equal(data.x.values, 2 * plain.x.values[:, 3:])
    assert data.feature_names == plain.feature_names[3:]


def test_the_code_of_steps_from_elsewhere_is_part_of_the_fingerprint(functions, tmp_path):
    assert Encode(x=True).fingerprint() is None
    assert _Doubled().fingerprint() is not None
    step = PerSample(function=functions.flip)
    before = step.fingerprint()
    (tmp_path / "own" / "own_sample_functions.py").write_text(FUNCTIONS + "\n# changed\n")
    assert step.fingerprint() != before


def test_a_function_without_a_name_in_a_module_is_refused():
    with pytest.raises(InvalidParameters, match="has no name of its own in a module"):
        PerSample(function=lambda x, y, z: (x, y, z))


# The source around the others


def test_steps_on_steps_are_one_list(write):
    inner = shops(write, PRICE)
    nested = Preprocessed(data_source=inner, steps=[Encode(x=True)])
    assert canonical(nested) == canonical(shops(write, PRICE, Encode(x=True)))
    assert nested.fingerprint() == shops(write, PRICE, Encode(x=True)).fingerprint()
    with pytest.raises(InvalidParameters, match="steps"):
        Preprocessed(data_source=inner, steps=[])


def test_preprocessed_data_can_be_poisoned_and_stored(write):
    source = shops(write, PRICE, Encode(x=True))
    data = Poisoned(data_source=source, corruption=Mislabel(percentage=0.5)).load()
    assert int((data.y != data.clean_y).sum()) == 2
    again = from_artifact(*to_artifact(data))
    assert torch.equal(again.x.values, source.load().x.values)


def test_the_file_behind_is_part_of_the_fingerprint(write):
    source = shops(write, PRICE)
    before = source.fingerprint()
    write(SHOPS.replace("3.5", "3.6"))
    assert source.fingerprint() != before
