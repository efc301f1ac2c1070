"""The source for torchvision's data sets reads real and generated files as the library does, and says clearly what is missing."""

import gzip
import hashlib
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")
from PIL import Image

from erasure.component import canonical
from erasure.data.preprocess.images import CelebALabels, CoarseClasses
from erasure.data.preprocess.moving import MoveLabels, PickLabels
from erasure.data.reading.images import recipe
from erasure.data.reading.torchvision_labels import CIFAR100_COARSE
from erasure.data.sources.preprocessed import Preprocessed
from erasure.data.sources.torchvision_dataset import TorchVision
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import DataError, InvalidParameters, MissingDependency
from erasure.training.batches import Batches
from erasure.training.torchvision_operators import torchvision

TEST_DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))

COARSE_OF_FINE = (
    "4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17 18 10 "
    "16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13"
)


@pytest.fixture(scope="module")
def datasets():
    return torchvision("datasets", "a test")


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + b"".join(int(side).to_bytes(4, "big") for side in values.shape) + values.tobytes()


def write_mnist(root, n_train=5, n_test=3, called="MNIST"):
    generator = np.random.default_rng(0)
    folder = root / called / "raw"
    folder.mkdir(parents=True)
    for part, size in (("train", n_train), ("t10k", n_test)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(generator.integers(0, 256, (size, 28, 28), dtype=np.uint8)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx((np.arange(size) % 10).astype(np.uint8)))
    return folder


@pytest.fixture
def mnist(tmp_path):
    write_mnist(tmp_path)
    return tmp_path


def picture(seed, size=(6, 5), mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Three cats and two dogs."""
    for number in range(5):
        place = tmp_path / ("cat" if number < 3 else "dog")
        place.mkdir(exist_ok=True)
        picture(number).save(place / f"{number}.png")
    return tmp_path


# Real files


def test_fashion_mnist_is_read_as_it_is(tmp_path, datasets):
    packed = TEST_DATA / "images" / "fashion-mnist"
    if not packed.exists():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {packed}")
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in packed.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    data = TorchVision(dataset="FashionMNIST", root=str(tmp_path)).load()
    assert (len(data), data.x_shape, data.n_classes, data.modality) == (70_000, (1, 28, 28), 10, "image")
    assert data.x.values.dtype == torch.uint8
    assert data.y[:60_000].bincount().tolist() == [6_000] * 10
    assert data.y[60_000:].bincount().tolist() == [1_000] * 10
    assert (data.z_names, data.z.bincount().tolist()) == (("train", "test"), [60_000, 10_000])
    assert data.class_names[9] == "Ankle boot"
    published = datasets.FashionMNIST(str(tmp_path), train=False)
    ids = torch.tensor([60_000, 69_999])
    expected = torch.stack([torch.from_numpy(np.array(published[i][0])).float() / 255 for i in (0, 9_999)])
    assert torch.allclose(data.x.gather(ids)[:, 0], expected)
    assert data.y[ids].tolist() == [published[0][1], published[9_999][1]]


# What is read


def test_parts_are_one_below_the_other_and_called_by_name(mnist):
    data = TorchVision(dataset="torchvision.datasets.MNIST", root=str(mnist)).load()
    assert data.y.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert (data.z.tolist(), data.z_names, data.name) == ([0] * 5 + [1] * 3, ("train", "test"), "MNIST")


@pytest.mark.parametrize("choice", [{"parts": ["test"]}, {"parameters": {"train": False}}])
def test_one_part_alone_has_no_groups(mnist, choice):
    data = TorchVision(dataset="MNIST", root=str(mnist), **choice).load()
    assert (len(data), data.z) == (3, None)


def test_one_part_may_still_be_asked_for_as_the_group(mnist):
    data = TorchVision(dataset="MNIST", root=str(mnist), parts="test", z="part").load()
    assert (data.z.tolist(), data.z_names) == ([0, 0, 0], ("test",))


def test_the_array_and_the_picture_by_picture_reading_agree(mnist):
    whole = TorchVision(dataset="MNIST", root=str(mnist)).load()
    singly = TorchVision(dataset="MNIST", root=str(mnist), transforms=["Resize((28, 28))"]).load()
    assert torch.equal(whole.x.values, singly.x.values)


def test_transforms_give_what_torchvision_gives(mnist, datasets):
    t = torchvision("transforms", "a test")
    theirs = t.Compose(
        [t.Resize((40, 36)), t.CenterCrop(31), t.Grayscale(3), t.ToTensor(), t.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])]
    )
    texts = [
        "transforms.Resize((40, 36))",
        "CenterCrop(31)",
        "Grayscale(num_output_channels=3)",
        "ToTensor",
        "Normalize(mean=[0.1, 0.2, 0.3], std=(0.5, 0.6, 0.7))",
    ]
    data = TorchVision(dataset="MNIST", root=str(mnist), transforms=texts).load()
    published = datasets.MNIST(str(mnist), train=True, transform=theirs)
    expected = torch.stack([published[i][0] for i in range(5)])
    assert data.x_shape == (3, 31, 31)
    assert torch.allclose(data.x.gather(torch.arange(5)), expected, atol=1e-6)


@pytest.mark.parametrize("size", [7, 23, (9, 30), (30, 9)])
@pytest.mark.parametrize("shape", [(13, 17), (17, 13), (12, 12)])
def test_resize_is_torchvisions(size, shape):
    t = torchvision("transforms", "a test")
    given = picture(1, shape)
    (step,) = recipe([f"Resize({size})"]).steps
    assert np.array_equal(np.array(step(given)), np.array(t.Resize(size)(given)))


def test_mean_and_std_are_a_normalize(mnist):
    ids = torch.arange(8)
    fields = TorchVision(dataset="MNIST", root=str(mnist), mean=[0.25], std=[0.5]).load()
    text = TorchVision(dataset="MNIST", root=str(mnist), transforms=["ToTensor()", "Normalize((0.25,), (0.5,))"]).load()
    assert torch.equal(fields.x.gather(ids), text.x.gather(ids))
    assert torch.allclose(fields.x.gather(ids), (fields.x.values / 255 - 0.25) / 0.5)


def test_an_image_folder_is_a_data_set(folder, tmp_path):
    data = TorchVision(dataset="ImageFolder", root=str(folder)).load()
    assert (data.y.tolist(), data.class_names, data.z) == ([0, 0, 0, 1, 1], ("cat", "dog"), None)
    assert torch.equal(data.x.values[3], torch.from_numpy(np.array(picture(3))).permute(2, 0, 1))
    assert TorchVision(dataset="ImageFolder", root=str(folder), channels=1).load().x_shape == (1, 5, 6)


def test_stored_and_loaded_again(mnist):
    data = TorchVision(dataset="MNIST", root=str(mnist), mean=[0.1], std=[0.3]).load()
    again = from_artifact(*to_artifact(data))
    ids = torch.arange(8)
    assert torch.equal(data.x.gather(ids), again.x.gather(ids))
    assert (again.z_names, again.x_shape) == (data.z_names, data.x_shape)


def test_batches_are_scaled(mnist):
    data = TorchVision(dataset="MNIST", root=str(mnist)).load()
    (batch,) = Batches(data.x, data.y, torch.arange(8), 8)
    assert batch.x.dtype == torch.float32
    assert 0 <= float(batch.x.min()) < float(batch.x.max()) <= 1


def test_generated_pictures_need_no_files(tmp_path):
    source = TorchVision(
        dataset="FakeData", root=str(tmp_path), parameters={"size": 6, "image_size": [3, 4, 5], "num_classes": 3}
    )
    assert source.fingerprint()["files"] is None
    state = torch.random.get_rng_state()
    data = source.load()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (len(data), data.x_shape) == (6, (3, 4, 5))
    assert torch.equal(source.load().x.values, data.x.values)


def test_pictures_that_are_drawn_are_drawn_one_at_a_time(tmp_path):
    fake = torchvision("datasets", "a test").FakeData
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns so often that they would disturb one another's draws
    try:
        drawn = TorchVision(dataset="FakeData", root=str(tmp_path), parameters={"size": 600, "image_size": [3, 8, 8]}).load()
    finally:
        sys.setswitchinterval(interval)
    alone = fake(size=600, image_size=(3, 8, 8))
    assert all(torch.equal(drawn.x.values[i], torch.tensor(np.array(alone[i][0])).permute(2, 0, 1)) for i in range(600))


def test_parts_of_other_names_and_classes_beside_the_files_are_found(tmp_path, datasets):
    classes = sorted(datasets.Imagenette._WNID_TO_CLASS)
    for part, size in (("train", 2), ("val", 1)):
        for number, name in enumerate(classes):
            (tmp_path / "imagenette2" / part / name).mkdir(parents=True)
            for i in range(size):
                picture(10 * number + i).save(tmp_path / "imagenette2" / part / name / f"{i}.JPEG")
    data = TorchVision(dataset="Imagenette", root=str(tmp_path)).load()
    assert (len(data), data.z_names, data.y.bincount().tolist()) == (30, ("train", "val"), [3] * 10)
    assert data.class_names[0] == "tench, Tinca tinca"


# CIFAR-100 and CelebA


def test_the_coarse_classes_of_cifar100_are_the_published_ones():
    fine = sorted((name, number) for number, each in enumerate(CIFAR100_COARSE.values()) for name in each.split())
    assert [number for _, number in fine] == [int(each) for each in COARSE_OF_FINE.split()]


@pytest.fixture
def cifar100(tmp_path, monkeypatch, datasets):
    """Files in CIFAR-100's layout, whose checksums the library is told."""
    place = tmp_path / "cifar-100-python"
    place.mkdir()
    names = sorted(name for each in CIFAR100_COARSE.values() for name in each.split())
    sums = {}
    for called, content in {
        "train": {"data": np.arange(4 * 3072, dtype=np.uint8).reshape(4, 3072), "fine_labels": [4, 1, 54, 0]},
        "test": {"data": np.zeros((2, 3072), dtype=np.uint8), "fine_labels": [99, 98]},
        "meta": {"fine_label_names": names},
    }.items():
        (place / called).write_bytes(pickle.dumps(content))
        sums[called] = hashlib.md5((place / called).read_bytes()).hexdigest()
    for part in ("train", "test"):
        monkeypatch.setattr(datasets.CIFAR100, f"{part}_list", [[part, sums[part]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": sums["meta"]})
    return tmp_path


def test_cifar100_has_coarse_classes(cifar100):
    data = TorchVision(dataset="CIFAR100", root=str(cifar100), label="coarse", z="class").load()
    assert data.y.tolist() == [0, 1, 2, 4, 13, 14]  # beaver, aquarium_fish, orchid, apple, worm, woman
    assert (data.n_classes, data.class_names[14]) == (20, "people")
    assert ([data.z_names[code] for code in data.z], data.x_shape) == (
        ["beaver", "aquarium_fish", "orchid", "apple", "worm", "woman"],
        (3, 32, 32),
    )
    assert data.x.values[0, 2].flatten().tolist() == [(2048 + k) % 256 for k in range(1024)]


def test_several_groups_never_share_a_code(cifar100):
    data = TorchVision(dataset="CIFAR100", root=str(cifar100), z=["part", "coarse"]).load()
    assert data.n_classes == 100
    assert data.z.shape == (6, 2)
    assert not set(data.z[:, 0].tolist()) & set(data.z[:, 1].tolist())
    assert [data.z_names[code] for code in data.z[0]] == ["part=train", "coarse=aquatic_mammals"]


def test_a_step_makes_coarse_classes_of_fine_ones(cifar100):
    source = TorchVision(dataset="CIFAR100", root=str(cifar100))
    data = Preprocessed(data_source=source, steps=[CoarseClasses()]).load()
    plain = TorchVision(dataset="CIFAR100", root=str(cifar100), label="coarse", z="class").load()
    assert torch.equal(data.y, plain.y)
    assert torch.equal(data.z, plain.z)
    assert (data.class_names, data.z_names, data.n_classes) == (plain.class_names, plain.z_names, 20)
    assert torch.equal(data.x.values, plain.x.values)


@pytest.fixture
def celeba(tmp_path, monkeypatch, datasets):
    place = tmp_path / "celeba"
    (place / "img_align_celeba").mkdir(parents=True)
    files = [f"{i}.jpg" for i in range(6)]
    for i, file in enumerate(files):
        picture(i).save(place / "img_align_celeba" / file)
    marks = [(1, -1), (-1, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
    tables = {
        "identity_CelebA.txt": [f"{file} {identity}" for file, identity in zip(files, (7, 7, 3, 3, 9, 9), strict=True)],
        "list_attr_celeba.txt": [
            "6",
            "Smiling Male",
            *(f"{file} {a:2d} {b:2d}" for file, (a, b) in zip(files, marks, strict=True)),
        ],
        "list_bbox_celeba.txt": ["6", "image_id a", *(f"{file} 1" for file in files)],
        "list_landmarks_align_celeba.txt": ["6", "a", *(f"{file} 1" for file in files)],
        "list_eval_partition.txt": [f"{file} {part}" for file, part in zip(files, (0, 0, 1, 1, 2, 2), strict=True)],
    }
    for name, lines in tables.items():
        (place / name).write_text("\n".join(lines) + "\n")
    sums = [("", hashlib.md5((place / name).read_bytes()).hexdigest(), name) for name in tables]
    monkeypatch.setattr(datasets.CelebA, "file_list", sums)
    return tmp_path


def test_celeba_has_attributes_and_identities(celeba):
    data = TorchVision(dataset="CelebA", root=str(celeba)).load()
    assert (data.task, data.class_names, data.z.tolist()) == ("multilabel", ("Smiling", "Male"), [7, 7, 9, 9])
    assert data.y.tolist() == [[1, 0], [0, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("steps", "y", "task"),
    [
        ([CelebALabels(columns=["Male", "Smiling"])], [1, 0, 1, 0], "classification"),
        ([CelebALabels(columns=[0, 1], multilabel=True)], [[1, 0], [0, 0], [1, 0], [0, 0]], "multilabel"),
        ([PickLabels(keep=[0, 0], move=[1])], [1, 0, 1, 0], "classification"),
        ([CelebALabels(columns=0), MoveLabels(keep=[0], move=[1])], [1, 0, 1, 0], "classification"),
    ],
)
def test_steps_choose_among_attributes_and_identity(celeba, steps, y, task):
    data = Preprocessed(data_source=TorchVision(dataset="CelebA", root=str(celeba)), steps=steps).load()
    assert (data.y.tolist(), data.task, data.z.tolist()) == (y, task, [7, 7, 9, 9])


def test_attributes_of_celeba_can_be_one_class(celeba):
    fields = {"dataset": "CelebA", "root": str(celeba), "task": "classification", "parts": ["train", "valid", "test"]}
    data = TorchVision(**fields, attributes=["Male", "Smiling"]).load()
    assert data.y.tolist() == [1, 0, 3, 2, 1, 0]
    assert data.class_names == ("Male=0, Smiling=0", "Male=0, Smiling=1", "Male=1, Smiling=0", "Male=1, Smiling=1")
    single = TorchVision(**fields, attributes="Smiling", z="part").load()
    assert (single.n_classes, single.z_names, single.z.tolist()) == (2, ("train", "valid", "test"), [0, 0, 1, 1, 2, 2])


def test_identities_can_be_learned(celeba):
    data = TorchVision(dataset="CelebA", root=str(celeba), label="identity", z="none").load()
    assert (data.y.tolist(), data.class_names, data.z) == ([0, 0, 1, 1], ("7", "9"), None)


def test_unknown_attributes_are_refused(celeba):
    with pytest.raises(DataError, match='no attribute Smilling; did you mean "Smiling"'):
        TorchVision(dataset="CelebA", root=str(celeba), attributes="Smilling").load()


# What is wrong


def test_missing_files_are_named_with_their_folder(tmp_path):
    source = TorchVision(dataset="FashionMNIST", root=str(tmp_path))
    for action in (source.load, source.fingerprint):
        with pytest.raises(DataError) as caught:
            action()
        message = str(caught.value)
        assert "raw/train-images-idx3-ubyte" in message
        assert str(tmp_path / "FashionMNIST") in message
        assert "http" in message
        assert message.endswith("or set download to true")


def test_only_the_files_that_are_absent_are_named(mnist):
    (mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="expected raw/t10k-labels-idx1-ubyte in"):
        TorchVision(dataset="MNIST", root=str(mnist)).load()


def test_files_of_different_sets_are_refused(mnist):
    (mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"MNIST, train: 5 pictures and 4 labels; a file in .* is damaged"):
        TorchVision(dataset="MNIST", root=str(mnist)).load()


def test_a_damaged_cifar_is_never_unpickled(tmp_path):
    place = tmp_path / "cifar-100-python"
    place.mkdir()
    for name in ("train", "test", "meta"):
        (place / name).write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(DataError, match="cannot be read"):
        TorchVision(dataset="CIFAR100", root=str(tmp_path)).load()
    assert not (tmp_path / "ran").exists()


def test_an_undecodable_picture_is_named(folder):
    (folder / "dog" / "3.png").write_bytes((folder / "dog" / "3.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r'dog.3\.png" cannot be decoded'):
        TorchVision(dataset="ImageFolder", root=str(folder)).load()


def test_pictures_of_different_sizes_are_refused_with_the_remedy(folder):
    picture(9, (8, 8)).save(folder / "dog" / "4.png")
    with pytest.raises(DataError, match=r'4\.png" has 8×8 pixels .* the first one 5×6; .*Resize'):
        TorchVision(dataset="ImageFolder", root=str(folder)).load()
    assert TorchVision(dataset="ImageFolder", root=str(folder), transforms="Resize((4, 4))").load().x_shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (["Resize((2"], "not a transform"),
        (["Resize(open('x'))"], "not a transform"),
        (["__import__('os').system('true')"], "accepted are|not a transform"),
        (["RandomCrop(32)"], "what a source yields is fixed"),
        (["Rezise(3)"], 'did you mean "Resize"'),
        (["Resize('big')"], "with a size"),
        (["Resize(3, colour=1)"], "expected Resize"),
        (["ToTensor", "Normalize([0.5], [0.0])"], "above 0"),
        (["Normalize([0.5, 0.5], [1.0])"], "2 means for 1"),
        (["Normalize([0.5], [1.0])", "Resize(3)"], "comes after Normalize"),
        (["Grayscale(2)"], "1 or 3"),
    ],
)
def test_transforms_that_cannot_be_done_are_refused_at_once(transforms, message):
    with pytest.raises(InvalidParameters, match=message):
        TorchVision(dataset="MNIST", transforms=transforms)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "FashonMNIST"}, "FashionMNIST"),
        ({"dataset": "os.MNIST"}, "has no"),
        ({"dataset": "MNIST", "parameters": {"colour": True}}, "does not accept its parameters"),
        ({"dataset": "MNIST", "parts": ["valid"]}, "no part valid"),
        ({"dataset": "MNIST", "label": "coarse"}, 'no "coarse"; it has class, part'),
    ],
)
def test_what_the_data_set_does_not_have_is_refused(mnist, fields, message):
    with pytest.raises(DataError, match=message):
        TorchVision(root=str(mnist), **fields).load()


def test_parameters_that_are_fields_are_refused():
    with pytest.raises(InvalidParameters, match="download cannot be given here"):
        TorchVision(dataset="MNIST", parameters={"download": True})


# Address


def test_the_content_of_the_files_is_the_fingerprint_wherever_they_are(tmp_path):
    write_mnist(tmp_path / "here")
    write_mnist(tmp_path / "there")
    here, there = (TorchVision(dataset="MNIST", root=str(tmp_path / place)) for place in ("here", "there"))
    assert here.fingerprint() == there.fingerprint()
    assert canonical(here) == canonical(there)
    labels = tmp_path / "there" / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x09")
    assert here.fingerprint() != there.fingerprint()


def test_without_torchvision_the_extra_is_named(mnist, datasets, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchvision.datasets")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(
        MissingDependency, match=r'"MNIST" needs the package "torchvision": pip install "erasure-unlearning\[vision\]"'
    ):
        TorchVision(dataset="MNIST", root=str(mnist)).load()
