"""Experiments in the words of the published files run: each source, splitter, family of networks and measure on a few samples."""

import csv
import hashlib
import importlib.util
import json
import pickle
import random

import numpy as np
import pytest
import torch
import upstream_vocabulary as vocabulary

import erasure
from erasure.errors import DataError
from erasure.experiment.configuration import load_experiment
from erasure.models.text import library as of_hugging_face
from erasure.training.predictor import ModelInput

D, S, M, E, P, U = (getattr(vocabulary, name) for name in ("DATA", "SPLIT", "MODEL", "EVAL", "STEP", "UNLEARN"))
IRIS = "sepal length,sepal width,petal length,petal width,class"
ADULT = ("workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country")


def needs(*libraries):
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def node(path, /, **parameters):
    return {"class": path, "parameters": parameters}


def cut(kind, first, second, **parameters):
    return node(f"{S}{kind}", parts_names=[first, second], **parameters)


SHUFFLED = cut("Percentage", "all_shuffled", "-", percentage=1, shuffle=True)
KEPT = [
    cut("Percentage", "retain", "test", percentage=0.7, ref_data="other_ids", shuffle=False),
    node(f"{S}Concat", parts_names=["train", "-"], concat_splits=["retain", "forget"]),
]
AT_RANDOM = [
    SHUFFLED,
    cut("Percentage", "train", "test", percentage=0.7, ref_data="all_shuffled", shuffle=False),
    cut("Percentage", "forget", "retain", percentage=0.3, ref_data="train"),
]


def forgotten(kind, **parameters):
    """Partitions that follow a group."""
    return [SHUFFLED, cut(kind, "forget", "other_ids", ref_data="all_shuffled", **parameters), *KEPT]


