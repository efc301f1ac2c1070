"""A poisoned source makes exactly the samples wrong that it says, and remembers the truth."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from erasure.component import canonical
from erasure.data.corruption import Backdoor, Mislabel, SwapClasses
from erasure.data.dataset import Dataset
from erasure.data.sources.poisoned import Poisoned
from erasure.data.sources.scikit_learn import Sklearn
from erasure.data.sources.synthetic import SyntheticImages, SyntheticTable
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import DataError, InvalidParameters, RequirementNotMet
from erasure.training.batches import TensorColumn
from erasure.training.randomness import Streams
from erasure.training.triggers import FeatureTrigger, PatchTrigger

IRIS, DIGITS = Sklearn(name="iris"), Sklearn(name="digits")
PATCH = PatchTrigger(size=2)


def poisoned(corruption, data_source=IRIS, seed=0):
    return Poisoned(data_source=data_source, corruption=corruption, seed=seed).load()


def a_table(labels, task="classification", n_classes=4):
    y = torch.as_tensor(labels)
    return Dataset(name="toy", x=TensorColumn(torch.rand(len(y), 3)), y=y, n_classes=n_classes, x_shape=(3,), task=task)


# Labels


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50), st.data())
def test_mislabelled_samples_have_another_label_and_all_others_their_own(labels, drawn):
    data = a_table(labels)
    n = drawn.draw(st.integers(1, len(labels)))
    wrong = Mislabel(n_samples=n).corrupt(data, Streams(drawn.draw(st.integers(0, 99))))
    assert int(wrong.corrupted.sum()) == n
    assert torch.equal(wrong.y != wrong.clean_y, wrong.corrupted)
    assert wrong.clean_y.tolist() == labels
    assert int(wrong.y.min()) >= 0
    assert int(wrong.y.max()) < 4


def test_wrong_labels_are_drawn_uniformly_from_the_other_classes():
    wrong = Mislabel(n_samples=6000).corrupt(a_table([1] * 6000), Streams(0))
    counts = torch.bincount(wrong.y, minlength=4)
    assert counts[1] == 0
    # Three equally likely classes: 2000 each, with a standard deviation of 36.5.
    assert ((counts[[0, 2, 3]] - 2000).abs() < 5 * 36.5).all()


def test_a_share_is_of_the_chosen_classes_and_no_others_are_touched():
    wrong = poisoned(Mislabel(percentage=0.3, labels=["setosa", 2]))
    assert int(wrong.corrupted.sum()) == 30
    assert set(wrong.clean_y[wrong.corrupted].tolist()) == {0, 2}


def test_the_labels_of_two_classes_are_swapped():
    wrong = poisoned(SwapClasses(first="versicolor", second=2, n_per_class=7))
    assert torch.bincount(wrong.y).tolist() == [50, 50, 50]
    assert torch.equal(wrong.y != wrong.clean_y, wrong.corrupted)
    assert wrong.y[wrong.corrupted & (wrong.clean_y == 1)].tolist() == [2] * 7
    assert wrong.y[wrong.corrupted & (wrong.clean_y == 2)].tolist() == [1] * 7


# Backdoors


@pytest.mark.parametrize("source", [DIGITS, SyntheticImages(n_samples=80)], ids=["digits", "synthetic"])
def test_a_backdoor_puts_patch_and_target_on_samples_of_other_classes(source):
    clean, wrong = source.load(), poisoned(Backdoor(trigger=PATCH, target=1, n_samples=20), source)
    chosen = wrong.corrupted
    assert int(chosen.sum()) == 20
    assert (wrong.y[chosen] == 1).all()
    assert (wrong.clean_y[chosen] != 1).all()
    assert torch.equal(wrong.x.values[~chosen], clean.x.values[~chosen])
    seen = wrong.x.gather(chosen.nonzero().flatten())
    assert (seen[..., -2:, -2:] == 1).all()
    assert torch.equal(seen[..., :-2, :], clean.x.gather(chosen.nonzero().flatten())[..., :-2, :])


def test_a_backdoor_without_wrong_labels_marks_samples_of_the_target():
    wrong = poisoned(Backdoor(trigger=PATCH, target=1, labels=1, percentage=0.5), DIGITS)
    assert torch.equal(wrong.y, wrong.clean_y)
    assert wrong.y[wrong.corrupted].unique().tolist() == [1]
    assert int(wrong.corrupted.sum()) == 91


def test_a_backdoor_of_a_table_sets_columns_by_name_or_number():
    trigger = FeatureTrigger(features=("petal width (cm)", 0), values=(9.0, -1.0))
    wrong = poisoned(Backdoor(trigger=trigger, target="virginica", n_samples=4))
    assert wrong.x.values[wrong.corrupted][:, [3, 0]].tolist() == [[9.0, -1.0]] * 4
    assert wrong.y[wrong.corrupted].tolist() == [2] * 4


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("top-left", slice(1, 3), slice(1, 3)),
        ("top-right", slice(1, 3), slice(5, 7)),
        ("bottom-left", slice(5, 7), slice(1, 3)),
        ("bottom-right", slice(5, 7), slice(5, 7)),
    ],
)
def test_a_patch_lies_in_its_corner_inside_its_margin(corner, rows, columns):
    image = TensorColumn(torch.zeros(2, 3, 8, 8))
    marked = PatchTrigger(size=2, margin=1, corner=corner, value=(0.25, 0.5, 1.0)).stamp(image).values
    expected = torch.zeros(2, 3, 8, 8)
    expected[:, :, rows, columns] = torch.tensor([0.25, 0.5, 1.0]).view(1, 3, 1, 1)
    assert torch.equal(marked, expected)
    assert not image.values.any()


# The source


def test_the_same_seed_corrupts_the_same_samples_and_another_seed_others():
    for corruption in (Mislabel(n_samples=9), SwapClasses(n_per_class=5), Backdoor(trigger=PATCH, n_samples=9)):
        first, again, other = (poisoned(corruption, DIGITS, seed) for seed in (4, 4, 5))
        assert torch.equal(first.y, again.y)
        assert torch.equal(first.corrupted, again.corrupted)
        assert torch.equal(first.x.values, again.x.values)
        assert not torch.equal(first.corrupted, other.corrupted)


def test_no_global_generator_is_used():
    state = torch.get_rng_state()
    poisoned(Mislabel(n_samples=9))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_inner_sources_data_is_not_changed():
    @dataclass(frozen=True, kw_only=True)
    class Same(Sklearn):
        def load(self):
            return clean

    clean = DIGITS.load()
    before = clean.x.values.clone(), clean.y.clone()
    poisoned(Backdoor(trigger=PATCH, n_samples=50), Same(name="digits"))
    assert torch.equal(clean.x.values, before[0])
    assert torch.equal(clean.y, before[1])


def test_corruptions_on_top_of_each_other_take_different_samples_and_keep_the_first_truth():
    inner = Poisoned(data_source=IRIS, corruption=Mislabel(n_samples=70))
    both = Poisoned(data_source=inner, corruption=Mislabel(n_samples=70)).load()
    assert int(both.corrupted.sum()) == 140
    assert torch.equal(both.clean_y, IRIS.load().y)
    assert torch.equal(both.y != both.clean_y, both.corrupted)
    assert both.name == "iris (mislabelled) (mislabelled)"


def test_the_address_changes_with_seed_corruption_and_inner_source():
    variants = [
        Poisoned(data_source=IRIS, corruption=Mislabel(n_samples=9)),
        Poisoned(data_source=IRIS, corruption=Mislabel(n_samples=9), seed=1),
        Poisoned(data_source=IRIS, corruption=Mislabel(n_samples=8)),
        Poisoned(data_source=DIGITS, corruption=Mislabel(n_samples=9)),
    ]
    assert len({json.dumps(canonical(each)) for each in variants}) == 4
    assert variants[0].fingerprint()["of"] == IRIS.fingerprint()


def test_the_truth_survives_being_stored(tmp_path):
    data = poisoned(Backdoor(trigger=PATCH, n_samples=9), DIGITS)
    tensors, facts = to_artifact(data)
    save_file(tensors, tmp_path / "data.safetensors")
    again = from_artifact(load_file(tmp_path / "data.safetensors"), json.loads(json.dumps(facts)))
    assert torch.equal(again.clean_y, data.clean_y)
    assert torch.equal(again.corrupted, data.corrupted)
    assert again.corrupted.dtype == torch.bool
    plain = from_artifact(*to_artifact(DIGITS.load()))
    assert plain.clean_y is None
    assert plain.corrupted is None


# Refusals


@pytest.mark.parametrize(
    ("corruption", "source", "message"),
    [
        (Mislabel(n_samples=151), IRIS, '151 samples of "iris" shall be corrupted, but there are 150'),
        (Mislabel(percentage=0.001), IRIS, "0 samples .* there are 150"),
        (Mislabel(n_samples=1, labels="setosas"), IRIS, 'did you mean "setosa"'),
        (SwapClasses(n_per_class=51), IRIS, "51 samples of class 0 .* has 50 of them"),
        (SwapClasses(first="setosa", second=0, n_per_class=1), IRIS, "same class"),
        (SwapClasses(second=7, n_per_class=1), IRIS, "no class 7; it has 3 classes"),
        (Backdoor(trigger=PATCH, n_samples=1), IRIS, r"needs images .* have shape \(4,\)"),
        (
            Backdoor(trigger=PatchTrigger(size=9), n_samples=1),
            DIGITS,
            "9 pixels with a margin of 0 does not fit into images of 8×8",
        ),
        (Backdoor(trigger=PatchTrigger(value=(1.0, 0.0)), n_samples=1), DIGITS, "2 values, the images have 1 channels"),
        (Backdoor(trigger=PatchTrigger(value=-1.0), n_samples=1), DIGITS, "-1 cannot be stored in inputs of type uint8"),
        (Backdoor(trigger=FeatureTrigger(features=(4,), values=(1,)), n_samples=1), IRIS, "no column 4; the inputs have 4"),
        (Backdoor(trigger=FeatureTrigger(features=("petal",), values=(1,)), n_samples=1), IRIS, 'no column "petal"'),
        (Backdoor(trigger=FeatureTrigger(features=(0,), values=(1,)), n_samples=1), DIGITS, "a PatchTrigger may fit"),
        (Backdoor(trigger=PATCH, n_samples=1700), DIGITS, "there are 1619 to choose from"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_with_what_there_is(corruption, source, message):
    with pytest.raises(DataError, match=message):
        poisoned(corruption, source)


def test_samples_with_several_labels_are_refused():
    data = replace(a_table(torch.ones(5, 4)), task="multilabel")
    for corruption in (Mislabel(n_samples=1), SwapClasses(n_per_class=1), Backdoor(trigger=PATCH, n_samples=1)):
        with pytest.raises(DataError, match="several labels each"):
            corruption.corrupt(data, Streams(0))


@dataclass(frozen=True, eq=False)
class Words:
    """Inputs that are not one tensor."""

    texts: tuple[str, ...]

    def __len__(self):
        return len(self.texts)

    def gather(self, ids):
        return [self.texts[i] for i in ids]

    def to(self, device):
        return self


def test_labels_of_any_inputs_can_be_wrong_but_triggers_need_a_tensor():
    data = replace(a_table([0, 1, 2, 3]), x=Words(("a", "b", "c", "d")), modality="text")
    wrong = Mislabel(n_samples=2).corrupt(data, Streams(0))
    assert wrong.x is data.x
    assert int((wrong.y != data.y).sum()) == 2
    with pytest.raises(DataError, match="are a Words; a trigger needs them in one tensor"):
        Backdoor(trigger=PATCH, n_samples=1).corrupt(data, Streams(0))


@given(st.integers(1, 5), st.integers(0, 2), st.sampled_from(["top-left", "top-right", "bottom-left", "bottom-right"]))
def test_a_trigger_put_on_twice_is_the_same_as_once_and_covers_its_area_only(size, margin, corner):
    image = TensorColumn(torch.randint(0, 9, (2, 1, 7, 7), dtype=torch.uint8), scale=0.1)
    trigger = PatchTrigger(size=size, margin=margin, corner=corner, value=2.5)
    once = trigger.stamp(image)
    assert torch.equal(trigger.stamp(once).values, once.values)
    assert (once.values != image.values).sum(dim=(1, 2, 3)).tolist() == [size * size] * 2
    assert once.values.max() == 25


def test_one_size_must_be_given():
    for sizes in ({}, {"n_samples": 3, "percentage": 0.1}):
        with pytest.raises(InvalidParameters, match="either n_samples or percentage"):
            Mislabel(**sizes)
    with pytest.raises(InvalidParameters, match="1 values for 2 features"):
        FeatureTrigger(features=(0, 1), values=(1.0,))
    with pytest.raises(InvalidParameters, match="listed twice"):
        FeatureTrigger(features=(1, 1), values=(1.0, 2.0))


def test_a_table_of_whole_numbers_takes_no_fractions():
    column = TensorColumn(torch.zeros(3, 2, dtype=torch.int64))
    assert FeatureTrigger(features=(1,), values=(5,)).stamp(column).values[:, 1].tolist() == [5, 5, 5]
    with pytest.raises(RequirementNotMet, match=r"0\.5 cannot be stored in inputs of type int64"):
        FeatureTrigger(features=(1,), values=(0.5,)).stamp(column)


def test_mislabelled_synthetic_groups_keep_their_z():
    source = SyntheticTable(n_samples=100, n_groups=3)
    assert torch.equal(poisoned(Mislabel(n_samples=5), source).z, source.load().z)
