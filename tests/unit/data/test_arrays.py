"""Tensors, arrays and PyTorch data sets become columns; what cannot is refused with the sample's index."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from erasure.data.arrays import dataset_from
from erasure.errors import DataError
from erasure.training.batches import TensorColumn

X, Y = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])


class Samples:
    """A map-style data set of whatever it is given."""

    def __init__(self, samples, **attributes):
        self.samples = samples
        self.__dict__ |= attributes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def gathered(data):
    return data.x.gather(torch.arange(len(data)))


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        [X, Y],
        (X.numpy(), Y.numpy()),
        (X, Y.tolist()),
        (X, Y.float()),
        (X, Y.unsqueeze(1)),
        TensorDataset(X, Y),
        Subset(TensorDataset(X, Y), range(6)),
        ConcatDataset([TensorDataset(X[:2], Y[:2]), TensorDataset(X[2:], Y[2:])]),
        Samples(list(zip(X, Y.tolist(), strict=True))),
        list(zip(X.numpy(), Y.numpy(), strict=True)),
        Samples([(x.tolist(), y) for x, y in zip(X, Y, strict=True)]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_way_to_hold_data_gives_the_same_columns(data):
    columnar = dataset_from(data)
    assert torch.allclose(gathered(columnar), X)
    assert columnar.y.dtype == torch.int64
    assert columnar.y.tolist() == Y.tolist()
    assert (columnar.n_classes, columnar.task, columnar.modality, columnar.x_shape) == (3, "classification", "table", (3,))


def test_a_columnar_data_set_is_returned_as_it_is():
    data = dataset_from((X, Y))
    assert dataset_from(data) is data


def test_groups_are_kept():
    assert dataset_from((X, Y, torch.arange(6))).z.tolist() == list(range(6))
    assert dataset_from(Samples([(x, 0, [1, 2]) for x in X])).z.tolist() == [[1, 2]] * 6


def test_double_precision_becomes_single_unless_asked():
    assert gathered(dataset_from((X.double(), Y))).dtype == torch.float32
    assert gathered(dataset_from((X.double(), Y), keep_float64=True)).dtype == torch.float64
    assert gathered(dataset_from((X.half(), Y))).dtype == torch.float32
    assert gathered(dataset_from((X.half(), Y), keep_float64=True)).dtype == torch.float16


def test_eight_bit_images_stay_small_and_arrive_between_zero_and_one():
    images = torch.full((6, 1, 4, 4), 255, dtype=torch.uint8)
    data = dataset_from((images, Y))
    assert data.modality == "image"
    assert data.x.values.dtype == torch.uint8
    assert torch.allclose(gathered(data), torch.ones(6, 1, 4, 4))


def test_whole_numbers_are_token_ids_unless_they_are_said_to_be_a_table():
    tokens = torch.arange(12, dtype=torch.int32).reshape(6, 2)
    assert (dataset_from((tokens, Y)).modality, gathered(dataset_from((tokens, Y))).dtype) == ("text", torch.int64)
    table = dataset_from((tokens, Y), modality="table")
    assert torch.equal(gathered(table), tokens.float())


@pytest.mark.parametrize("kind", [np.uint16, np.int8, ">f4", ">i4", bool])
def test_arrays_of_every_number_type_are_read(kind):
    array = np.array([[1], [0], [1]]).astype(kind)
    assert gathered(dataset_from((array, [0, 1, 0]), modality="table")).tolist() == [[1], [0], [1]]


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"])
def test_tensors_of_types_that_pytorch_hardly_computes_with_are_read(kind):
    held = torch.tensor([[0, 1], [2, 3], [4, 0]]).to(getattr(torch, kind))
    data = dataset_from((held, held[:, 1], held[:, 0]), n_classes=4, modality="table")
    assert data.x.gather(torch.arange(3)).tolist() == [[0, 1], [2, 3], [4, 0]]
    assert (data.y.tolist(), data.z.tolist()) == ([1, 3, 0], [0, 2, 4])


def test_whole_numbers_beyond_int64_are_refused():
    held = torch.from_numpy(np.array([[2**63], [1]], dtype=np.uint64))
    with pytest.raises(DataError, match="larger than any int64"):
        dataset_from((held, torch.tensor([0, 1])), modality="table")


def test_read_only_and_strided_arrays_are_read():
    array = np.arange(12.0).reshape(6, 2)[::-1]
    array.flags.writeable = False
    assert gathered(dataset_from((array, Y)))[0].tolist() == [10, 11]


def test_vectors_of_labels_make_a_multilabel_task():
    data = dataset_from((X, torch.tensor([[1, 1]] * 6)))
    assert (data.task, data.n_classes, data.y.dtype) == ("multilabel", 2, torch.float32)


def test_string_labels_become_codes_in_sorted_order():
    data = dataset_from((X, np.array(["dog", "cat", "dog", "cat", "dog", "ant"])))
    assert data.y.tolist() == [2, 1, 2, 1, 2, 0]
    assert data.class_names == ("ant", "cat", "dog")


def test_the_number_of_classes_comes_from_the_caller_then_the_data_then_the_labels():
    samples = Samples([(x, 0) for x in X], n_classes=5, classes=list("abcde"))
    assert dataset_from(samples).n_classes == 5
    assert dataset_from(samples).class_names == tuple("abcde")
    assert dataset_from(samples, n_classes=7).n_classes == 7
    assert dataset_from((X, Y), n_classes=4).n_classes == 4


def broken(index):
    samples = [(x, 0) for x in X]

    class Broken(Samples):
        def __getitem__(self, i):
            if i == index:
                raise OSError("disk on fire")
            return samples[i]

    return Broken(samples)


GOOD = [(x, 0) for x in X]
BAD = [
    (Samples([*GOOD, (torch.zeros(4), 0)]), ["x of sample 6 is float32 of shape (4,)", "sample 0 is float32 of shape (3,)"]),
    (Samples([*GOOD, (X[0].double(), 0)]), ["x of sample 6 is float64"]),
    (Samples([*GOOD, (X[0], 0.5)]), ["the label of sample 6 is 0.5", "whole number"]),
    (Samples([*GOOD, (X[0], "cat")]), ["the label of sample 6 is the text 'cat'"]),
    (Samples([*GOOD, (X[0], [1, 0])]), ["the label of sample 6 has shape (2,)"]),
    (Samples([*GOOD, X[0]]), ["sample 6 is a Tensor", "pair (x, y)"]),
    (Samples([*GOOD, (X[0],)]), ["sample 6 is a tuple of 1"]),
    (Samples([*GOOD, (X[0], 0, 1)]), ["sample 6 has 3 parts"]),
    (Samples([*GOOD, (object(), 0)]), ["x of sample 6 is object", "transform"]),
    (Samples([*GOOD, ([[1], [1, 2]], 0)]), ["x of sample 6 is not a regular grid"]),
    (broken(4), ["sample 4 cannot be read: OSError: disk on fire"]),
    (Samples([]), ["is empty"]),
    (iter(GOOD), ["len() and [i]", "iterator"]),
    (42, ["found int"]),
    ((X, Y[:5]), ["x has 6 samples, but y has 5"]),
    ((X, Y, Y[:5]), ["z has 5"]),
    ((X,), ["(x, y) or (x, y, z), found 1"]),
    ((X, torch.tensor([0, 1, 0.5, 0, 0, 0])), ["label of sample 2 is 0.5"]),
    ((X, -Y), ["labels are out of range", "sample 1 has -1"]),
    ((X, Y * 100_000), ["hardly classes"]),
    ((X, Y.reshape(1, 6, 1).expand(6, 6, 1)), ["shape (N, K)"]),
    ((np.array([object()] * 6), Y), ["x is an array of object"]),
    ((torch.complex(X, X), Y), ["complex64", "real and imaginary"]),
    ((X.index_fill(0, torch.tensor([1, 4]), float("nan")), Y), ["column 0 (2)", "first samples: 1, 4"]),
    ((torch.full((6, 1, 2, 2), float("inf")), Y), ["6 samples have inputs that are NaN or infinite: 0, 1, 2, 3, 4, …"]),
    ((X, Y, torch.full((6,), 0.5)), ["z of sample 0 is 0.5"]),
]


@pytest.mark.parametrize(("data", "said"), BAD)
def test_data_that_cannot_be_used_is_refused_with_the_reason(data, said):
    with pytest.raises(DataError) as error:
        dataset_from(data)
    for words in said:
        assert words in str(error.value)


def test_labels_beyond_the_given_number_of_classes_are_refused():
    with pytest.raises(DataError, match="2 labels are out of range: sample 2 has 2, expected whole numbers from 0 to 1"):
        dataset_from((X, Y), n_classes=2)


def test_multilabel_targets_are_zero_or_one():
    with pytest.raises(DataError, match="expected 0 or 1"):
        dataset_from((X, torch.full((6, 2), 3)))


def test_columns_are_tensors_that_batches_can_view():
    assert isinstance(dataset_from((X, Y)).x, TensorColumn)
