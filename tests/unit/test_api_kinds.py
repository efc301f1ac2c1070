"""Kinds of data, models and settings that somebody may give to the Python doors: read as meant, or refused with what to do."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ChainDataset,
    DataLoader,
    IterableDataset,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

import erasure
from erasure.engine.given_data import given_data
from erasure.errors import DataError, InvalidParameters, RequirementNotMet, UnlearningWarning

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 2
REST = (X[6:], Y[6:])
TRAIN = TensorDataset(X, Y)


def network(*last, width=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), *last)


def finetuned(forget=(X[:6], Y[:6]), model=None, retain=REST, **options):
    return erasure.unlearn(model or network(), "Finetuning", forget=forget, retain=retain, epochs=1, **options).unlearning


def test_a_loader_is_read_by_the_sampler_of_its_batches():
    batches = BatchSampler(SubsetRandomSampler(range(6)), 4, drop_last=False)
    assert finetuned(DataLoader(TensorDataset(X, Y), batch_sampler=batches)).sizes["forget"] == 6


def test_a_sampler_of_batches_of_ones_own_is_refused():
    class Own(Sampler):
        def __iter__(self):
            return iter([[0, 1]])

    with pytest.raises(DataError, match="draws its samples by Own"):
        finetuned(DataLoader(TensorDataset(X, Y), batch_sampler=Own()))


def test_a_loader_without_batches_is_read():
    assert finetuned(DataLoader(TensorDataset(X[:6], Y[:6]), batch_size=None)).sizes["forget"] == 6


class Endless(IterableDataset):
    def __iter__(self):
        return iter([(X[0], Y[0])])


@pytest.mark.parametrize("data", [Endless(), ChainDataset([Endless()])], ids=["iterable", "chain"])
def test_streams_are_refused(data):
    with pytest.raises(DataError, match="is a stream"):
        finetuned(data)


def test_frames_whose_columns_stand_in_another_order_are_refused():
    frame, labels = pd.DataFrame(X.numpy(), columns=["a", "b", "c"]), pd.Series(Y.numpy())
    with pytest.raises(DataError, match='column 0 is "c" in forget and "a" in retain'):
        finetuned((frame[["c", "b", "a"]][:6], labels[:6]), retain=(frame[6:], labels[6:]))


def test_frame_and_labels_of_other_rows_are_refused():
    frame, labels = pd.DataFrame(X[:6].numpy()), pd.Series(Y[:6].numpy())
    shuffled = frame.sample(frac=1, random_state=0)
    with pytest.raises(DataError, match="rows of x and y have different names"):
        finetuned((shuffled, labels))
    assert finetuned((shuffled.reset_index(drop=True), labels.set_axis(range(6, 12)))).sizes["forget"] == 6


def test_frames_of_polars_are_read():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X.numpy(), schema=["a", "b", "c"])
    same = (frame[:6], polars.Series(Y[:6].numpy()))
    assert finetuned(same).before == finetuned().before
    with pytest.raises(DataError, match=r"give it with \.collect\(\)"):
        finetuned((frame.lazy(), Y))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ((X[:6].to_sparse(), Y[:6]), "to_dense"),
        ((X[:6].to("meta"), Y[:6]), "holds no values"),
        ((np.ma.masked_array(X[:6].numpy(), X[:6].numpy() > 0), Y[:6]), "masked values"),
        ((X[:6], torch.full((6,), float("inf"))), "sample 0 of forget is inf, expected whole numbers"),
        ((X[:6], Y[:6].to(torch.complex64)), "complex64"),
        ((X[:6], np.array(["a", None, "b", "a", "a", "a"], object)), "no value in place 1"),
        ((X[:6].tolist(), Y[:6].tolist()), "make tensors or arrays of them"),
        ([1, 2], "positions in as train="),
        ({"x": X, "edge_index": torch.zeros(2, 3, dtype=torch.long), "y": Y}, "give the whole graph as train="),
    ],
    ids=["sparse", "meta", "masked", "infinite", "complex", "missing", "lists", "positions", "graph"],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(data, told):
    with pytest.raises(DataError, match=told):
        finetuned(data)


def test_texts_of_numbers_whose_order_is_another_one_are_refused():
    labels = np.arange(12).astype(str)
    with pytest.raises(DataError, match="order as texts"):
        finetuned((X[:12], labels), network(width=12), retain=(X[12:], labels))


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Sigmoid()])
def test_a_network_that_gives_probabilities_is_told_of_once(last):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        finetuned(model=network(last))
    assert [str(each.message).startswith("the model ends in a s") for each in said].count(True) == 1


@pytest.mark.filterwarnings("error")
def test_log_probabilities_are_no_probabilities():
    finetuned(model=network(nn.LogSoftmax(1)), loss_fn=nn.NLLLoss())


@pytest.mark.parametrize("loss", [nn.NLLLoss(), nn.BCELoss()])
def test_losses_of_probabilities_are_refused_beside_logits(loss):
    with pytest.raises(RequirementNotMet, match=r"reads (log-)?probabilities"):
        finetuned(model=network(width=2 if isinstance(loss, nn.NLLLoss) else 1), loss_fn=loss)


def test_weights_of_few_bits_that_steps_do_not_reach_are_told_of():
    with pytest.warns(UnlearningWarning, match="a step that is small beside a weight is lost"):
        finetuned(model=network().bfloat16(), optimizer={"class": "SGD", "parameters": {"lr": 0.01}})


def spoilt():
    model = network()
    model[0].weight.data[0, 0] = float("nan")
    return model


class Odd(nn.Linear):
    def __init__(self, answer):
        super().__init__(3, 4)
        self.answer = answer

    def forward(self, x):
        return self.answer(super().forward(x))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: network().to("meta"), 'on the device "meta"'),
        (spoilt, '"0.weight" of the model are not finite'),
        (lambda: Odd(lambda out: {}["missing"]), "KeyError: 'missing'"),
        (lambda: Odd(lambda out: out[0]), "one row of logits for each sample"),
    ],
    ids=["meta", "not finite", "forward", "no batch"],
)
def test_models_that_cannot_be_used_are_refused(model, told):
    with pytest.raises((RequirementNotMet, DataError), match=told):
        finetuned(model=model())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_code_is_refused():
    with pytest.raises(RequirementNotMet, match=r"compiled by torch\.jit"):
        finetuned(model=torch.jit.trace(network(), X[:2]))


@pytest.mark.parametrize(
    "options",
    [{"seed": -1}, {"seed": "a"}, {"batch_size": 0}, {"precision": "fp16"}, {"modality": "audio"}, {"task": "regression"}],
)
def test_settings_that_there_are_not_are_refused(options):
    with pytest.raises(InvalidParameters, match=next(iter(options))):
        finetuned(**options)


def test_labels_that_count_from_one_are_told_so():
    with pytest.raises(DataError, match="the model has 2 classes, and labels count from 0"):
        finetuned((X[:6], Y[:6] + 1), retain=(X[6:], Y[6:] + 1))


def test_a_method_is_a_name_what_is_written_of_it_or_an_unlearner():
    with pytest.raises(InvalidParameters, match="found list"):
        erasure.unlearn(network(), ["SSD"], forget=(X[:6], Y[:6]))


@pytest.mark.parametrize("ids", [frozenset({1, 2}), {1: "a", 2: "b"}.keys(), iter([1, 2]), pd.Series([1, 2], dtype="Int64")])
def test_positions_are_taken_in_any_container(ids):
    given = given_data(network(), forget=ids, data=(X, Y), device=torch.device("cpu"))
    assert given.partitions["forget"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([0, 1] * 12, "as truth values"),
        ([[1, 2], [3]], "not one row"),
        ((X[:6], Y[:6]), "not one row"),
        ([True, None] * 12, "found None"),
    ],
)
def test_what_are_no_positions_is_refused(ids, told):
    with pytest.raises(DataError, match=told):
        given_data(network(), forget=ids, data=(X, Y), device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"unlearned": network(width=4)}, "4 logits a sample, and the original 2"),
        ({"unlearned": None}, "found|expected"),
        ({"golds": [network()]}, "weights of an original"),
        ({"exact": ["another"]}, '"another"'),
        ({"train": {"epoch": 1}}, "epoch: unknown parameter"),
        ({"n_golds": -1}, "n_golds"),
    ],
)
def test_an_audit_refuses_what_cannot_be_judged(options, told):
    other = copy.deepcopy(network())
    other[0].bias.data += 1
    given = {"original": network(), "unlearned": other, "forget": range(6), "data": (X, Y), **options}
    with pytest.raises((DataError, RequirementNotMet, InvalidParameters), match=told):
        erasure.audit(**given)


def test_an_audit_finds_a_place_that_cannot_be_written_first(tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(DataError, match="is a file"):
        erasure.audit(original=network(), unlearned=None, forget=[1], data=(X, Y), output=place)


@pytest.mark.parametrize(
    "options",
    [{"seeds": 3}, {"seeds": []}, {"seeds": [-1]}, {"seeds": "01"}, {"threads": 0}, {"precision": "fp16"}, {"strategy": "all"}],
)
def test_options_of_a_run_that_there_are_not_are_refused(options):
    with pytest.raises((DataError, InvalidParameters), match=next(iter(options))[:4]):
        erasure.run({}, **options)


def test_a_configuration_is_a_path_or_a_mapping():
    with pytest.raises(DataError, match="the configuration is a list"):
        erasure.run([1])


def test_an_estimator_that_does_not_take_the_data_is_refused(tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    data = (X.numpy(), (X[:, 0] > 0).long().numpy())
    fitted = linear.LogisticRegression().fit(*data)
    with pytest.raises(DataError, match="does not take this data: X has 2 features"):
        erasure.forget(model=fitted, forget=[1], data=data, test=(X[:4, :2].numpy(), data[1][:4]), folder=tmp_path)


FIRST_SIX = np.arange(24) < 6


@pytest.mark.parametrize(
    "forget",
    [range(6), [5, 4, 3, 2, 1, 0], {0, 1, 2, 3, 4, 5}, FIRST_SIX, pd.Series(FIRST_SIX), torch.arange(6), Subset(TRAIN, range(6))],
    ids=["range", "list", "set", "mask", "series", "tensor", "subset"],
)
def test_positions_in_the_training_set_stand_for_its_samples(forget):
    made = erasure.unlearn(network(), "Finetuning", forget=forget, train=TRAIN, epochs=1)
    same = erasure.unlearn(network(), "Finetuning", forget=(X[:6], Y[:6]), retain=REST, epochs=1)
    assert all(torch.equal(one, other) for one, other in zip(made.parameters(), same.parameters(), strict=True))
    assert made.unlearning.sizes == {"forget": 6, "retain": 18}


def test_positions_of_what_is_kept_leave_out_the_rest():
    made = erasure.unlearn(network(), "Finetuning", forget=[0], retain=range(10, 24), train=TRAIN, epochs=1)
    same = erasure.unlearn(network(), "Finetuning", forget=(X[:1], Y[:1]), retain=(X[10:], Y[10:]), epochs=1)
    assert all(torch.equal(one, other) for one, other in zip(made.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize(
    ("forget", "train", "message"),
    [
        ([1, 2], None, "give the data set that they are positions in as train="),
        ([1, 24], TRAIN, "the first is 24"),
        (FIRST_SIX & False, TRAIN, "there is nothing to forget"),
        (range(24), TRAIN, "all 24 samples are to be forgotten"),
        ([1.0, 2.0], TRAIN, r"must be positions of samples in train.*found shape \(2,\) of float64"),
        (["ann"], TRAIN, r"found 'ann'; give a mask"),
        (FIRST_SIX[:-1], TRAIN, "a mask of 23 samples, and the data has 24"),
    ],
)
def test_positions_that_mean_nothing_are_refused(forget, train, message):
    with pytest.raises(DataError, match=message):
        erasure.unlearn(network(), "Finetuning", forget=forget, train=train)


def test_a_method_may_be_written_as_in_a_configuration():
    written = {"class": "SCRUB", "parameters": {"temperature": 2.0, "optimizer": {"class": "SGD", "parameters": {"lr": 0.1}}}}
    made = erasure.unlearn(network(), written, forget=[0, 1], train=TRAIN, epochs=2)
    same = erasure.unlearn(
        network(), "SCRUB", forget=[0, 1], train=TRAIN, epochs=2, temperature=2.0, optimizer=written["parameters"]["optimizer"]
    )
    assert all(torch.equal(one, other) for one, other in zip(made.parameters(), same.parameters(), strict=True))
    assert made.unlearning.method == "SCRUB"
    with pytest.raises(InvalidParameters, match='did you mean "temperature"'):
        erasure.unlearn(network(), {"class": "SCRUB", "parameters": {"temprature": 2.0}}, forget=[0, 1], train=TRAIN)
