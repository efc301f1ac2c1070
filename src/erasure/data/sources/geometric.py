"""Data sets of PyTorch Geometric: TU, MoleculeNet and Planetoid by name, and any other class of its kind."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from pydantic import BeforeValidator
from torch import Tensor

from erasure.component import Call
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.graphs import MissingFeatures, class_labels, graph_dataset, node_dataset
from erasure.data.reading.geometric_files import GraphsRead, digests, label_names, raw_folder, read_graphs
from erasure.errors import DataError, Diagnostic, InvalidParameters, MissingDependency
from erasure.training.graphs import torch_geometric
from erasure.types import Json, NonNegativeInt

__all__ = ["GeometricDataset", "GraphDataset", "MoleculeNet", "Planetoid", "TUDataset"]

_ELSEWHERE = {"address": False}  # the fingerprint says what the files hold, wherever they are


@dataclass(frozen=True, kw_only=True)
class GeometricDataset(Call):
    """A class of ``torch_geometric.datasets`` with its parameters, such as ``TUDataset`` with ``root`` and ``name``."""

    kind: ClassVar[str] = "dataset"
    namespaces: ClassVar[tuple[str, ...]] = ("torch_geometric.datasets",)
    expects: ClassVar[str] = "torch_geometric.data:Dataset"

    def check(self) -> None:
        """It must say where its files are."""
        if not isinstance(self.parameters.get("root"), str):
            raise InvalidParameters(f"{self.name}: the parameter root is missing: the folder that holds its files")


@dataclass(frozen=True, kw_only=True)
class _Geometric(DataSource):
    """What all sources of PyTorch Geometric have in common."""

    def _recipe(self) -> tuple[str, str, dict[str, Any]]:
        """Name of the class, its root and its other parameters."""
        raise NotImplementedError

    def _class(self) -> Any:
        name = self._recipe()[0]
        return getattr(torch_geometric("datasets", f"the data set {name}"), name)

    def _raw_folder(self) -> Path:
        _, root, parameters = self._recipe()
        return raw_folder(self._class(), root, parameters)

    def _may_download(self) -> bool:
        return bool(getattr(self, "download", True))

    def fingerprint(self) -> Json:
        """SHA-256 of the raw files, and the versions of the libraries that read them."""
        folder = self._raw_folder()
        files = digests(folder)
        if files is None and not self._may_download():
            raise DataError(f'{self._recipe()[0]}: there are no raw files in the folder "{folder}"; set download to true')
        return {"files": files, "versions": {name: _version(name) for name in ("torch_geometric", "rdkit")}}

    def _read(self) -> GraphsRead:
        name, root, parameters = self._recipe()
        try:
            return read_graphs(self._class(), root, parameters, self._may_download())
        except ModuleNotFoundError as error:
            raise MissingDependency(str(error.name), "graph", f"the data set {name}") from error


@dataclass(frozen=True, kw_only=True)
class TUDataset(_Geometric):
    """A collection of small graphs of the TU benchmark (MUTAG, PROTEINS, ENZYMES, …), one class each.

    Node labels are one-hot features. Classes have the names of the file of labels, such as 1 to 6, or -1 and 1. The raw files
    are ``ROOT/NAME/raw/NAME_A.txt`` and so on, as they are or gzipped.

    Args:
        name: Name of the collection, as its files spell it.
        root: Folder that holds the collections; ``~`` is expanded.
        node_attributes: Whether continuous attributes of the nodes are features too.
        edge_attributes: Whether continuous attributes of the edges are edge features too.
        missing_features: What stands for the features of nodes that have none: their one-hot degree (64 and more are one), or a 1.
        download: Whether raw files that are not there are fetched.
    """

    name: Annotated[str, MinLen(1)]
    root: Annotated[str, MinLen(1)] = field(default="resources/data", metadata=_ELSEWHERE)
    node_attributes: bool = False
    edge_attributes: bool = False
    missing_features: MissingFeatures = "degree"
    download: bool = field(default=True, metadata=_ELSEWHERE)

    def _recipe(self) -> tuple[str, str, dict[str, Any]]:
        attributes = {"use_node_attr": self.node_attributes, "use_edge_attr": self.edge_attributes}
        return "TUDataset", self.root, {"name": self.name, **attributes}

    def fingerprint(self) -> Json:
        """As of all graphs, and what the classes are called where that is not their number."""
        found, names = super().fingerprint(), self._class_names()
        return {**found, "labels": list(names)} if names and isinstance(found, dict) else found

    def _class_names(self) -> tuple[str, ...]:
        return label_names(self._raw_folder() / f"{self.name}_graph_labels.txt")

    def load(self) -> Dataset:
        """Read the collection."""
        read = self._read()
        return graph_dataset(
            self.name,
            read.graphs,
            _labels(self.name, read.graphs),
            missing_features=self.missing_features,
            n_dropped=read.n_dropped,
            rows=read.rows,
            class_names=self._class_names(),
        )


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_Molecules = Literal["bace", "bbbp", "clintox", "hiv", "muv", "pcba", "sider", "tox21", "toxcast"]


@dataclass(frozen=True, kw_only=True)
class MoleculeNet(_Geometric):
    """Molecules of the MoleculeNet benchmark as graphs of atoms and bonds, from SMILES.

    An atom has nine codes (element, chirality, degree, charge, hydrogens, radical electrons, hybridisation, aromaticity, ring), a bond
    three. Sets with several targets are multi-label tasks, unless one target is chosen. The raw file is ``ROOT/name/raw/FILE.csv``
    (``BBBP.csv``, ``bace.csv``, …), as it is or gzipped. Molecules that rdkit cannot read are dropped, with a warning that counts them;
    the row of each molecule in the file is kept, for ``List`` with ``by: row``.

    Args:
        name: Which set; those with numbers for labels are left out.
        root: Folder that holds the sets; ``~`` is expanded.
        target: Number of the target to learn, from 0; by default all.
        missing: Molecules without a label: ``drop`` leaves them out, with a warning that counts them; ``error`` refuses them.
        encoding: ``one-hot``, or ``numbers`` for the codes themselves, whose order means nothing.
        download: Whether a raw file that is not there is fetched.
    """

    name: Annotated[_Molecules, BeforeValidator(_lower)]
    root: Annotated[str, MinLen(1)] = field(default="resources/data", metadata=_ELSEWHERE)
    target: NonNegativeInt | None = None
    missing: Literal["drop", "error"] = "drop"
    encoding: Literal["one-hot", "numbers"] = "one-hot"
    download: bool = field(default=True, metadata=_ELSEWHERE)

    def _recipe(self) -> tuple[str, str, dict[str, Any]]:
        return "MoleculeNet", self.root, {"name": self.name}

    def load(self) -> Dataset:
        """Read the molecules."""
        read = self._read()
        atoms, bonds = _molecule_categories() if self.encoding == "one-hot" else ((), ())
        return _with_targets(self.name, read, self.target, self.missing, categories=atoms, edge_categories=bonds)


@dataclass(frozen=True, kw_only=True)
class Planetoid(_Geometric):
    """A citation network (Cora, CiteSeer, PubMed) whose nodes are the samples, each with one class.

    The public split is in the groups ``z``: ``train``, ``validation``, ``test`` and ``unlabelled``, for the splitter ``ByZ``. The raw
    files are ``ROOT/NAME/raw/ind.NAME.x`` and so on; they are pickles, and refused if they hold anything but arrays and lists.

    Args:
        name: Which network.
        root: Folder that holds the networks; ``~`` is expanded.
        split: ``public``: 20 training nodes of each class; ``full``: all that are neither validation nor test nodes.
        normalize_features: Divide the words of each document by their number.
        forgets: ``node``: a model sees features and edges of no training node but those of its own partition, so that forgetting
            removes a node from the graph; ``label``: the graph is whole for everyone, and forgetting removes labels only;
            ``request``: the splitter ``GraphRequest`` says what is forgotten, nodes, edges or features, and who sees which graph.
        propagate: If not 0, samples are rows of numbers for models of tables (``Ridge``, ``LogisticRegression``, ``MLP``): the features of
            each node after this many means over its neighbours and itself. Needs ``forgets="request"``.
        download: Whether raw files that are not there are fetched.
    """

    name: Literal["Cora", "CiteSeer", "PubMed"]
    root: Annotated[str, MinLen(1)] = field(default="resources/data", metadata=_ELSEWHERE)
    split: Literal["public", "full"] = "public"
    normalize_features: bool = True
    forgets: Literal["node", "label", "request"] = "node"
    propagate: NonNegativeInt = field(default=0, metadata={"address": "changed"})
    download: bool = field(default=True, metadata=_ELSEWHERE)

    def _recipe(self) -> tuple[str, str, dict[str, Any]]:
        return "Planetoid", self.root, {"name": self.name, "split": self.split}

    def check(self) -> None:
        """What is propagated depends on the whole graph."""
        check_propagated(self.propagate, self.forgets, "Planetoid")

    def load(self) -> Dataset:
        """Read the network."""
        graph = self._read().graphs[0]
        if self.normalize_features:
            graph.x = graph.x / graph.x.sum(1, keepdim=True).clamp(min=1)
        return node_dataset(self.name, graph, self.forgets, propagate=self.propagate)


@dataclass(frozen=True, kw_only=True)
class GraphDataset(_Geometric):
    """Any data set class of PyTorch Geometric: many graphs with a class each, or one graph whose nodes have classes.

    Classes are the numbers that the library gives, from 0.

    Args:
        dataset: The class with its parameters, ``root`` among them.
        target: Number of the target to learn where there are several, from 0; by default all, as a multi-label task.
        missing: Graphs without a label: ``drop`` leaves them out, with a warning that counts them; ``error`` refuses them.
        missing_features: What stands for the features of nodes that have none: their one-hot degree (64 and more are one), or a 1.
        forgets: As for ``Planetoid``, where nodes are the samples and the graph has a ``train_mask`` (of several, the first).
        propagate: As for ``Planetoid``.
        download: Whether raw files that are not there are fetched.
    """

    version: ClassVar[int] = 2

    dataset: GeometricDataset
    target: NonNegativeInt | None = None
    missing: Literal["drop", "error"] = "drop"
    missing_features: MissingFeatures = "degree"
    forgets: Literal["node", "label", "request"] = "node"
    propagate: NonNegativeInt = field(default=0, metadata={"address": "changed"})
    download: bool = field(default=True, metadata=_ELSEWHERE)

    def _recipe(self) -> tuple[str, str, dict[str, Any]]:
        parameters = dict(self.dataset.parameters)
        return self.dataset.name, parameters.pop("root"), parameters

    def check(self) -> None:
        """What is propagated depends on the whole graph."""
        check_propagated(self.propagate, self.forgets, "GraphDataset")

    def _class(self) -> Any:
        torch_geometric("datasets", f"the data set {self.dataset.name}")
        return self.dataset.target()

    def load(self) -> Dataset:
        """Read the graphs."""
        read = self._read()
        graphs = read.graphs
        name = str(self.dataset.parameters.get("name", self.dataset.name))
        if len(graphs) == 1 and graphs[0].y is not None and len(graphs[0].y) == graphs[0].num_nodes:
            return node_dataset(name, graphs[0], self.forgets, self.missing_features, self.propagate)
        return _with_targets(name, read, self.target, self.missing, missing_features=self.missing_features)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _molecule_categories() -> tuple[tuple[int, ...], tuple[int, ...]]:
    smiles = torch_geometric("utils.smiles", "the data set MoleculeNet")
    atoms, bonds = (tuple(len(values) for values in each.values()) for each in (smiles.x_map, smiles.e_map))
    return atoms, bonds


def _raw_labels(name: str, graphs: list[Any]) -> Tensor:
    """One row of labels for each graph."""
    if not graphs:
        raise DataError(f'"{name}" has no graph')
    rows = [None if graph.y is None else graph.y.reshape(1, -1) for graph in graphs]
    for i, row in enumerate(rows):
        if row is None or row.shape != (rows[0].shape if rows[0] is not None else None):
            found = "no label" if row is None else f"{row.shape[1]} labels"
            raise DataError(f'"{name}": graph {i} has {found}, expected as many as the others')
    return torch.cat([row for row in rows if row is not None])


def _labels(name: str, graphs: list[Any]) -> Tensor:
    return class_labels(name, _raw_labels(name, graphs))


def _with_targets(name: str, read: GraphsRead, target: int | None, missing: str, **facts: Any) -> Dataset:
    """A data set for one of several targets, or for all of them; targets that are NaN are missing."""
    graphs, facts = read.graphs, facts | {"n_dropped": read.n_dropped, "dropped_rows": read.dropped}
    rows = torch.arange(len(graphs)) if read.rows is None else read.rows
    labels = _raw_labels(name, graphs)
    if target is not None:
        if target >= labels.shape[1]:
            raise DataError(f'"{name}" has the targets 0 to {labels.shape[1] - 1}, there is no target {target}')
        labels = labels[:, target : target + 1]
    gaps = torch.isnan(labels).any(1) if labels.is_floating_point() else torch.zeros(len(labels), dtype=torch.bool)
    n_gaps = int(gaps.sum())
    if n_gaps:
        which = "its label" if labels.shape[1] == 1 else "one of its labels"
        message = f'"{name}": {n_gaps} of {len(gaps)} graphs lack {which}'
        if missing == "error" or n_gaps == len(gaps):
            remedy = 'give missing = "drop"' if n_gaps < len(gaps) else ""
            choose = "choose one target" if labels.shape[1] > 1 else ""
            raise DataError(f"{message}; {' or '.join(filter(None, (choose, remedy))) or 'there is nothing to learn from'}")
        warnings.warn(f"{message} and are dropped, {len(gaps) - n_gaps} are left", stacklevel=3)
        graphs = [graph for graph, gap in zip(graphs, gaps.tolist(), strict=True) if not gap]
        labels, rows = labels[~gaps], rows[~gaps]
    if labels.shape[1] > 1:
        return graph_dataset(name, graphs, labels.to(torch.float32), task="multilabel", rows=rows, **facts)
    return graph_dataset(name, graphs, class_labels(name, labels), rows=rows, **facts)


def check_propagated(propagate: int, forgets: str, name: str) -> None:
    if propagate and forgets != "request":
        message = 'features are propagated over the whole graph, of which a GraphRequest says what goes: give forgets = "request"'
        raise InvalidParameters([Diagnostic(message, path=f"{name}.propagate")])
