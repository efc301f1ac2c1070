"""Every class path of the published configurations, with every parameter they give it, and an experiment to put a node into."""

import copy

DATA = "erasure.data.data_sources."
SPLIT = "erasure.data.datasets.DataSplitter.DataSplitter"
MODEL = "erasure.model."
UNLEARN = "erasure.unlearners."
EVAL = "erasure.evaluations."
STEP = "erasure.data.preprocessing."

ADAM = {"class": "torch.optim.Adam", "parameters": {"lr": 0.001}}
TABLE = {"class": f"{DATA}UCIRepositoryDataSource.UCIRepositoryDataSource", "parameters": {"id": 53, "label": "class"}}
PARTS = {"parts_names": ["forget", "retain"], "ref_data": "train"}
BOTH = {"ref_data_retain": "retain", "ref_data_forget": "forget"}
TRAINED = {"epochs": 2, "optimizer": ADAM}
LAYERS = {"last_trainable_layers": 2, "model_mask_path": "masks/m"}
IRIS_NN = {"class": f"{MODEL}classifiers.standard_classifier.IrisNN", "parameters": {}}
PREDICTOR = {"class": "erasure.model.TorchModel.TorchModel", "parameters": {"epochs": 0, "model": IRIS_NN}}
SHADOWS = {
    "attack_in_data": {"class": "erasure.data.datasets.DatasetManager.DatasetManager", "parameters": {"batch_size": 128}},
    "attack_model": {"class": "erasure.evaluations.MIA.Distribution.Distribution", "parameters": {}},
    "data_out_path": "resources/data/shadows.pt",
    "forget_part": "forget",
    "loss_fn": {"class": "torch.nn.CrossEntropyLoss", "parameters": {"reduction": "none"}},
    "shadows": {
        "n_shadows": 20,
        "train_part_plh": "shw_train",
        "test_part_plh": "shw_test",
        "dataset_preproc": [{"class": f"{SPLIT}Percentage", "parameters": {"parts_names": ["shadow_data", "-"], "percentage": 1.0}}],
        "per_shadows_partition": {"class": f"{SPLIT}Percentage", "parameters": {"parts_names": ["shw_train", "shw_test"]}},
        "base_model": PREDICTOR,
        "shadow_in_data": {"class": "erasure.data.datasets.DatasetManager.DatasetManager", "parameters": {}},
    },
}  # fmt: skip
HUGGING_FACE = {
    "path": "someone/something",
    "configuration": "",
    "data_columns": ["text"],
    "label": "label",
    "to_encode": ["label"],
    "classes": -1,
}
VISION = {
    "transform": ["Resize((128,128))", "ToTensor", "Normalize(mean=[0.5], std=[0.5])"],
    "label_column": "targets",
    "classes": None,
    "root_path": "resources/data",
}
ACCURACY = {"class": "sklearn.metrics.accuracy_score", "parameters": {}}
RESNETS = (
    "resnet18_for_celeba.CelebAResNet18",
    "resnet18_for_celeba.CelebAResNet18_logits",
    "resnet18_for_celeba.CelebAResNet50",
    "resnet18_for_celeba.CelebAResNet50_logits",
    "resnet50_for_celeba.CelebAResNet50",
    "resnet18_for_cifar10.Cifar10ResNet18",
    "resnet18_for_cifar100.Cifar100ResNet18",
    "resnet18_for_cifar100.Cifar100ResNet50",
    "resnet18_for_cifar20.Cifar20ResNet18",
    "resnet18_for_cifar20.Cifar20ResNet50",
    "resnet18_for_fairface.FairFaceResNet18",
    "Food101_classifier.Food101ResNet18",
    "Foor101_classifier.Food101ResNet18",
    "Country211_classifier.Country211ResNet18",
    "MNIST_classifiers.MNISTResNet18",
    "MNIST_classifiers.FashionMNISTResNet18",
)

