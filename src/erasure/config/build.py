"""From a composed configuration to components: every name resolved, every parameter checked, every problem reported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from erasure.component import Call, Component, check_fields, component_slot, field_types, partition_fields
from erasure.config.tree import Node, Notice
from erasure.errors import ConfigError, Diagnostic, InvalidParameters, Position, RequirementNotMet, nearest, with_article
from erasure.registry.lookup import Registry, Resolved
from erasure.registry.upstream import READ_BY_NAME, Alias

__all__ = ["Builder", "PartitionUse", "SourceLocation"]

_SECTIONS_WITHOUT_CLASS = frozenset({"data", "predictor", "evaluator", "trace", "globals"})
_NODE_KEYS = frozenset({"class", "parameters", "label"})
_LABELLED = frozenset({"unlearner", "measure"})
"""Kinds whose ``label`` beside the class is their name in results."""


@dataclass(frozen=True)
class PartitionUse:
    """A place in the configuration that names a partition."""

    name: str
    path: str
    position: Position


@dataclass(frozen=True)
class SourceLocation:
    """Where in the configuration a component is written, and by which name.

    Args:
        path: Such as ``unlearners[2]``.
        position: File, line and column.
        name: The name as written.
        renamed: Parameters that are written by another name than ours.
        assumed: Parameters that the name sets where nothing is written.
    """

    path: str = ""
    position: Position = field(default_factory=Position)
    name: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    assumed: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Builder:
    """Builds components from nodes and remembers everything it had to say.

    Args:
        registry: Where names are looked up.
        problems: What is wrong; nothing is raised before all of it is known.
        notices: What was understood in a way worth saying.
        uses: Partitions that components name.
        labels: Label of the component at a path, where one was given.
        keys: Registered name of the component at a path.
        places: Each component that was built and where it is written; by identity, since equal ones may stand in several places.
        understood: Parameters of the component at a path that were renamed, and those that were assumed.
        bringing: Path of each component whose node may have splitters of its own, to the node and where in it they are.
        propagated: Values that a rule of ``experiment.parameters.propagate`` gave to their node.
        unread: Those of them without effect on some component: the parameter, where it was written, and what the component reads.
        read: Those of them that some component reads.
    """

    registry: Registry
    problems: list[Diagnostic] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    uses: list[PartitionUse] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    places: list[tuple[Component, SourceLocation]] = field(default_factory=list)
    understood: dict[str, tuple[dict[str, str], dict[str, Any]]] = field(default_factory=dict)
    bringing: dict[str, tuple[Node, tuple[str, ...]]] = field(default_factory=dict)
    propagated: frozenset[Node] = frozenset()
    unread: dict[Node, tuple[str, Position, frozenset[str]]] = field(default_factory=dict)
    read: set[Node] = field(default_factory=set)

    def build(self, node: Node, slot: type[Component], path: str) -> Component | None:
        """The component that ``node`` describes for a slot, or None if it cannot be built (the reason is in ``problems``)."""
        split = self._split(node, slot, path)
        if split is None:
            return None
        name, parameters = split
        resolved = self._resolve(name, node, slot, path)
        if resolved is None:
            return None
        if resolved.alias is not None and resolved.alias.dropped:
            self.notices.append(Notice(f'"{name}" is left out: {resolved.alias.dropped}', path, node.position, "left-out"))
            return None
        self.keys[path] = resolved.key
        self._beside(node, resolved, path)
        self._label(node, path)
        if resolved.alias is not None and resolved.alias.brings:
            self.bringing[path] = node, resolved.alias.brings
        if resolved.alias is not None and resolved.alias.note:
            self.notices.append(Notice(f'"{name}": {resolved.alias.note}', path, node.position, "unlike"))
        under = f"{path}.parameters" if node.get("parameters") is not None else path
        parameters = self._with_effect(parameters, resolved, under)
        if issubclass(resolved.cls, Call) or "path" in resolved.fixed:
            component = self._foreign(resolved, parameters, node, under)
        else:
            component = self._own(resolved, parameters, node, under, path)
        if component is not None:
            renamed, assumed = self.understood.get(path, ({}, {}))
            self.places.append((component, SourceLocation(path, node.position, name, renamed, assumed)))
        return component

    def build_list(self, node: Node, slot: type[Component], path: str) -> tuple[Component, ...]:
        """The components of an array; a node that stands for several is replaced by them."""
        built: list[Component] = []
        for number, element in enumerate(node.elements()):
            here = f"{path}[{number}]"
            spliced = self._spliced(element, slot)
            if spliced is not None:
                built += self.build_list(spliced, slot, here)
                continue
            component = self.build(element, slot, here)
            if component is not None:
                built.append(component)
        return tuple(built)

    def refuse_what_nothing_reads(self) -> None:
        """A problem for each parameter that a rule propagates and no component reads."""
        for value, (name, position, accepted) in self.unread.items():
            if value not in self.read:
                path = "experiment.parameters.propagate"
                self._problem(f'nothing in these sections reads "{name}"', position, path, "parameter", nearest(name, accepted))

    # Reading a node

    def _split(self, node: Node, slot: type[Component], path: str) -> tuple[str, dict[str, tuple[Position, Node]]] | None:
        """Name and parameters (each with the position of its key) of a node."""
        if isinstance(node.value, str):
            return node.value, {}
        if not node.is_object:
            self._problem(
                f"expected {with_article(slot.kind)}: a name, or an object with a class and parameters",
                node.position,
                path,
                "structure",
            )
            return None
        optional = slot.kind in _SECTIONS_WITHOUT_CLASS
        name_node = node.get("class")
        if name_node is None:
            if not optional:
                keys = [key for key, _ in node.items()]
                close = next((key for key in keys if nearest(key, ["class"])), None)
                found, hint = ", ".join(keys) or "nothing", nearest(close, ["class"]) if close else ""
                self._problem(f'{with_article(slot.kind)} needs a "class"; found {found}', node.position, path, "structure", hint)
                return None
            inner = node.get("parameters")
            return "", self._items(node, path) if inner is None else self._items(inner, f"{path}.parameters")
        if not isinstance(name_node.value, str):
            self._problem("expected the name of a class in quotes", name_node.position, f"{path}.class", "structure")
            return None
        parameters = node.get("parameters")
        return name_node.value, {} if parameters is None else self._items(parameters, f"{path}.parameters")

    def _beside(self, node: Node, resolved: Resolved, path: str) -> None:
        """What stands beside class and parameters: remarks, which are said to be ignored, and parameters in the wrong place."""
        if not node.is_object or (node.get("class") is None and node.get("parameters") is None):
            return
        accepted = _accepted(resolved) - (_NODE_KEYS if resolved.cls.kind in _LABELLED else {"class", "parameters"})
        for key, _ in node.items():
            where, position = f"{path}.{key}", node.key_position(key)
            if key in accepted:
                name = resolved.key.rpartition(":")[2]
                self._problem(f'"{key}" is a parameter of {name}', position, where, "structure", 'write it inside "parameters"')
            elif key in _NODE_KEYS:
                continue
            elif nearest(key, _NODE_KEYS) == (meant := 'did you mean "parameters"?'):
                self._problem(
                    f'"{key}" stands beside class, where nothing is read but parameters', position, where, "structure", meant
                )
            else:
                self.notices.append(Notice(f'"{key}" beside class and parameters is ignored', where, position))

    def _items(self, node: Node, path: str) -> dict[str, tuple[Position, Node]]:
        if node.value is None:
            return {}
        if not node.is_object:
            self._problem("expected an object with parameters", node.position, path, "structure")
            return {}
        return {key: (node.key_position(key), value) for key, value in node.items()}

    def _label(self, node: Node, path: str) -> None:
        label = node.get("label")
        if label is None:
            return
        if isinstance(label.value, str) and label.value.strip():
            self.labels[path] = label.value
        else:
            self._problem("expected a label in quotes", label.position, f"{path}.label", "structure")

    def _resolve(self, name: str, node: Node, slot: type[Component], path: str) -> Resolved | None:
        if not name:
            return Resolved(slot, slot.__name__)
        try:
            return self.registry.resolve(name, slot)
        except ConfigError as error:
            named = node.get("class")
            position, where = (node.position, path) if named is None else (named.position, f"{path}.class")
            self.problems += [Diagnostic(p.message, where, position, p.hint, p.kind) for p in error.problems]
            return None

    def _with_effect(
        self, parameters: dict[str, tuple[Position, Node]], resolved: Resolved, path: str
    ) -> dict[str, tuple[Position, Node]]:
        """The parameters without those that the component does not read, but that the format or a rule allows to be there."""
        accepted = _accepted(resolved, parameters) | {*resolved.cls.wraps}
        allowed = READ_BY_NAME.get(resolved.cls.kind, frozenset()) if resolved.alias is not None else frozenset()
        alias = resolved.alias or Alias(kind=resolved.cls.kind)
        kept: dict[str, tuple[Position, Node]] = {}
        for name, (position, value) in parameters.items():
            is_meant = name not in alias.ours or value not in self.propagated
            is_read = name in accepted and is_meant and value.plain() not in alias.elsewhere.get(name, ())
            if is_read and name in alias.ours:
                text = f'"{name}" is {resolved.key.rpartition(":")[2]}\'s own: upstream does not read it there'
                self.notices.append(Notice(text, f"{path}.{name}", position, "unlike"))
            if is_read or not (name in allowed or value in self.propagated):
                kept[name] = position, value
                self.read |= {value} & self.propagated
                continue
            if name not in allowed:
                self.unread[value] = name, position, accepted | self.unread.get(value, ("", position, frozenset()))[2]
            message = f'"{name}" has no effect: {resolved.key.rpartition(":")[2]} does not read it'
            self.notices.append(Notice(message, f"{path}.{name}", position, "no-effect"))
        return kept

    def _spliced(self, node: Node, slot: type[Component]) -> Node | None:
        name = node.get("class") if node.is_object else node
        if name is None or not isinstance(name.value, str):
            return None
        try:
            alias = self.registry.resolve(name.value, slot).alias
        except ConfigError:
            return None
        parameters = node.get("parameters")
        return parameters.get(alias.spliced) if alias is not None and alias.spliced and parameters is not None else None

    # Making components

    def _foreign(
        self, resolved: Resolved, parameters: Mapping[str, tuple[Position, Node]], node: Node, path: str
    ) -> Component | None:
        """A class or function of another library with its keyword arguments."""
        from erasure.config.signatures import argument_problems

        plain = {name: value.plain() for name, (_, value) in parameters.items()}
        target = Call(path=resolved.fixed["path"]).target()
        problems = argument_problems(target, plain)
        for name, message, hint in problems:
            position = parameters[name][0] if name in parameters else node.position
            self._problem(message, position, f"{path}.{name}" if name else path, "parameter", hint)
        if problems:
            return None
        return self._constructed(resolved.cls, {"path": resolved.fixed["path"], "parameters": plain}, node, path)

    def _own(
        self, resolved: Resolved, parameters: Mapping[str, tuple[Position, Node]], node: Node, under: str, path: str
    ) -> Component | None:
        """One of our components (or a plugin's)."""
        cls, alias = resolved.cls, resolved.alias or Alias(kind=resolved.cls.kind)
        given = {**self._derived(parameters, alias, node, under), **dict(self._renamed(parameters, alias, under))}
        types = field_types(cls)
        wraps = {name: each for name, each in {**cls.wraps, **alias.wrap}.items() if name not in types}
        given = _lifted(given, cls)
        wrapping = {name: given.pop(name) for name in wraps if name in given}
        self._remember(parameters, given, alias, path)
        for name, value in alias.defaults.items():
            given.setdefault(name, (node.position, Node.of(value)))
        before = len(self.problems)
        values: dict[str, Any] = {}
        for name, (_, value) in given.items():
            values[name] = self._value(value, types.get(name), f"{under}.{name}")
        converted, found = check_fields(cls, values)
        for problem in found:
            key_position, value = given.get(problem.field, (node.position, node))
            position = (
                _inner(value, problem.location).position if problem.field in types and problem.field in given else key_position
            )
            if component_slot(types.get(problem.field)) is not None and len(self.problems) > before and problem.field in given:
                continue  # the node inside has already said what is wrong
            where = f"{under}.{problem.location}" if problem.field in given else under
            hint = (
                ""
                if problem.field in types
                else _elsewhere(problem.field, types, value) or nearest(problem.field, alias.vocabulary)
            )
            self._problem(problem.message, position, where, "parameter", hint or problem.hint)
        if len(self.problems) > before:
            return None
        component = self._constructed(cls, converted, node, path)
        if component is None:
            return None
        self._note_partitions(component, given, node, under)
        return self._wrapped(component, {wraps[name]: (name, *each) for name, each in wrapping.items()}, under, path)

    def _renamed(
        self, parameters: Mapping[str, tuple[Position, Node]], alias: Alias, path: str
    ) -> Iterator[tuple[str, tuple[Position, Node]]]:
        seen: dict[str, str] = {}
        taken = {name for rule in alias.derived.values() for name in rule.takes}
        for name, (position, value) in parameters.items():
            if name in taken:
                continue
            if name in alias.ignored:
                text = f'"{name}" has no effect: {alias.ignored[name]}'
                self.notices.append(Notice(text, f"{path}.{name}", position, "no-effect"))
                continue
            ours = alias.rename.get(name, name)
            if ours in seen:
                first = seen[ours]
                if value in self.propagated or value.plain() == parameters[first][1].plain():
                    text = f'"{name}" has no effect: "{first}", which is there too, is the same parameter'
                    self.notices.append(Notice(text, f"{path}.{name}", position, "no-effect"))
                else:
                    self._problem(f'"{name}" and "{first}" set the same parameter', position, f"{path}.{name}", "parameter")
                continue
            seen[ours] = name
            yield ours, (position, value)

    def _derived(
        self, parameters: Mapping[str, tuple[Position, Node]], alias: Alias, node: Node, path: str
    ) -> dict[str, tuple[Position, Node]]:
        """Our parameters that rules make of upstream's."""
        plain = {name: value.plain() for name, (_, value) in parameters.items()} if alias.derived else {}
        derived: dict[str, tuple[Position, Node]] = {}
        for ours, rule in alias.derived.items():
            written = next((name for name in rule.takes if name in parameters), None)
            position, where = (node.position, path) if written is None else (parameters[written][0], f"{path}.{written}")
            try:
                value, said = rule.made(plain)
            except ValueError as error:
                self._problem(str(error), position, where, "parameter")
                continue
            if said:
                self.notices.append(Notice(f'"{written}": {said}', where, position, "no-effect"))
            if value is not None:
                derived[ours] = (position, _written_at(value, position))
        return derived

    def _remember(self, parameters: Mapping[str, Any], given: Mapping[str, Any], alias: Alias, path: str) -> None:
        renamed = {name: ours for name, ours in alias.rename.items() if name in parameters and name != ours}
        renamed |= {
            name: ours for ours, rule in alias.derived.items() for name in rule.takes if name in parameters and name != ours
        }
        renamed |= {name: f"{wrapper}.{ours}" for name, (wrapper, ours) in alias.wrap.items() if name in parameters}
        assumed = {name: value for name, value in alias.defaults.items() if name not in given}
        assumed |= {
            ours: given[ours][1].plain()
            for ours, rule in alias.derived.items()
            if ours in given and not {*rule.takes} & {*parameters}
        }
        if renamed or assumed:
            self.understood[path] = renamed, assumed

    def _value(self, node: Node, annotation: Any, path: str) -> Any:
        slot = component_slot(annotation) if annotation is not None else None
        if slot is None or node.value is None:
            return node.plain()
        if isinstance(node.value, list):
            return self.build_list(node, slot, path)
        component = self.build(node, slot, path)
        return (component,) if component is not None and _is_tuple(annotation) else component

    def _constructed(self, cls: type[Component], values: Mapping[str, Any], node: Node, path: str) -> Component | None:
        try:
            return cls(**values)
        except (InvalidParameters, RequirementNotMet) as error:
            for problem in getattr(error, "problems", (Diagnostic(str(error)),)):
                self._problem(problem.message, node.position, path, "parameter", problem.hint)
            return None

    def _note_partitions(self, component: Component, given: Mapping[str, tuple[Position, Node]], node: Node, path: str) -> None:
        read = getattr(component, "partitions", None)
        roles = read() if callable(read) else None
        used = set(roles.values() if isinstance(roles, Mapping) else roles) if roles is not None else None
        for name in partition_fields(type(component)):
            value = getattr(component, name)
            for partition in (value,) if isinstance(value, str) else value or ():
                if used is None or partition in used:
                    position = given[name][1].position if name in given else node.position
                    self.uses.append(PartitionUse(partition, f"{path}.{name}", position))

    def _wrapped(
        self, component: Component, wrapping: Mapping[tuple[str, str], tuple[str, Position, Node]], under: str, path: str
    ) -> Component | None:
        """The component inside others: each wrapper's name and parameter to where and how that is written."""
        for (wrapper, parameter), (name, position, value) in wrapping.items():
            if value.value in (-1, None, []):
                continue
            slot = _root_slot(component)
            resolved = self._resolve(wrapper, Node.of(wrapper), slot, path)
            if resolved is None:
                return None
            types, before = field_types(resolved.cls), len(self.problems)
            inner = next(each for each, annotation in types.items() if component_slot(annotation) is slot)
            given = self._value(value, types[parameter], f"{under}.{name}")
            if len(self.problems) > before:
                return None
            converted, found = check_fields(resolved.cls, {inner: component, parameter: given})
            for problem in found:
                self._problem(problem.message, position, f"{under}.{name}", "parameter", problem.hint)
            if found:
                return None
            component = resolved.cls(**converted)
        return component

    def _problem(self, message: str, position: Position, path: str, kind: str, hint: str = "") -> None:
        self.problems.append(Diagnostic(message, path, position, hint, kind))


def _accepted(resolved: Resolved, given: Iterable[str] = ()) -> frozenset[str]:
    """Names of parameters, ours and upstream's; of what is ``given``, what a class of another library takes by any name as well."""
    if "path" in resolved.fixed:
        from erasure.config.signatures import argument_problems, arguments_of

        target = Call(path=resolved.fixed["path"]).target()
        unknown = {name for name, _, _ in argument_problems(target, dict.fromkeys(given))}
        return frozenset((*arguments_of(target), *(name for name in given if name not in unknown)))
    return frozenset((*field_types(resolved.cls), *(resolved.alias.vocabulary if resolved.alias is not None else ())))


def _elsewhere(name: str, types: Mapping[str, Any], value: Node) -> str:
    """Where to write a parameter that belongs to the optimizer inside a component; empty if it does not."""
    ours = "lr" if name == "learning_rate" else name
    if "optimizer" not in types or ours not in {"lr", "momentum", "weight_decay", "betas", "nesterov"}:
        return ""
    given = json.dumps({"class": "SGD" if ours in {"momentum", "nesterov"} else "Adam", "parameters": {ours: value.plain()}})
    return f'write it inside the optimizer: "optimizer": {given}'


def _written_at(value: Any, position: Position) -> Node:
    """A plain value as a tree all of which stands where ``position`` says."""
    if isinstance(value, dict):
        return Node({name: _written_at(each, position) for name, each in value.items()}, position)
    if isinstance(value, list):
        return Node([_written_at(each, position) for each in value], position)
    return Node(value, position)


def _lifted(given: dict[str, tuple[Position, Node]], cls: type[Component]) -> dict[str, tuple[Position, Node]]:
    """Parameters that wrap a component, moved to it from the calls of other libraries that it holds: inside or beside parameters."""
    lifted = dict(given)
    for name in cls.wraps:
        for holder, annotation in field_types(cls).items():
            slot = component_slot(annotation)
            if holder not in given or slot is None or not issubclass(slot, Call):
                continue
            position, call = given[holder]
            inside, beside = call.get("parameters"), call.get(name)
            within = None if inside is None else inside.get(name)
            if inside is not None and within is not None:
                call = call.with_child("parameters", _without(inside, name))
            lifted[holder] = (position, _without(call, name))
            found = [each for each in (within, beside, lifted[name][1] if name in lifted else None) if each is not None]
            if within is not None or beside is not None:
                elements = [element for each in found for element in (each.elements() if each.is_list else (each,))]
                lifted[name] = (found[0].position, Node(elements, found[0].position))
    return lifted


def _without(node: Node, key: str) -> Node:
    """An object without one of its keys; any other node as it is."""
    if node.get(key) is None:
        return node
    return Node({name: child for name, child in node.items() if name != key}, node.position, node.keys)


def _is_tuple(annotation: Any) -> bool:
    from typing import get_args, get_origin

    return get_origin(annotation) is tuple or any(_is_tuple(argument) for argument in get_args(annotation))


def _root_slot(component: Component) -> type[Component]:
    """The contract class (such as ``Unlearner``) that a component belongs to."""
    slots = [
        cls for cls in type(component).__mro__ if issubclass(cls, Component) and cls is not Component and "kind" in vars(cls)
    ]
    return slots[-1]


def _inner(node: Node, location: str) -> Node:
    """The element of ``node`` at ``name[1][0]``, as far as it exists."""
    for part in location.split("[")[1:]:
        index = int(part.rstrip("]"))
        if not isinstance(node.value, list) or index >= len(node.value):
            break
        node = node.value[index]
    return node
