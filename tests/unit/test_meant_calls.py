"""Generated calls of ``erasure.unlearn``: in whatever form samples and labels are held, the answer is that of plain tensors, or one error
of our own says why not."""

import functools
import itertools
import os
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import erasure
from erasure.errors import ErasureError

N_EXAMPLES = int(os.environ.get("ERASURE_PROPERTY_EXAMPLES", "60"))
NAMES = ("ant", "Bee", "a cat", "ü")
N, WIDTH = 14, 3
DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "int32", "uint16", "uint8", "bool")
LABELS = {
    "int64": lambda codes, k: torch.tensor(codes),
    "int8": lambda codes, k: np.array(codes, dtype=np.int8),
    "uint16": lambda codes, k: np.array(codes, dtype=np.uint16),
    "fractions": lambda codes, k: np.array(codes, dtype=np.float64),
    "list": lambda codes, k: list(codes),
    "truth values": lambda codes, k: np.array(codes, dtype=bool) if k == 2 else np.array(codes),
    "column": lambda codes, k: torch.tensor(codes)[:, None],
    "one-hot": lambda codes, k: nn.functional.one_hot(torch.tensor(codes), k),
    "one-hot fractions": lambda codes, k: nn.functional.one_hot(torch.tensor(codes), k).float(),
    "texts": lambda codes, k: np.array([sorted(NAMES)[code] for code in codes]),
    "objects": lambda codes, k: np.array([sorted(NAMES)[code] for code in codes], dtype=object),
    "from one": lambda codes, k: torch.tensor(codes) + 1,
    "categories": lambda codes, k: pd.Series(pd.Categorical([sorted(NAMES)[code] for code in codes])),
}
"""How the classes 0, 1, 2, … are held."""


def rows(x, y, key):
    return [{key: x[i], "label": y[i]} for i in range(len(x))]


def hugging_face(x, y):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({"features": np.asarray(x).tolist(), "label": [one(each) for each in y]})


def one(label):
    return label.tolist() if isinstance(label, torch.Tensor | np.ndarray | np.generic) else label


SOURCES = {
    "columns": lambda x, y: (x, y),
    "arrays": lambda x, y: (np.asarray(x), np.asarray(y)),
    "triples": lambda x, y: (x, y, np.arange(len(x)) % 2),
    "tensor data set": lambda x, y: TensorDataset(x, torch.as_tensor(y)),
    "loader": lambda x, y: DataLoader(TensorDataset(x, torch.as_tensor(y)), batch_size=5, shuffle=True),
    "pairs": lambda x, y: [(x[i], y[i]) for i in range(len(x))],
    "rows": lambda x, y: rows(x, y, "x"),
    "named columns": lambda x, y: {"inputs": x, "labels": y},
    "data frame": lambda x, y: (pd.DataFrame(np.asarray(x), columns=list("abc")), pd.Series(list(map(one, y)))),
    "hugging face": hugging_face,
}


def samples(n_classes, seed):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 2, (N, WIDTH))  # of every type without rounding
    codes = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, N - n_classes)])
    return torch.from_numpy(x), generator.permutation(codes).tolist()


def network(n_classes):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Linear(WIDTH, n_classes)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


PARTITIONS = {
    "a class": lambda codes, which: [i for i, code in enumerate(codes) if code == codes[which]],
    "one sample": lambda codes, which: [which],
    "every third": lambda codes, which: list(range(which % 3, len(codes), 3)),
    "all but one": lambda codes, which: [i for i in range(len(codes)) if i != which],
}
"""Which samples are to be forgotten."""


def of_parts(form, x, y, chosen):
    """What is to be forgotten, and what is not."""
    parts = []
    for ids in (chosen, [i for i in range(len(x)) if i not in chosen]):
        held = (
            [y[i] for i in ids]
            if isinstance(y, list)
            else y.iloc[ids].reset_index(drop=True)
            if isinstance(y, pd.Series)
            else y[ids]
        )
        parts.append(form(x[ids], held))
    return parts


@functools.cache
def plain(n_classes, seed, partition):
    x, codes = samples(n_classes, seed)
    chosen = PARTITIONS[partition](codes, seed % N)
    forget, retain = of_parts(SOURCES["columns"], x.float(), torch.tensor(codes), chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return weights(erasure.unlearn(network(n_classes), "NegGrad+", forget=forget, retain=retain, epochs=2))


def asked(dtype, form, source, partition, n_classes, seed):
    """The answer, and what was said; None where the call was refused."""
    x, codes = samples(n_classes, seed)
    chosen = PARTITIONS[partition](codes, seed % N)
    held = x.to(getattr(torch, dtype))
    if source in {"arrays", "data frame", "hugging face"} and dtype in {"bfloat16", "float8_e4m3fn"}:
        held = held.float()  # numpy has no such type
    labels = LABELS[form](codes, n_classes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            forget, retain = of_parts(SOURCES[source], held, labels, chosen)
        except (TypeError, ValueError):
            return None  # torch or numpy has no such data set
        model = network(n_classes)
        before = weights(model)
        try:
            made = erasure.unlearn(model, "NegGrad+", forget=forget, retain=retain, epochs=2)
        except ErasureError as error:
            assert len(str(error)) > 20
            return None
        finally:
            assert torch.equal(weights(model), before)
    return weights(made), [str(each.message) for each in said]


def check(dtype, form, source, partition, n_classes, seed):
    answer = asked(dtype, form, source, partition, n_classes, seed)
    if answer is None:
        # Common forms are no cause to refuse.
        assert not (dtype in {"float32", "float64"} and form in {"int64", "int8", "list"} and source != "tensor data set"), (
            form,
            source,
        )
        return
    found, said = answer
    assert torch.equal(found, plain(n_classes, seed, partition)), (dtype, form, source, partition, said)
    if form.startswith("one-hot"):
        assert any("one" in text and "class" in text for text in said)


CALLS = {
    "dtype": st.sampled_from(DTYPES),
    "form": st.sampled_from(sorted(LABELS)),
    "source": st.sampled_from(sorted(SOURCES)),
    "partition": st.sampled_from(sorted(PARTITIONS)),
    "n_classes": st.integers(2, 4),
    "seed": st.integers(0, 20),
}
FOUND = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@settings(FOUND, max_examples=N_EXAMPLES)
@given(**CALLS)
def test_every_form_gives_the_answer_of_plain_tensors(dtype, form, source, partition, n_classes, seed):
    check(dtype, form, source, partition, n_classes, seed)


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_pair_of_forms_gives_the_answer_of_plain_tensors(source):
    """Each source meets every type and every form of labels, and each of these every other at two sources or more."""
    for (i, dtype), (j, form) in itertools.product(enumerate(DTYPES), enumerate(LABELS)):
        number = i + j + sorted(SOURCES).index(source)
        if number % 4 == 0:
            check(dtype, form, source, "a class", 2 + number // 4 % 2, number)


@pytest.mark.nightly
@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_combination_gives_the_answer_of_plain_tensors(source):
    for dtype, form, n_classes in itertools.product(DTYPES, LABELS, (2, 3)):
        check(dtype, form, source, "a class", n_classes, n_classes)
