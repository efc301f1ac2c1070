"""What every preprocess step keeps to: the given columns stay as they are, and a sample's result does not depend on where it stands."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from erasure.catalogue import BUILTINS
from erasure.component import canonical
from erasure.config.slots import SLOTS
from erasure.data.preprocess.finish import finished
from erasure.data.preprocess.samples import Field, Samples, objects
from erasure.data.preprocess.tokenizers import Words
from erasure.errors import DataError
from erasure.registry.lookup import Registry
from erasure.testing.data import StepConformance
from erasure.training.batches import TensorColumn

N = 12
CHOICE = np.random.default_rng(0)
WORDS = np.array(["red rock", "blue pop", "$3", "12", "Good day", "a b c"], dtype=object)
PICTURES = torch.arange(N * 12, dtype=torch.uint8).reshape(N, 3, 2, 2)


def doubled(x, y, z):
    return {name: value if isinstance(value, str) else 2 * value for name, value in x.items()}, y, f"{z}!"


def samples(**changes):
    given = {
        "name": "all sorts",
        "x": {
            "word": Field(WORDS[CHOICE.integers(6, size=N)]),
            "other": Field(WORDS[CHOICE.integers(6, size=N)]),
            "number": Field(CHOICE.normal(size=N)),
        },
        "y": {"label": Field(CHOICE.integers(3, size=N)), "second": Field(CHOICE.integers(2, size=N))},
        "z": {"group": Field(WORDS[CHOICE.integers(6, size=N)])},
    }
    return Samples(**given | changes)


LISTS = {"list": Field(objects([str(list(range(1 + i % 4))) for i in range(N)]))}
EVEN = {"list": Field(objects([[i, i + 1] for i in range(N)]))}
BITS = {"attributes": Field(CHOICE.integers(2, size=(N, 5))), "identity": Field(CHOICE.integers(4, size=N))}

EXAMPLES = {
    "Encode": ({"x": True, "y": True, "z": True}, samples()),
    "RemoveCharacter": ({"character": "$", "x": True, "z": True}, samples()),
    "Add": ({"add": 1, "x": True, "y": True, "columns": "number"}, samples()),
    "ParseLists": ({"max_length": 3, "x": True}, samples(x=LISTS)),
    "ListToTensor": ({"x": True, "y": True}, samples(x=EVEN)),
    "MoveInputs": ({"move": "other"}, samples()),
    "MoveLabels": ({"keep": 0, "move": 1}, samples()),
    "PickLabels": ({"keep": [0, 3], "move": [1]}, samples(y=BITS)),
    "CopyLabels": ({}, samples()),
    "JoinColumns": ({"columns": [1, 0]}, samples()),
    "ContainsText": ({"contains": ["o"]}, samples()),
    "MatchPatterns": ({"patterns": ["^[a-z]", "o"]}, samples()),
    "Tokenize": ({"tokenizer": Words(max_length=3, vocabulary_size=60)}, samples()),
    "ImageToTensor": ({}, samples(x=TensorColumn(PICTURES), modality="image")),
    "CoarseClasses": ({}, samples(y={"fine": Field(CHOICE.integers(100, size=N))})),
    "CelebALabels": ({"columns": [4, 1]}, samples(y=BITS, z={})),
    "PerSample": ({"function": doubled}, samples()),
}


def made(name):
    parameters, given = EXAMPLES[name]
    return Registry().resolve(name, SLOTS["step"]()).cls(**parameters), given


def arrays(given):
    """Every column of samples by part and name, as lists, with what the codes stand for."""
    found = {}
    for part in ("x", "y", "z"):
        fields = getattr(given, part)
        if not isinstance(fields, Mapping):
            fields = {"": Field(fields.gather(torch.arange(N)).numpy())}
        found |= {f"{part}.{name}": (each.values.tolist(), each.names, str(each.values.dtype)) for name, each in fields.items()}
    return found


def reordered(given, order):
    def moved(fields):
        return {name: replace(each, values=each.values[order]) for name, each in fields.items()}

    x = moved(given.x) if isinstance(given.x, Mapping) else replace(given.x, values=given.x.values[torch.from_numpy(order)])
    return replace(given, x=x, y=moved(given.y), z=moved(given.z))


@pytest.mark.parametrize("name", BUILTINS["step"])
def test_every_step_leaves_what_it_is_given_and_does_the_same_every_time(name):
    step, given = made(name)
    before = arrays(given)
    first = arrays(step.apply(given))
    assert arrays(given) == before
    assert arrays(step.apply(given)) == first
    assert first != before or name == "ImageToTensor"  # whose bytes are scaled when they are read
    assert canonical(step.replace()) == canonical(step)


@pytest.mark.parametrize("name", BUILTINS["step"])
def test_the_result_of_a_sample_does_not_depend_on_the_order_of_the_samples(name):
    step, given = made(name)
    order = np.random.default_rng(1).permutation(N)
    assert arrays(step.apply(reordered(given, order))) == arrays(reordered(step.apply(given), order))


@pytest.mark.parametrize("name", BUILTINS["step"])
def test_what_a_step_gives_is_a_data_set_or_one_clear_error(name):
    step, given = made(name)
    try:
        data = finished(step.apply(given))
    except DataError as error:
        assert any(word in str(error) for word in ("Encode", "MoveLabels"))
    else:
        assert len(data) == N
        assert bool(torch.isfinite(data.x.gather(torch.arange(N)).float()).all())


@pytest.mark.parametrize("check", [name for name in dir(StepConformance) if name.startswith("test_")])
@pytest.mark.parametrize("name", BUILTINS["step"])
def test_every_step_keeps_to_the_suite_that_authors_inherit(name, check):
    step, given = made(name)
    suite = type("Suite", (StepConformance,), {"make": lambda self: step, "samples": lambda self: given})()
    getattr(suite, check)()
