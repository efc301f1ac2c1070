"""A graph network of one's own, and the graph or graphs that it was trained on, read as methods want them."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from erasure.data.dataset import Dataset
from erasure.data.graph_splitters import GraphEdgesSplitter, GraphNodesSplitter, GraphRequestSplitter
from erasure.data.graphs import class_labels, graph_column, node_dataset
from erasure.engine.given_checks import chosen_positions, positions
from erasure.engine.given_data import Brought, located, named_error, read_outputs
from erasure.errors import DataError, ErasureError, RequirementNotMet, UnlearningWarning
from erasure.training.graph_requests import RequestedGraph
from erasure.training.graphs import GraphBatch, GraphColumn, NodeBatch, NodeColumn, torch_geometric
from erasure.training.predictor import ModelInput
from erasure.training.randomness import isolated
from erasure.training.trial import gives_probabilities, initialised, try_one_sample, try_outputs
from erasure.types import Task

__all__ = [
    "GivenGraph",
    "OwnGraphNetwork",
    "brought_graphs",
    "given_graphs",
    "given_request",
    "is_graph",
    "is_graphs",
    "without_caches",
]

_CACHED = (
    "convolutions with cached=True go on with the edges of the first call, whatever has been forgotten since: "
    "the model that comes back has cached=False"
)
_PARTS = ("x", "edge_index", "edge_attr", "edge_weight", "y", "train_mask", "val_mask", "test_mask")
_KINDS = ("nodes", "edges", "features_of")
_FORMS = 'forget={"nodes": [17, 4]}, {"edges": [[3, 17], [4, 9]]} or {"features_of": [17]}, of which "columns" may name some'


@dataclass(frozen=True, eq=False)
class GivenGraph:
    """A graph with a request, or several graphs, and who is in which part.

    Args:
        x: The column of samples: nodes as they are seen in the graph before and after the request, or graphs.
        y: Their labels.
        partitions: Ids of each part.
        is_flat: Whether the one feature of an edge is a number for the network, and no row of one number.
    """

    x: RequestedGraph | GraphColumn
    y: Tensor
    partitions: Mapping[str, Tensor]
    is_flat: bool = False


class OwnGraphNetwork(nn.Module):
    """A network of somebody else's that takes a graph by its tensors, or as a ``Data``, called with this package's batches.

    Args:
        network: Whose ``forward`` has the arguments ``x`` and ``edge_index`` and may have ``edge_weight``, ``edge_attr`` and ``batch``;
            takes features and edges as its first two; or takes one argument, which is then a ``torch_geometric.data.Data``.
        is_flat: As for :class:`GivenGraph`.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, *, is_flat: bool) -> None:
        super().__init__()
        self.network = network
        self.is_flat: bool = is_flat

    @classmethod
    def of(cls, network: nn.Module, *, is_flat: bool) -> OwnGraphNetwork:
        """One whose class has the name of the network's, which is what messages call it."""
        kind = type(network)
        named: type[OwnGraphNetwork] = type(kind.__name__, (cls,), {"__module__": kind.__module__, "__doc__": cls.__doc__})
        return named(network, is_flat=is_flat)

    def forward(self, inputs: NodeBatch | GraphBatch) -> Any:
        """What the network returns, with a row for each sample."""
        outputs = self._called(inputs)
        if isinstance(inputs, GraphBatch):
            return outputs
        return _by_tensor(outputs, functools.partial(_chosen, n_nodes=inputs.n_nodes, rows=inputs.rows))

    def _called(self, inputs: NodeBatch | GraphBatch) -> Any:
        further = self._further(inputs)
        taken = inspect.signature(self.network.forward).parameters
        names, rest = list(taken), inspect.Parameter.VAR_POSITIONAL
        required = [
            each
            for each in taken.values()
            if each.default is each.empty and each.kind not in {rest, inspect.Parameter.VAR_KEYWORD}
        ]
        named = {name: value for name, value in further.items() if name in taken}
        if {"x", "edge_index"} <= set(names):
            return self.network(x=inputs.x, edge_index=inputs.edge_index, **named)
        if len(required) == 1 and len(names) == 1:
            data = torch_geometric("data", "a network that takes a Data").Data
            return self.network(data(x=inputs.x, edge_index=inputs.edge_index, num_nodes=len(inputs.x), **further))
        of_graphs = () if isinstance(inputs, NodeBatch) or "batch" in named else (further["batch"],)
        return self.network(inputs.x, inputs.edge_index, *of_graphs, **named)

    def _further(self, inputs: NodeBatch | GraphBatch) -> dict[str, Tensor]:
        """What there is beside features and edges, by PyTorch Geometric's names."""
        found = {"batch": inputs.batch} if isinstance(inputs, GraphBatch) else {}
        if inputs.edge_attr is not None:
            is_weight = isinstance(inputs, NodeBatch) and inputs.weighted
            values = inputs.edge_attr[:, 0] if is_weight or self.is_flat else inputs.edge_attr
            found["edge_weight" if is_weight else "edge_attr"] = values
        return found