SOURCES = {
    f"{DATA}TVDataSource.TVDataSource": {"path": "torchvision.datasets.FashionMNIST", **VISION},
    f"{DATA}TVDataSource.TVDataSourceCelebA": {
        "path": "torchvision.datasets.CelebA", "target_type": ["attr", "identity"], "label_columns": [0, 1], **VISION,
    },
    f"{DATA}TVDataSourceCelebA.TVDataSourceCelebA": {"path": "torchvision.datasets.CelebA", "label_column": "attr"},
    f"{DATA}TVDataSource.TVDataSourceCifar100": {"path": "torchvision.datasets.CIFAR100", "classes": 100, "transform": ["ToTensor"]},
    f"{DATA}TVDataSourceCifar100.TVDataSourceCifar100": {"path": "torchvision.datasets.CIFAR100"},
    f"{DATA}HFDataSource.HFDataSource": HUGGING_FACE,
    f"{DATA}HFDataSource.IMDBHFDataSource": HUGGING_FACE | {"path": "stanfordnlp/imdb"},
    f"{DATA}HFDataSource.SpotifyHFDataSource": HUGGING_FACE | {
        "data_columns": ["popularity", "tempo"], "label": "track_genre", "to_encode": ["track_genre", "artists"],
        "to_normalize": ["popularity", "tempo"], "keep_top_k": 5, "keep_top_k_artist": 10_000_000_000_000_000,
    },
    f"{DATA}UCIRepositoryDataSource.UCIRepositoryDataSource": {
        "id": 53, "label": "class", "data_columns": ["sepal length", "petal length"], "to_encode": ["class"],
    },
    f"{DATA}UCIRepositoryDataSource.UCI_Adult_DataSource": {
        "id": 2, "label": "income", "data_columns": [], "to_encode": ["workclass", "race", "native-country"],
    },
    f"{DATA}TorchGeometricDataSource.TorchGeometricDataSource": {
        "datasource": {"class": "torch_geometric.datasets.MoleculeNet", "parameters": {"root": "resources/data", "name": "BBBP"}},
    },
    f"{DATA}TorchFileDataSource.TorchFileDataSource": {"path": "resources/data/some.pt"},
    f"{DATA}FileDataSource.CSVDataSource": {"path": "some.csv", "data_columns": [], "label_columns": "targets"},
    f"{DATA}TorchVisionCustomSource.TorchVisionCustomSource": {
        "path": "resources/faces", "file_name": "labels.csv", "label": "age", "RGB": True, "transform": ["Resize((64,64))"],
    },
}  # fmt: skip
SPLITTERS = {
    f"{SPLIT}Percentage": PARTS | {"percentage": 0.2, "shuffle": True},
    f"{SPLIT}PercentageStratified": PARTS | {"percentage": 0.2, "shuffle": "false"},
    f"{SPLIT}Class": PARTS | {"label": [0, 1]},
    f"{SPLIT}NSamples": PARTS | {"n_samples": 7},
    f"{SPLIT}List": PARTS | {"samples_ids": [3, 1, 2]},
    f"{SPLIT}ByZ": PARTS | {"z_label": 1},
    f"{SPLIT}ByZList": PARTS | {"z_labels": [1, 2]},
    f"{SPLIT}AnyZisIn": PARTS | {"z_labels": [1, 2]},
    f"{SPLIT}AnyZisInRange": PARTS | {"z_labels": [1, 50]},
    f"{SPLIT}Concat": {"parts_names": ["forget", "retain"], "concat_splits": ["train", "test"]},
}
MODELS = {
    f"{MODEL}classifiers.standard_classifier.IrisNN": {"n_classes": 3, "inputsize": 4},
    f"{MODEL}classifiers.standard_classifier.AdultNN": {"n_layers": 2, "hidden_size": 64, "n_classes": 3, "inputsize": 68},
    f"{MODEL}classifiers.standard_classifier.SpotifyNN": {"n_layers": 1, "hidden_size": 100, "inputsize": 15},
    f"{MODEL}FF.LogisticRegression": {"n_classes": 4},
    f"{MODEL}FF.MIAAttack": {"n_classes": 4},
    f"{MODEL}FF.FlexSeqBin": {"n_classes": 4, "mult": [2, 1, 0.5]},
    f"{MODEL}gcn.DownstreamGCN": {
        "batch_size": 8, "node_features": 9, "n_classes": 2, "num_conv_layers": 2, "num_dense_layers": 2, "conv_booster": 2,
        "linear_decay": 1.8, "pooling": "mean",
    },
    f"{MODEL}cnns.standardCNN.FashionCNN": {"n_classes": 10},
    f"{MODEL}cnns.standardCNN.FMNIST_CNN": {"n_classes": 10},
    **{f"{MODEL}classifiers.{path}": {"n_attrs" if "celeba" in path else "n_classes": 8} for path in RESNETS},
    **{
        f"{MODEL}classifiers.BERT_classifier.{name}": {"n_classes": 2}
        for name in ("BERTClassifier", "DistilBERTClassifier", "deberta")
    },
}  # fmt: skip
UNLEARNERS = {
    f"{UNLEARN}GoldModel.GoldModel": {
        "training_set": "retain", "cached": "true", "predictor": PREDICTOR, "data": {}, "ref_data": "retain", "train_data": "train",
    },
    f"{UNLEARN}Finetuning.Finetuning": TRAINED | LAYERS | {"ref_data": "retain"},
    f"{UNLEARN}eu_k.eu_k": TRAINED | {"ref_data": "retain", "last_trainable_layers": 2},
    f"{UNLEARN}NegGrad.NegGrad": TRAINED | LAYERS | {"ref_data": "forget"},
    f"{UNLEARN}AdvancedNegGrad.AdvancedNegGrad": TRAINED | LAYERS | BOTH,
    f"{UNLEARN}UNSIR.UNSIR": TRAINED | LAYERS | BOTH | {"noise_lr": 0.1, "sample_tipe": "text"},
    f"{UNLEARN}BadTeaching.BadTeaching": TRAINED | LAYERS | BOTH | {
        "KL_temperature": 1.0, "transform": None, "bad_teacher": PREDICTOR,
    },
    f"{UNLEARN}Scrub.Scrub": TRAINED | LAYERS | BOTH | {"T": 2.0},
    f"{UNLEARN}SelectiveSynapticDampening.SelectiveSynapticDampening": {
        "ref_data_train": "train", "ref_data_forget": "forget", "dampening_constant": 0.1, "selection_weighting": 50,
        "optimizer": ADAM, "lr": 0.1,
    },
    f"{UNLEARN}FisherForgetting.FisherForgetting": {
        "ref_data": "retain", "alpha": 1e-7, "ff_epochs": 100, "task": "multilabel",
    },
    f"{UNLEARN}SaliencyMapGeneration.SaliencyMapGeneration": {
        "ref_data": "forget", "treshold": 0.4, "save_dir": "masks", "file_name": "m", "optimizer": ADAM,
    },
    f"{UNLEARN}SuccessiveRandomLabels.SuccessiveRandomLabels": TRAINED | LAYERS | BOTH | {"task": "multilabel"},
    f"{UNLEARN}composite.Cascade": {"sub_unlearner": [{"class": f"{UNLEARN}composite.Identity"}]},
    f"{UNLEARN}composite.Identity": {},
}  # fmt: skip
MEASURES = {
    f"{EVAL}running.RunTime": {},
    f"{EVAL}running.TorchFlops": {},
    f"{EVAL}running.PAPI": {"events": ["PAPI_TOT_INS"]},
    f"{EVAL}running.UnlearnRunner": {},
    f"{EVAL}running.ChainOfRunners": {"runners": [{"class": f"{EVAL}running.RunTime"}]},
    f"{EVAL}measures.TorchSKLearn": {
        "partition": "test", "target": "original", "function": ACCURACY, "name": "accuracy", "task": "multilabel",
    },
    f"{EVAL}measures.Accuracy": {"partition": "test", "target": "unlearned", "name": "accuracy"},
    f"{EVAL}measures.PartitionInfo": {"partition": "retain"},
    f"{EVAL}measures.ForgetSetInfo": {},
    f"{EVAL}measures.AUS": {"forget_part": "forget", "test_part": "test", "task": "multilabel"},
    f"{EVAL}measures.RelearnTime": {"forget_part": "forget"},
    f"{EVAL}measures.AIN": {
        "alpha": 0.001, "forget_part": "forget",
        "gold_model": {"class": f"{UNLEARN}GoldModel.GoldModel", "parameters": {"cached": True}},
    },
    f"{EVAL}measures.NoMUS": {"l": 0.5, "acc_split": "test"},
    f"{EVAL}measures.SaveValues": {"path": "out.json", "output_format": "xlsx"},
    f"{EVAL}MIA.umia.Attack": SHADOWS | {"test_part": "test"},
    f"{EVAL}MIA.mia.Attack": SHADOWS | {"attack_test_part": "test"},
    f"{EVAL}MIA.lira.Attack": SHADOWS,
    f"{EVAL}MIA.lira_revised.Attack": SHADOWS,
    f"{EVAL}distances.ModelDistance": {
        "function": {"class": "l2norm"}, "block_diag": True, "activations": False, "ref_data": "forget", "name": "l2",
    },
    f"{EVAL}weights.ModelDistance": {"function": {"class": "kldivergence"}},
    f"{EVAL}activations.ActivationDistance": {"forget_part": "forget", "function": "l2norm", "name": "activation"},
}  # fmt: skip
TOKENIZER = {
    "class": f"{STEP}tokenize_text.TokenizerWrapper",
    "parameters": {
        "tokenizer": "bert-base-uncased", "max_length": 64, "padding": "max_length", "truncation": True, "return_tensors": "pt",
    },
}  # fmt: skip
FLAGS = {"process_X": True, "process_y": False, "process_z": "false"}
STEPS = {
    f"{STEP}preprocess.Encode": FLAGS,
    f"{STEP}preprocess.ListToTensor": FLAGS,
    f"{STEP}preprocess.RemoveCharacter": FLAGS | {"character": "."},
    f"{STEP}preprocess.Add": FLAGS | {"add": 1},
    f"{STEP}preprocess.StringToList": FLAGS | {"max_length": 5},
    f"{STEP}reshape_x_z.reshape_x_z": {"keep_as_x": [0, 1], "move_to_z": [2]},
    f"{STEP}reshape_y_z.reshape_y_z": {"keep_as_y": [0], "move_to_z": [1]},
    f"{STEP}reshape_y_z.reshape_y_z_legacy": {"keep_as_y": [0, 31], "move_to_z": [1]},
    f"{STEP}reshape_y_z.copy_y_z": {},
    f"{STEP}add_z_label.StringContain": {"contains": ["Real Madrid", "Juventus"]},
    f"{STEP}transform_z.PatternMatch": {"patterns": ["^a", "b$"]},
    f"{STEP}unify_string_columns.UnifyStringColumns": {"columns": [0, 1]},
    f"{STEP}tokenize_text.TokenizeX": {"tokenizer": TOKENIZER},
    f"{STEP}image_to_tensor.ImageToTensorPreprocess": {},
    f"{STEP}dataset_specific.torchvision.cifar100_to_20.CIFAR100preprocess": {"dim": 1, "method": "coarse"},
    f"{STEP}dataset_specific.celeba_labels.Celeba_labels": {"label_columns": [20, 31]},
    f"{STEP}dataset_specific.celeba_labels.Celeba_multilabel": {"label_columns": [20, 31]},
    f"{STEP}dataset_specific.UCIRepository.IRIS_preprocess.IRISpreprocess": {},
}


