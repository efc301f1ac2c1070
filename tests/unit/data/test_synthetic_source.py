"""Synthetic data has the structure it says, marks its unusual samples, and each knob turns one thing."""

import numpy as np
import pytest
import torch

from erasure.data.partitions import build_partitions
from erasure.data.sources.scikit_learn import Sklearn
from erasure.data.sources.synthetic import SyntheticImages, SyntheticTable
from erasure.data.splitters import ByZSplitter
from erasure.errors import InvalidParameters

BOTH = pytest.mark.parametrize("source", [SyntheticTable(), SyntheticImages()], ids=["table", "images"])


def columns(data):
    return data.x.gather(torch.arange(len(data))).flatten(1), data.y, data.z


@BOTH
def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(source):
    assert torch.equal(source.load().x.values, source.load().x.values)
    assert not torch.equal(source.load().x.values, source.replace(seed=1).load().x.values)


@BOTH
def test_class_sizes_follow_the_balance(source):
    data = source.replace(n_samples=1001, n_classes=3, class_balance=(8, 1, 1)).load()
    counts = torch.bincount(data.y).tolist()
    assert sum(counts) == 1001
    assert counts == [799, 101, 101]
    assert data.class_names == ("class 0", "class 1", "class 2")


@BOTH
def test_every_class_has_a_sample_however_rare_it_is(source):
    data = source.replace(n_samples=10, n_classes=3, class_balance=(1000.0, 1.0, 1.0)).load()
    assert torch.bincount(data.y).tolist() == [8, 1, 1]


@BOTH
def test_atypical_and_mislabelled_samples_are_marked_and_can_be_forgotten_by_name(source):
    data = source.replace(n_samples=500, memorisation=0.1, label_noise=0.04, n_groups=3).load()
    splitters = [ByZSplitter(parts_names=(name, "-"), z_labels=name) for name in ("atypical", "mislabelled", "group 2")]
    sizes = {name: len(ids) for name, ids in build_partitions(data, splitters, seed=0).items()}
    assert (sizes["atypical"], sizes["mislabelled"]) == (50, 20)
    assert 100 < sizes["group 2"] < 240


def test_label_noise_changes_labels_and_nothing_else():
    clean, noisy = SyntheticTable().load(), SyntheticTable(label_noise=0.1).load()
    marked = noisy.z[:, 1] == noisy.z_names.index("mislabelled")
    assert torch.equal(clean.x.values, noisy.x.values)
    assert torch.equal(clean.y != noisy.y, marked)
    assert marked.sum() == 100


@pytest.mark.parametrize(
    "source", [SyntheticTable(n_features=30, memorisation=0.1), SyntheticImages(n_classes=2, memorisation=0.1)]
)
def test_only_a_model_that_saw_them_can_label_atypical_samples(source):
    from sklearn.neighbors import KNeighborsClassifier

    x, y, z = columns(source.replace(n_samples=1000).load())
    atypical = z[:, 1] == 2
    train = torch.arange(1000) < 700
    model = KNeighborsClassifier(1).fit(x[train].numpy(), y[train].numpy())
    right = torch.from_numpy(model.predict(x.numpy())) == y
    assert right[~train & ~atypical].float().mean() > 0.8
    assert right[~train & atypical].float().mean() < 0.4
    assert right[train & atypical].all()


def test_class_centres_are_as_far_apart_as_said():
    x, y, _ = columns(SyntheticTable(n_samples=20_000, n_classes=3, separation=6.0).load())
    centres = torch.stack([x[y == k].mean(0) for k in range(3)])
    assert torch.pdist(centres) == pytest.approx([6.0] * 3, abs=0.15)


def test_groups_are_shifted_as_far_as_said():
    x, _, z = columns(SyntheticTable(n_samples=20_000, n_groups=2, group_shift=3.0, separation=0.01).load())
    offsets = torch.stack([x[z[:, 0] == g].mean(0) for g in range(2)])
    assert offsets.norm(dim=1) == pytest.approx([3.0, 3.0], abs=0.15)


def test_more_classes_than_features_are_possible():
    assert SyntheticTable(n_features=1, n_classes=5).load().x_shape == (1,)


def test_images_are_stored_in_eight_bits_and_arrive_between_zero_and_one():
    data = SyntheticImages(n_channels=3, image_size=5, n_groups=4, group_shift=2.0, memorisation=0.2).load()
    assert data.x.values.dtype == torch.uint8
    assert data.x_shape == (3, 5, 5)
    x, _, z = columns(data)
    assert 0 <= x.min() < x.max() <= 1
    brightness = [float(x[z[:, 0] == g].mean()) for g in range(4)]
    assert brightness == sorted(brightness)
    assert np.ptp(brightness) > 0.4


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"class_balance": (1, 2, 3)}, "3 weights for 2 classes"),
        ({"n_samples": 1}, "1 samples cannot show 2 classes"),
        ({"memorisation": 0.7, "label_noise": 0.4}, "more than all samples"),
        ({"n_classes": 1}, "greater than or equal to 2"),
        ({"label_noise": 1.5}, "less than or equal to 1"),
    ],
)
def test_impossible_parameters_are_refused(parameters, said):
    with pytest.raises(InvalidParameters, match=said):
        SyntheticTable(**parameters)


SHIPPED = [("digits", 1797, (1, 8, 8), 10), ("breast_cancer", 569, (30,), 2), ("iris", 150, (4,), 3), ("wine", 178, (13,), 3)]


@pytest.mark.parametrize(("name", "n_samples", "shape", "n_classes"), SHIPPED)
def test_shipped_data_sets_are_loaded_as_they_are(name, n_samples, shape, n_classes):
    from sklearn import datasets

    data = Sklearn(name=name).load()
    assert (len(data), data.x_shape, data.n_classes, len(data.class_names)) == (n_samples, shape, n_classes, n_classes)
    expected_x, expected_y = getattr(datasets, f"load_{name}")(return_X_y=True)
    factor = 16 if name == "digits" else 1
    x, y, _ = columns(data)
    assert np.allclose(factor * x.numpy(), expected_x, rtol=1e-6)
    assert y.tolist() == expected_y.tolist()


def test_an_unknown_shipped_data_set_lists_the_known_ones():
    with pytest.raises(InvalidParameters, match='"digits", "breast_cancer", "iris" or "wine"'):
        Sklearn(name="mnist")


def test_fingerprints_name_the_library_that_the_content_depends_on():
    assert list(Sklearn(name="iris").fingerprint()) == ["scikit-learn"]
    assert list(SyntheticTable().fingerprint()) == ["numpy"]