def accuracy(partition, target):
    return node(f"{E}measures.TorchSKLearn", partition=partition, target=target)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a source with a network and partitions; nothing may fail, and all ``n`` samples are where they belong."""
    monkeypatch.chdir(tmp_path)

    def a_file(
        source, network, partitions, *, n, forgets, unlearners=(), measures=(), predictor="TorchModel", loss="CrossEntropyLoss"
    ):
        written = vocabulary.experiment()
        written["data"]["parameters"] |= {"DataSource": source, "partitions": partitions, "batch_size": 16}
        written["predictor"]["class"] = f"{M}{predictor}.{predictor}"
        written["predictor"]["parameters"] |= {
            "epochs": 1,
            "model": network,
            "loss_fn": node(f"torch.nn.{loss}", reduction="mean"),
        }
        written["unlearners"] = unlearners or [node(f"{U}GoldModel.GoldModel", training_set="retain")]
        chosen = measures or [accuracy("test", "unlearned"), accuracy("forget", "original")]
        chosen = [
            *chosen,
            *(node(f"{E}measures.PartitionInfo", partition=part) for part in ("train", "test", "forget", "retain")),
        ]
        written["evaluator"]["parameters"] = {"measures": chosen, "floor_repeats": 0}
        results = erasure.run(written, store=tmp_path / "store", device="cpu")
        failed = [(row.measure, row.label, row.reason) for row in results.rows if row.status == "failed"]
        assert (results.failures, failed) == ({}, [])
        assert any(row.status == "ok" and row.model_role != "original" for row in results.rows)
        size = {row.partition: row.value for row in results.rows if row.measure == "size"}
        assert size["train"] + size["test"] == n
        assert size["forget"] + size["retain"] == size["train"]
        assert size["forget"] == (forgets or size["forget"]) and 0 < size["forget"] < size["train"]
        return results

    return a_file


def loaded(source):
    """The data that a source gives."""
    written = vocabulary.experiment()
    written["data"]["parameters"]["DataSource"] = source
    return load_experiment(written).data.data_source.load()


# Tables


@pytest.fixture
def iris(tmp_path):
    draw = random.Random(0)
    kinds = ["Iris-setosa", "Iris-versicolor", "Iris-virginica"]
    rows = [",".join([*(f"{draw.gauss(i % 3, 0.3):.2f}" for _ in range(4)), f"{kinds[i % 3]}."]) for i in range(60)]
    folder = tmp_path / "resources" / "data" / "uci" / "53"
    folder.mkdir(parents=True)
    (folder / "data.csv").write_text("\n".join([IRIS, *rows]) + "\n")
    steps = [
        node(f"{P}preprocess.RemoveCharacter", process_X=False, process_y=True, character="."),
        node(f"{P}dataset_specific.UCIRepository.IRIS_preprocess.IRISpreprocess"),
    ]
    return node(f"{D}UCIRepositoryDataSource.UCIRepositoryDataSource", id=53, label="class", preprocess=steps)


IRIS_NN = node(f"{M}classifiers.standard_classifier.IrisNN")
A_CLASS = [
    cut("Percentage", "all_reduced", "-", percentage=1),
    cut("Percentage", "train", "test", percentage=0.6, ref_data="all_reduced"),
    cut("Class", "forget", "retain", label=1, ref_data="train"),
    cut("NSamples", "example", "-", n_samples=3, ref_data="forget"),
]


def test_a_table_of_the_repository_and_every_measure(iris, run):
    shadows = {"n_shadows": 4, "dataset_preproc": [cut("NSamples", "lira_forget", "-", n_samples=4, ref_data="forget")]}
    distances = [
        node(
            f"{E}distances.ModelDistance",
            function=node(f"{E}distances.{name}"),
            block_diag="true",
            activations=on,
            ref_data="example",
        )
        for name in ("hausdorff", "jsdistance", "kldivergence")
        for on in ("true", "false")
    ]
    f1 = node("sklearn.metrics.f1_score", average="macro")
    results = run(iris, IRIS_NN, [*AT_RANDOM, A_CLASS[-1]], n=60, forgets=12, measures=[
        node(f"{E}running.ChainOfRunners", runners=[f"{E}running.TorchFlops", f"{E}running.RunTime"]),
        node(f"{E}measures.TorchSKLearn", partition="test", target="unlearned", name="f1_macro", function=f1),
        node(f"{E}measures.Accuracy"), node(f"{E}measures.ForgetSetInfo"), node(f"{E}measures.PartitionInfo", partition="retain"),
        node(f"{E}measures.AUS", forget_part="forget", test_part="test"), node(f"{E}measures.RelearnTime", forget_part="forget", cap=3),
        node(f"{E}measures.AIN", forget_part="forget", alpha=0.5, cap=3, gold_model=node(f"{U}GoldModel.GoldModel", cached=True)),
        node(f"{E}MIA.umia.Attack", attack_in_data=node("erasure.data.datasets.DatasetManager.DatasetManager")),
        node(f"{E}MIA.mia.Attack", attack_test_part="test", shadows={"n_shadows": 4}),
        node(f"{E}MIA.lira.Attack", forget_part="lira_forget", shadows=shadows),
        node(f"{E}measures.PartitionInfo", partition="lira_forget"), *distances,
        node(f"{E}measures.SaveValues", path="output/runs/iris.json"),
    ])  # fmt: skip
    assert {row.partition for row in results.rows if row.measure.startswith("LiRA")} == {"lira_forget"}
    assert {row.value for row in results.rows if (row.measure, row.partition) == ("size", "lira_forget")} == {4}
    measured = {row.measure.partition(" ")[0] for row in results.rows}
    assert {"Flops", "RunTime", "f1_macro", "accuracy", "AUS", "RelearnTime", "AIN", "UMIA", "Forgetting"} <= measured


def test_a_class_is_forgotten(iris, run):
    data = loaded(iris)
    assert (len(data), data.class_names[1]) == (60, "Iris-versicolor")
    results = run(iris, IRIS_NN, A_CLASS, n=60, forgets=None)
    found = {(row.measure, row.partition): row.value for row in results.rows if row.model_role == "original"}
    assert found["share[Iris-versicolor]", "forget"] == 1
    assert found["size[Iris-versicolor]", "retain"] == 0 < found["size[Iris-setosa]", "retain"]


def test_adult_with_eight_columns_of_words(tmp_path, run):
    draw = random.Random(0)
    rows = []
    for i in range(60):
        words = [draw.choice(("x", "y", "?")) if name == "workclass" else draw.choice(("a", "b")) for name in ADULT[:-1]]
        rows.append([20 + i % 50, *words, draw.choice(("United-States", "Peru")), "<=50K" if i % 2 else ">50K."])
    folder = tmp_path / "resources" / "data" / "uci" / "2"
    folder.mkdir(parents=True)
    with (folder / "data.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["age", *ADULT, "income"], *rows])
    source = node(f"{D}UCIRepositoryDataSource.UCI_Adult_DataSource", id=2, label="income", to_encode=list(ADULT), preprocess=[])
    run(source, node(f"{M}classifiers.standard_classifier.AdultNN", n_layers=1, inputsize=68), AT_RANDOM, n=60, forgets=12)


@needs("datasets")
def test_tracks_of_some_artists_are_forgotten(tmp_path, run):
    folder = tmp_path / "tracks"
    folder.mkdir()
    columns = ["track_id", "artists", "popularity", "explicit", "mode", "tempo", "track_genre"]
    rows = [[i, f"artist {i % 9}", i % 7, i % 2, i % 2, 90 + i, "rock" if i % 2 else "jazz"] for i in range(60)]
    with (folder / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    steps = [
        node(f"{P}reshape_x_z.reshape_x_z", keep_as_x=[], move_to_z=[2]),
        node(f"{P}preprocess.ListToTensor", process_X=True),
    ]
    source = node(
        f"{D}HFDataSource.SpotifyHFDataSource", path=str(folder), data_columns=["artists", "popularity", "explicit", "mode", "tempo"],
        to_encode=["track_genre", "artists"], to_normalize=["tempo", "popularity"], label="track_genre", keep_top_k=10,
        keep_top_k_artist=1000, preprocess=steps,
    )  # fmt: skip
    data = loaded(source)
    # The artists stand behind the columns that are not normalised, where position 2 finds them.
    assert (data.feature_names, data.z.tolist()[:10]) == (("explicit", "mode", "tempo", "popularity"), [*range(9), 0])
    network = node(f"{M}classifiers.standard_classifier.SpotifyNN", n_layers=1)
    run(source, network, forgotten("AnyZisInRange", z_labels=[2, 4]), n=60, forgets=21)


def test_a_csv_file_with_two_columns_of_labels(tmp_path, run):
    (tmp_path / "games.csv").write_text(
        "id,score,genres,platforms\n" + "".join(f'{i},{i % 5},{"ab"[i % 2]},"[{i % 4}, {i % 3 + 10}]"\n' for i in range(60))
    )
    steps = [
        node(f"{P}reshape_y_z.reshape_y_z", keep_as_y=[0], move_to_z=[1]),
        node(f"{P}preprocess.StringToList", z=True, max_length=3),
    ]
    source = node(
        f"{D}FileDataSource.CSVDataSource", path="games.csv", data_columns=["score"], label_columns=["genres", "platforms"],
        preprocess=steps,
    )  # fmt: skip
    size = node(f"{E}measures.ForgetSetInfo")
    run(
        source,
        node(f"{M}FF.LogisticRegression"),
        forgotten("ByZList", z_labels=[3]),
        n=60,
        forgets=15,
        measures=[size, accuracy("test", "unlearned")],
    )


@needs("datasets")
def test_several_columns_of_labels_of_the_hub(tmp_path, run):
    (tmp_path / "games").mkdir()
    lines = [f"{i},{i % 5},{i % 3},{'ab'[i % 2]},r{i % 4}" for i in range(60)]
    (tmp_path / "games" / "train.csv").write_text("\n".join(["id,score,price,genre,region", *lines]) + "\n")

    def source(*steps):
        return node(
            f"{D}HFDataSource.HFDataSource", path="games", data_columns=["score", "price"], label=["genre", "region"],
            to_encode=["genre", "region"], preprocess=list(steps),
        )  # fmt: skip

    chosen = source(node(f"{P}reshape_y_z.reshape_y_z", keep_as_y=[0], move_to_z=[1]))
    data = loaded(chosen)
    assert (data.class_names, data.z_names, data.y.tolist()[:3]) == (("a", "b"), ("r0", "r1", "r2", "r3"), [0, 1, 0])
    assert data.x_shape == (2,)
    run(chosen, node(f"{M}FF.LogisticRegression"), forgotten("ByZ", z_labels=[3]), n=60, forgets=15)
    with pytest.raises(DataError, match=r"2 columns \(genre, region\) after all steps"):
        loaded(source())


# Pictures


def pictures(n, size, seed=0):
    draw = np.random.default_rng(seed)
    made = draw.integers(0, 80, (n, size, size, 3), dtype=np.uint8)
    made[np.arange(n) % 2 == 1, : size // 2] += 150
    return made


@needs("torchvision")
def test_cifar10_with_its_resnet(tmp_path, monkeypatch, run):
    datasets = importlib.import_module("erasure.training.torchvision_operators").torchvision("datasets", "a test")
    place = tmp_path / "resources" / "data" / "cifar-10-batches-py"
    place.mkdir(parents=True)
    sums = {}
    for called, n in (("data_batch_1", 16), ("test_batch", 8)):
        values = pictures(n, 32).transpose(0, 3, 1, 2).reshape(n, -1)
        (place / called).write_bytes(pickle.dumps({"data": values, "labels": [i % 2 for i in range(n)]}))
        sums[called] = hashlib.md5((place / called).read_bytes()).hexdigest()
    (place / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = hashlib.md5((place / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": meta})
    source = node(f"{D}TVDataSource.TVDataSource", path="torchvision.datasets.CIFAR10", transform=["ToTensor"])
    run(source, node(f"{M}classifiers.resnet18_for_cifar10.Cifar10ResNet18"), AT_RANDOM, n=24, forgets=4)


@needs("torchvision")
def test_pictures_of_cifar100_are_enlarged_whatever_the_file_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datasets = importlib.import_module("erasure.training.torchvision_operators").torchvision("datasets", "a test")
    from erasure.data.reading.torchvision_labels import CIFAR100_COARSE

    place = tmp_path / "resources" / "data" / "cifar-100-python"
    place.mkdir(parents=True)
    names = sorted(name for each in CIFAR100_COARSE.values() for name in each.split())
    contents = {
        "train": {"data": pictures(3, 32).transpose(0, 3, 1, 2).reshape(3, -1), "fine_labels": [4, 99, 54]},
        "test": {"data": pictures(1, 32).transpose(0, 3, 1, 2).reshape(1, -1), "fine_labels": [1]},
        "meta": {"fine_label_names": names},
    }
    sums = {}
    for called, content in contents.items():
        (place / called).write_bytes(pickle.dumps(content))
        sums[called] = hashlib.md5((place / called).read_bytes()).hexdigest()
    for part in ("train", "test"):
        monkeypatch.setattr(datasets.CIFAR100, f"{part}_list", [[part, sums[part]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": sums["meta"]})
    step = node(f"{P}dataset_specific.torchvision.cifar100_to_20.CIFAR100preprocess", dim=256, method="resize")
    source = node(
        f"{D}TVDataSource.TVDataSourceCifar100", path="torchvision.datasets.CIFAR100", transform=["ToTensor"], classes=20,
        preprocess=[step],
    )  # fmt: skip
    data = loaded(source)
    assert (data.x_shape, data.n_classes, data.y.tolist(), data.z.tolist()) == ((3, 224, 224), 20, [0, 13, 2, 1], [4, 99, 54, 1])


@pytest.fixture
def celeba(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    datasets = importlib.import_module("erasure.training.torchvision_operators").torchvision("datasets", "a test")
    place = tmp_path / "resources" / "data" / "celeba"
    (place / "img_align_celeba").mkdir(parents=True)
    n = 32
    files = [f"{i}.png" for i in range(n)]
    for file, values in zip(files, pictures(n, 32), strict=True):
        image.fromarray(values).save(place / "img_align_celeba" / file)

    def attributes(i):
        return f"{i % 2 * 2 - 1:2d} {i // 2 % 2 * 2 - 1:2d} {(i % 4 == 3) * 2 - 1:2d}"

    tables = {
        "identity_CelebA.txt": [f"{file} {2880 + i % 8}" for i, file in enumerate(files)],
        "list_attr_celeba.txt": [str(n), "Smiling Male Young", *(f"{f} {attributes(i)}" for i, f in enumerate(files))],
        "list_bbox_celeba.txt": [str(n), "image_id a", *(f"{file} 1" for file in files)],
        "list_landmarks_align_celeba.txt": [str(n), "a", *(f"{file} 1" for file in files)],
        "list_eval_partition.txt": [f"{file} {i % 4 and 2}" for i, file in enumerate(files)],
    }  # fmt: skip
    for name, lines in tables.items():
        (place / name).write_text("\n".join(lines) + "\n")
    sums = [("", hashlib.md5((place / name).read_bytes()).hexdigest(), name) for name in tables]
    monkeypatch.setattr(datasets.CelebA, "file_list", sums)

    def source(*steps):
        return node(
            f"{D}TVDataSource.TVDataSourceCelebA", path="torchvision.datasets.CelebA", transform=["ToTensor"], label_column="attr",
            label_columns=[0, 1], target_type=["attr", "identity"], preprocess=list(steps),
        )  # fmt: skip

    return source


@needs("torchvision")
def test_attributes_of_people_are_several_labels(celeba, run):
    source = celeba(node(f"{P}dataset_specific.celeba_labels.Celeba_multilabel", label_columns=[0, 1]))
    random_labels = node(
        f"{U}SuccessiveRandomLabels.SuccessiveRandomLabels", epochs=1, task="multilabel", optimizer=vocabulary.ADAM
    )
    attack = node(f"{E}MIA.umia.Attack", loss_fn=node("torch.nn.BCEWithLogitsLoss", reduction="none"))
    measures = [accuracy("test", "unlearned"), attack, node(f"{E}measures.AUS", task="multilabel")]
    network = node(f"{M}classifiers.resnet18_for_celeba.CelebAResNet18_logits", n_classes=2)
    run(
        source, network, forgotten("ByZ", z_labels=[2880, 2881]), unlearners=[random_labels], measures=measures,
        predictor="TorchModelMultilabel", loss="BCEWithLogitsLoss", n=32, forgets=8,
    )  # fmt: skip


@needs("torchvision")
def test_an_attribute_by_the_older_meaning_of_a_step(celeba, tmp_path, monkeypatch):
    # Files from before the step was renamed give it the path of an attribute where it takes positions of columns today.
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="is read as a path, number 2 of column 0"):
        data = loaded(celeba(node(f"{P}reshape_y_z.reshape_y_z", keep_as_y=[0, 2], move_to_z=[1])))
    assert (data.task, sorted(data.y.tolist())) == ("classification", [0] * 24 + [1] * 8)
    assert data.z_names == tuple(map(str, range(2880, 2888))) or set(data.z.tolist()) == {*range(2880, 2888)}


@needs("torchvision")
def test_one_attribute_and_the_person_by_position(celeba, run):
    step = node(f"{P}reshape_y_z.reshape_y_z_legacy", keep_as_y=[0, 1], move_to_z=[1])
    run(celeba(step), node(f"{M}FF.LogisticRegression"), forgotten("ByZ", z_label=2880), n=32, forgets=4)


@needs("torchvision")
def test_pictures_that_a_table_lists(tmp_path, run):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "resources" / "data" / "games"
    folder.mkdir(parents=True)
    for i, values in enumerate(pictures(24, 8)):
        image.fromarray(values).save(folder / f"{i}.png")
    (folder / "games.csv").write_text("path,rating\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(24)))
    source = node(
        f"{D}TorchVisionCustomSource.TorchVisionCustomSource", path="resources/data/games", file_name="games.csv",
        transform=["ToTensor"], label="rating",
    )  # fmt: skip
    run(source, node(f"{M}FF.LogisticRegression"), AT_RANDOM, n=24, forgets=4)


@needs("datasets", "torchvision")
def test_pictures_of_the_hub_are_forgotten_by_a_column_beside_them(tmp_path, run):
    library, image = pytest.importorskip("datasets"), pytest.importorskip("PIL.Image")
    columns = {
        "image": [image.fromarray(values) for values in pictures(30, 32)],
        "age": [i % 2 for i in range(30)],
        "gender": [i % 2 for i in range(30)],
        "race": [i % 6 for i in range(30)],
    }
    features = library.Features(
        image=library.Image(), age=library.ClassLabel(names=["young", "old"]), gender=library.ClassLabel(names=["m", "f"]),
        race=library.ClassLabel(names=list("abcdef")),
    )  # fmt: skip
    library.DatasetDict({"train": library.Dataset.from_dict(columns, features=features)}).save_to_disk(str(tmp_path / "faces"))
    steps = [
        node(f"{P}reshape_x_z.reshape_x_z", keep_as_x=[0], move_to_z=[2]),
        node(f"{P}image_to_tensor.ImageToTensorPreprocess"),
    ]

    def source(*chosen):
        return node(
            f"{D}HFDataSource.HFDataSource", path=str(tmp_path / "faces"), configuration="", label="age", to_encode=["age", "race"],
            data_columns=["image", "race", "gender"], preprocess=list(chosen),
        )  # fmt: skip

    data, plain = loaded(source(*steps)), loaded(source(steps[0]))
    # The data set has the gender before the race, and positions count in its order.
    assert (data.modality, data.x_shape, data.z.tolist()[:7]) == ("image", (3, 32, 32), [0, 1, 2, 3, 4, 5, 0])
    wanted = torch.from_numpy(pictures(30, 32)[4]).permute(2, 0, 1) / 255
    for each in (data, plain):
        assert torch.allclose(each.x.gather(torch.tensor([4]))[0], wanted)
    run(
        source(*steps),
        node(f"{M}FF.LogisticRegression"),
        forgotten("ByZ", z_labels=[5]),
        n=30,
        forgets=5,
    )


# Texts and graphs


@needs("datasets", "transformers")
def test_reviews_of_some_films_are_forgotten(tmp_path, run):
    transformers = of_hugging_face("transformers", "the test")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "long"]
    encoder = str(tmp_path / "encoder")
    transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(encoder)
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "max_position_embeddings": 16,
    }
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(encoder)
    folder = tmp_path / "films"
    folder.mkdir()
    for part, n in (("train", 40), ("test", 20), ("unsupervised", 5)):
        rows = [{"text": f"a {'good' if i % 2 else 'bad'} film", "label": i % 2, "movie_id": f"m{i % 10}"} for i in range(n)]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = node(f"{P}tokenize_text.TokenizerWrapper", tokenizer=encoder, max_length=8, padding="max_length", truncation=True)
    steps = [
        node(f"{P}reshape_x_z.reshape_x_z", keep_as_x=[0], move_to_z=[1]),
        node(f"{P}tokenize_text.TokenizeX", tokenizer=tokenizer),
    ]
    source = node(
        f"{D}HFDataSource.IMDBHFDataSource", path=str(folder), data_columns=["movie_id", "text"], label="label", to_encode=["movie_id"],
        preprocess=steps,
    )  # fmt: skip
    assert len(loaded(source)) == 60
    unsir = node(f"{U}UNSIR.UNSIR", epochs=1, noise_lr=0.1, sample_tipe="text", optimizer=vocabulary.ADAM)
    cascade = node(f"{U}composite.Cascade", sub_unlearner=[unsir, node(f"{U}Finetuning.Finetuning", epochs=1)])
    network = node(f"{M}classifiers.BERT_classifier.BERTClassifier", name_or_path=encoder)
    run(source, network, forgotten("AnyZisInRange", z_labels=[0, 2]), unlearners=[cascade], n=60, forgets=18)


@needs("datasets")
def test_numbers_of_an_encoded_column_are_its_codes(tmp_path, monkeypatch):
    # Published files list thousands of films by code, from 0 on, whatever the data call them.
    monkeypatch.chdir(tmp_path)
    rows = [{"text": "good" if i % 2 else "bad", "label": i % 2, "movie_id": 100 + 3 * (i % 4)} for i in range(12)]
    (tmp_path / "films").mkdir()
    for part in ("train", "test"):
        (tmp_path / "films" / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = node(
        f"{D}HFDataSource.IMDBHFDataSource", path="films", data_columns=["text", "movie_id"], label="label", to_encode=["movie_id"],
        preprocess=[node(f"{P}reshape_x_z.reshape_x_z", keep_as_x=[0], move_to_z=[1])],
    )  # fmt: skip
    with pytest.warns(UserWarning, match='"movie_id" is encoded: 0 stands for 100, 3 for 109'):
        data = loaded(source)
    assert (data.z.tolist(), data.class_names) == ([0, 1, 2, 3] * 6, ())
    rows = [row | {"label": row["label"] + 1} for row in rows]  # classes 1 and 2, as of AG News
    (tmp_path / "films" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "films" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    label = "the label is encoded: class 0 stands for 1, 1 for 2"
    with pytest.warns(UserWarning, match=label), pytest.warns(UserWarning, match="movie_id"):
        data = loaded(source)
    assert (data.y.tolist()[:2], data.class_names) == ([0, 1], ())
    source["class"] = source["class"].replace("IMDBHF", "HF")  # without the steps as well
    steps = source["parameters"].pop("preprocess")
    source["parameters"] |= {"data_columns": ["text"], "to_encode": ["label"]}
    with pytest.warns(UserWarning, match="the label is encoded"):
        assert loaded(source).class_names == ()
    del source["parameters"]["to_encode"]
    source["parameters"] |= {"data_columns": ["text", "movie_id"], "preprocess": steps}
    source["parameters"]["preprocess"].append(node(f"{P}preprocess.Encode", process_X=True))
    with pytest.warns(UserWarning, match=label):
        assert loaded(source).z.tolist() == [100, 103, 106, 109] * 6


@needs("torch_geometric")
def test_graphs_of_a_collection(tmp_path, run):
    raw = tmp_path / "resources" / "data" / "MUTAG" / "raw"
    raw.mkdir(parents=True)
    n, size = 40, 4
    edges = [(g * size + a + 1, g * size + b + 1) for g in range(n) for a in range(size) for b in range(size) if abs(a - b) == 1]
    files = {
        "A": [f"{a}, {b}" for a, b in edges],
        "graph_indicator": [str(g + 1) for g in range(n) for _ in range(size)],
        "graph_labels": [str(g % 2 * 2 - 1) for g in range(n)],
        "node_labels": [str((v + g) % 3 if g % 2 else 0) for g in range(n) for v in range(size)],
    }
    for name, lines in files.items():
        (raw / f"MUTAG_{name}.txt").write_text("\n".join(lines) + "\n")
    inner = node("torch_geometric.datasets.TUDataset", root="resources/data", name="MUTAG") | {"preprocess": []}
    source = node(f"{D}TorchGeometricDataSource.TorchGeometricDataSource", datasource=inner)
    network = node(
        f"{M}gcn.DownstreamGCN",
        batch_size=8,
        node_features=3,
        num_conv_layers=2,
        num_dense_layers=1,
        conv_booster=2,
        linear_decay=1.8,
    )
    run(source, network, AT_RANDOM, n=40, forgets=8)


def test_a_file_of_tensors(tmp_path, run):
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    torch.save({"x": x, "y": (x[:, 0] > 0).long()}, tmp_path / "data.pt")
    source = node(f"{D}TorchFileDataSource.TorchFileDataSource", path="data.pt")
    run(source, node(f"{M}FF.FlexSeqBin", mult=[2, 0.75]), AT_RANDOM, n=60, forgets=12)


# Networks


SHAPES = {"cnns": (1, 28, 28), "MNIST": (1, 28, 28), "gcn": None, "BERT": None, "standard_classifier": (7,), "FF": (10,)}


@pytest.mark.parametrize("path", [path for path in vocabulary.MODELS if "gcn" not in path and "BERT" not in path])
def test_a_network_takes_its_data_and_gives_a_logit_a_class(path):
    if "resnet" in path.casefold():
        pytest.importorskip("torchvision")
    written = vocabulary.experiment()
    written["predictor"]["parameters"]["model"] = node(path)
    shape = next((shape for part, shape in SHAPES.items() if part in path), (3, 64, 64))
    network = load_experiment(written).predictor.model.build(ModelInput(shape, 3)).eval()
    features, logits = network(torch.zeros(2, *shape))
    assert logits.shape == (2, 3)
    if "resnet" in path.casefold():
        stem = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
        assert features.shape == (2, 512)
        assert stem.kernel_size == ((3, 3) if "MNIST" in path else (7, 7))
        deep = "ResNet50" in path
        assert any(weight.shape[0] == 2048 for weight in network.parameters() if weight.ndim == 4) == deep