def _taken_out(made: nn.Module) -> nn.Module:
    """The network that was given, of what a method returned."""
    assert isinstance(made, OwnGraphNetwork)  # noqa: S101 - narrows the type
    return made.network


def _chosen(values: Tensor, n_nodes: int, rows: Tensor) -> Tensor:
    if not values.ndim or len(values) != n_nodes:
        raise RequirementNotMet(
            f"the model returns a tensor of shape {tuple(values.shape)} for a graph of {n_nodes} nodes, "
            "expected a row of logits for each node"
        )
    return values.index_select(0, rows)


def _by_tensor(outputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What a network returns with each of its tensors changed: one, a pair, or an object with logits, of which only these stay."""
    if isinstance(outputs, Tensor):
        return change(outputs)
    if isinstance(outputs, tuple | list):
        return tuple(_by_tensor(each, change) for each in outputs)
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    return change(logits) if isinstance(logits, Tensor) else outputs


def without_caches(network: nn.Module) -> bool:
    """Have convolutions look at the edges that they are given; whether some would have used those of an earlier call instead.

    A convolution with ``cached=True`` goes on with the graph that it has seen first, whatever has been forgotten since.
    """
    found = False
    for module in network.modules():
        kept = [name for name in vars(module) if name.startswith("_cached")]
        if kept and getattr(module, "cached", False) is True:
            found, module.cached = True, False  # type: ignore[assignment]
            for name in kept:
                setattr(module, name, None)
    return found


def is_graph(data: Any) -> bool:
    """Whether it is one graph, as a ``Data`` or a mapping of its tensors."""
    if isinstance(data, Mapping):
        return "edge_index" in data
    return hasattr(data, "edge_types") or (hasattr(data, "edge_index") and not isinstance(data, list | tuple))


def is_graphs(data: Any) -> bool:
    """Whether it is a sequence of graphs, or of graphs and their labels, such as a data set of PyTorch Geometric."""
    if is_graph(data):
        return False
    if not isinstance(data, list | tuple):  # reading a sample of some other data set may draw random numbers
        return hasattr(data.dataset if isinstance(data, Subset) else data, "num_node_features")
    first = data[0] if len(data) else None
    return is_graph(first[0] if isinstance(first, tuple | list) and len(first) else first)


def brought_graphs(model: nn.Module, *, task: Task | None, batch_size: int | None, **given: Any) -> Brought:
    """A network and its graph, or its graphs.

    Args:
        model: A private copy of the network, on the device.
        task: How labels are read.
        batch_size: Samples per step; by default all nodes of a graph, and 64 of several graphs.
        **given: ``forget``, ``retain``, ``train``, ``validation`` and ``test`` as :func:`erasure.unlearn` takes them.

    Raises:
        DataError: If they cannot be used.
        RequirementNotMet: If the network does not take them.
    """
    if given["forget"] is None:
        raise DataError(f"there is nothing to forget: give what is forgotten of a graph as {_FORMS}, or graphs as forget=")
    if is_graph(given["train"]):
        further = [name for name in ("retain", "validation", "test") if given[name] is not None]
        if further:
            raise DataError(
                f"of one graph, train_mask, val_mask and test_mask say who is trained on and who is not; leave {further[0]} out"
            )
        found = given_request(given["train"], given["forget"], model)
    elif is_graph(given["forget"]) or is_graph(given["retain"]):
        raise DataError(f"give the whole graph as train=, and what is forgotten of it as {_FORMS}")
    else:
        chosen = chosen_positions(given["forget"], given["retain"], given["train"])
        parts = {name: each for name, each in given.items() if each is not None and (not chosen or name not in chosen)}
        found = given_graphs(parts, model)
        found = replace(found, partitions=located(found.partitions, chosen))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x, y = found.x.to(device), found.y.to(device)
    partitions = {name: ids.to(device) for name, ids in found.partitions.items()}
    is_cached = without_caches(model)
    is_own = not type(model).__module__.startswith("erasure.")  # networks of this package take its batches as they are
    network = OwnGraphNetwork.of(model, is_flat=found.is_flat) if is_own else model
    model_input, logits, tried = _input_of(network, x, y, partitions["train"], task)
    return Brought(
        x=x,
        y=y,
        partitions=partitions,
        model=network,
        model_input=model_input,
        logits=logits,
        tried=tried,
        batch_size=batch_size or (x.n_nodes if isinstance(x, RequestedGraph) else 64),
        restored=_taken_out if is_own else lambda made: made,
        remark=_CACHED if is_cached else "",
    )


@torch.no_grad()
def _input_of(
    network: nn.Module, x: RequestedGraph | GraphColumn, y: Tensor, ids: Tensor, told: Task | None
) -> tuple[ModelInput, Tensor, Tensor]:
    """Shape and task, read off the logits of some samples; these logits; and their labels."""
    reason = initialised(network)
    if reason is not None:
        raise RequirementNotMet(reason)
    first = ids[:2]
    batch = x.gather(first)
    try:
        with isolated(0, y.device):
            logits = try_outputs(network, batch, int(y.max()) + 1)
            if len(first) > 1:
                try_one_sample(network, x.gather(first[:1]), logits)
            remark = gives_probabilities(network, batch)
    except ErasureError:
        raise
    except Exception as error:  # whatever a forward pass of somebody else's raises
        raise DataError(f"the model does not take this graph ({x.n_features} features a node): {named_error(error)}") from error
    if remark is not None:
        warnings.warn(remark, UnlearningWarning, stacklevel=5)
    task, n_classes = read_outputs(logits, y, len(first), told)
    return ModelInput(x.sample_shape, n_classes, task, "graph"), logits, y.index_select(0, first)


# One graph


def given_request(train: Any, forget: Any, model: nn.Module) -> GivenGraph:
    """A graph of which nodes, edges or features are forgotten.

    Args:
        train: A ``torch_geometric.data.Data``, or a mapping of its tensors: ``x``, ``edge_index``, ``y``, and where there are any
            ``edge_attr`` or ``edge_weight``, ``train_mask``, ``val_mask`` and ``test_mask``. Without a ``train_mask`` all nodes that are
            in no other mask are training nodes.
        forget: What is forgotten: a mapping with ``nodes`` (numbers, or a mask), ``edges`` (pairs of nodes), or ``features_of`` nodes
            and, for some of their features alone, ``columns``; numbers or a mask by themselves are nodes.
        model: For the type of its weights.

    Returns:
        Training and forgotten nodes as they are seen in the graph before the request, the retained and all others in that after it.

    Raises:
        DataError: If the graph or the request cannot be used.
    """
    graph = _parts(train)
    _check_parts(graph)
    weights = graph.edge_weight
    if weights is not None and graph.edge_attr is not None:
        raise DataError("the graph has edge_weight and edge_attr, and edges have features of one kind; leave one of them out")
    data = node_dataset("train", graph, "request")
    data = _with_training_nodes(data, graph)
    column = data.x
    assert isinstance(column, NodeColumn)  # noqa: S101 - narrows the type
    if weights is not None:
        n_edges = column.edge_index.shape[1]
        if weights.numel() != n_edges:
            raise DataError(f"edge_weight holds {weights.numel()} numbers; one for each of the {n_edges} edges is expected")
        column = replace(column, edge_attr=weights.float().reshape(-1, 1), weighted=True)
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    attributes = None if column.edge_attr is None else column.edge_attr.to(own)
    data = replace(data, x=replace(column, x=column.x.to(own), edge_attr=attributes))
    assert data.z is not None  # noqa: S101 - _with_training_nodes gives groups
    parts = {name: (data.z == code).nonzero().flatten() for code, name in enumerate(data.z_names[:3])}
    partitions = {"all": torch.arange(len(column)), **{name: ids for name, ids in parts.items() if len(ids) or name == "train"}}
    deployed = tuple(name for name in ("validation", "test") if name in partitions)
    chosen, request = _asked(forget, len(column))
    request = request.replace(deployed=deployed)
    generator = np.random.default_rng(0)  # nothing is drawn
    partitions["forgotten"], _ = chosen.split(data, partitions, generator)
    cut = dict(zip(request.parts, request.split(data, partitions, generator), strict=True))
    data = request.prepared(data, partitions)
    partitions = {**partitions, **cut}
    assert isinstance(data.x, RequestedGraph)  # noqa: S101 - the splitter has made it
    flat = graph.edge_attr is not None and graph.edge_attr.ndim == 1
    names = ("train", "forget", "retain", *deployed)
    return GivenGraph(data.x, data.y, {name: partitions[name] for name in names}, flat)


def _parts(data: Any) -> SimpleNamespace:
    """The tensors of a graph on the CPU; None for what it does not have."""
    if hasattr(data, "edge_types"):
        raise DataError("a graph of several kinds of nodes or edges can neither be learned from nor forgotten from")
    found: dict[str, Any] = {}
    for name in _PARTS:
        value = data.get(name) if isinstance(data, Mapping) else getattr(data, name, None)
        try:
            found[name] = None if value is None else torch.as_tensor(value).detach().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{name} of the graph is {type(value).__name__}, expected a tensor") from error
    return SimpleNamespace(**found, num_nodes=0 if found["x"] is None else len(found["x"]))


def _check_parts(graph: SimpleNamespace) -> None:
    """That a graph has what a network of nodes learns from."""
    if graph.edge_index is None:
        raise DataError(
            "the graph has no edge_index; one with a sparse adj_t alone has it by torch_geometric.utils.to_edge_index"
        )
    if graph.edge_index.is_floating_point() or graph.edge_index.is_complex():
        raise DataError(f"edge_index holds numbers of nodes, and its type is {graph.edge_index.dtype}")
    if graph.x is None:
        raise DataError(
            "the graph has no features x; a network that knows nodes by their numbers cannot be shown a graph without some"
        )
    if graph.x.is_complex() or graph.x.ndim != 2:
        raise DataError(f"x has the shape {tuple(graph.x.shape)}, {graph.x.dtype}; expected a row of features for each node")
    if graph.y is None:
        raise DataError("the graph has no y, the class of each node")
    if len(graph.x) != len(graph.y):
        raise DataError(f"the graph has features of {len(graph.x)} nodes, and classes of {len(graph.y)}")


def _with_training_nodes(data: Dataset, graph: SimpleNamespace) -> Dataset:
    """The data with groups: its own, or all nodes that are in no other mask as training nodes."""
    if data.z is not None:
        return data
    z = torch.zeros(len(data.y), dtype=torch.int64)
    names = ("train", "validation", "test", "unlabelled")
    for code, name in ((1, "val_mask"), (2, "test_mask")):
        mask = getattr(graph, name)
        if mask is not None:
            z[mask.bool() if mask.dtype == torch.bool or len(mask) == len(z) else mask.long()] = code
    return replace(data, z=z, z_names=names)


def _asked(forget: Any, n_nodes: int) -> tuple[GraphNodesSplitter | GraphEdgesSplitter, GraphRequestSplitter]:
    """The splitters that say what is forgotten."""
    asked = dict(forget) if isinstance(forget, Mapping) else {"nodes": forget}
    kinds = [name for name in _KINDS if name in asked]
    unknown = sorted(str(name) for name in set(asked) - {*_KINDS, "columns"})
    if unknown or len(kinds) != 1 or ("columns" in asked and kinds != ["features_of"]):
        there = f"; found {', '.join(map(str, asked)) or 'nothing'}"
        raise DataError(f"say what is forgotten of the graph: {_FORMS}{there}")
    (kind,) = kinds
    if kind == "edges":
        pairs = tuple((int(first), int(second)) for first, second in _pairs(asked["edges"]).tolist())
        return GraphEdgesSplitter(parts_names=("forgotten", "-"), pairs=pairs), GraphRequestSplitter(edges="forgotten")
    numbers = _nodes(asked[kind], n_nodes, kind)
    nodes = GraphNodesSplitter(parts_names=("forgotten", "-"), ref_data="all", nodes=numbers)
    if kind == "nodes":
        return replace(nodes, ref_data="train"), GraphRequestSplitter(nodes="forgotten")
    columns = asked.get("columns")
    chosen = None if columns is None else tuple(_whole(columns, "columns").tolist())
    return nodes, GraphRequestSplitter(features_of="forgotten", columns=chosen)


def _nodes(given: Any, n_nodes: int, what: str) -> tuple[int, ...]:
    if hasattr(given, "__len__") and not isinstance(given, str) and not len(given):
        raise DataError(f"{what} names nothing that is to be forgotten")
    return tuple(positions(given, n_nodes, what, "the graph").tolist())


def _pairs(given: Any) -> Tensor:
    pairs = _whole(given, "edges")
    if pairs.ndim == 2 and pairs.shape[1] == 2 and len(pairs):
        return pairs
    hint = "; of an edge_index give edge_index.T" if pairs.ndim == 2 and len(pairs) == 2 else ""
    raise DataError(
        f"edges are pairs of nodes, of shape (number of edges, 2), and these have the shape {tuple(pairs.shape)}{hint}"
    )


def _whole(given: Any, what: str) -> Tensor:
    """Whole numbers from 0 as a tensor."""
    try:
        array = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    except ValueError as error:
        raise DataError(f"{what} must be whole numbers, each row with as many: {error}") from error
    if not array.size:
        raise DataError(f"{what} names nothing that is to be forgotten")
    if array.dtype.kind not in "iu" or (array.size and int(array.min()) < 0):
        odd = "" if array.dtype.kind not in "iu" else f", and {int(array.min())} is below"
        raise DataError(f"{what} must be whole numbers from 0{odd or f'; these are {array.dtype}'}")
    return torch.from_numpy(array.astype(np.int64))


# Many graphs


def given_graphs(parts: Mapping[str, Any], model: nn.Module) -> GivenGraph:
    """Several graphs with a class each, in parts.

    Args:
        parts: Name of each part to its graphs: a sequence of ``Data`` with ``y``, or of pairs of one and its label.
        model: For the type of its weights.

    Raises:
        DataError: If some cannot be used; names the first.
    """
    graphs, labels, partitions = list[Any](), list[Tensor](), dict[str, Tensor]()
    for name, given in parts.items():
        if not is_graphs(given):
            raise DataError(f"{name} holds {type(given).__name__}, and the other parts graphs: give it in the same form")
        partitions[name] = torch.arange(len(graphs), len(graphs) + len(given))
        for number in range(len(given)):
            graph, label = _labelled(given[number], f"{name}: graph {number}")
            graphs.append(graph)
            labels.append(label)
    if "train" not in partitions and "retain" in partitions:
        partitions["train"] = torch.cat([partitions["forget"], partitions["retain"]])
    column = graph_column("/".join(parts), graphs)
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    attributes = None if column.edge_attr is None else column.edge_attr.to(own)
    flat = graphs[0].edge_attr is not None and graphs[0].edge_attr.ndim == 1
    return GivenGraph(
        replace(column, x=column.x.to(own), edge_attr=attributes), class_labels("graphs", torch.cat(labels)), partitions, flat
    )


def _labelled(sample: Any, what: str) -> tuple[SimpleNamespace, Tensor]:
    is_pair = isinstance(sample, tuple | list)
    if is_pair and len(sample) != 2:
        raise DataError(f"{what} has {len(sample)} parts, expected a graph and its label")
    graph = _parts(sample[0] if is_pair else sample)
    label = sample[1] if is_pair else graph.y
    if graph.edge_index is None or graph.x is None or not len(graph.x):
        raise DataError(f"{what} needs edge_index and a row of features x for each of its nodes")
    if label is None:
        raise DataError(f"{what} has no label: give Data(…, y=…), or a pair of the graph and its label")
    try:
        value = torch.as_tensor(label).detach().cpu().reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} has the label {label!r}, expected a class: 0, 1, …") from error
    if len(value) == len(graph.x) > 1:
        raise DataError(f"{what} has a label for each of its nodes; give this graph by itself, such as dataset[0], as train=")
    if len(value) != 1:
        raise DataError(f"{what} has {len(value)} labels, expected one class")
    return graph, value