def experiment():
    """A published file in small: a table, a network, one method and one measure."""
    return copy.deepcopy(
        {
            "data": {
                "class": "erasure.data.datasets.DatasetManager.DatasetManager",
                "parameters": {
                    "DataSource": TABLE,
                    "partitions": [
                        {"class": f"{SPLIT}Percentage", "parameters": {"parts_names": ["all_shuffled", "-"], "percentage": 1}},
                        {
                            "class": f"{SPLIT}Percentage",
                            "parameters": {
                                "parts_names": ["train", "test"],
                                "percentage": 0.8,
                                "ref_data": "all_shuffled",
                                "shuffle": False,
                            },
                        },
                        {"class": f"{SPLIT}Percentage", "parameters": PARTS | {"percentage": 0.1}},
                    ],
                    "batch_size": 64,
                    "split_seed": 16,
                },
            },
            "predictor": {
                "class": "erasure.model.TorchModel.TorchModel",
                "parameters": {
                    "epochs": 2,
                    "optimizer": ADAM,
                    "loss_fn": {"class": "torch.nn.CrossEntropyLoss", "parameters": {"reduction": "mean"}},
                    "model": IRIS_NN,
                },
            },
            "unlearners": [{"class": f"{UNLEARN}composite.Identity", "parameters": {}}],
            "evaluator": {
                "class": "erasure.evaluations.manager.Evaluator",
                "parameters": {"measures": [{"class": f"{EVAL}running.RunTime"}]},
            },
            "globals": {"cached": "true", "seed": 0},
        }
    )
