"""Parameters that one place of a configuration gives to many: ``experiment.parameters.propagate``."""

from __future__ import annotations

from dataclasses import dataclass, field

from erasure.config.tree import MAX_DEPTH, Loaded, Node, Notice, child_path
from erasure.errors import ConfigError, Diagnostic, Position, nearest

__all__ = ["propagate"]

_RULES = "experiment.parameters.propagate"


def propagate(root: Node) -> Loaded:
    """A tree in which the rules of ``experiment.parameters.propagate`` are carried out.

    A rule is ``{"in_sections": ["unlearners/parameters", …], "params": {…}}``. A section is the keys on the way, joined by
    slashes; where the way meets a list it goes on in each element that has the next key. A section that ends at a node means
    its ``parameters``, which are created if the node has none; a bare string is a node.

    A value that is there already stays, with a notice if the rule has another one, so that the rule says what holds in
    general and a node says what is special about it. What a component does not read has no effect on it, which the builder says.

    Args:
        root: The composed tree; it is not changed.

    Raises:
        ConfigError: With every rule that is not of this form and every section that is nowhere.
    """
    rules: Node | None = root
    for name in _RULES.split("."):
        rules = rules.get(name) if rules is not None else None
    if rules is None:
        return Loaded(root)
    run = _Propagation()
    if not rules.is_list:
        run.problem(f"expected a list of rules, found {rules.kind}", rules.position, _RULES)
    for index, rule in enumerate(rules.elements()):
        changed = run.applied(root, rule, child_path(_RULES, index))
        if _is_too_deep(changed):
            run.problem(
                f"makes the configuration nested deeper than {MAX_DEPTH} levels", rule.position, child_path(_RULES, index)
            )
            break
        root = changed
    if run.problems:
        raise ConfigError(run.problems)
    return Loaded(root, run.notices, frozenset(run.given))


@dataclass
class _Propagation:
    problems: list[Diagnostic] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    dead_ends: list[tuple[str, str]] = field(default_factory=list)
    given: set[Node] = field(default_factory=set)

    def problem(self, message: str, position: Position, path: str, hint: str = "") -> None:
        self.problems.append(Diagnostic(message, path=path, position=position, hint=hint, kind="structure"))

    def applied(self, root: Node, rule: Node, path: str) -> Node:
        """The tree after one rule."""
        sections, params = rule.get("in_sections"), rule.get("params")
        if (
            sections is None
            or params is None
            or not params.is_object
            or not (sections.is_list or isinstance(sections.value, str))
        ):
            form = '{"in_sections": ["unlearners/parameters"], "params": {…}}'
            self.problem(f"expected a rule such as {form}", rule.position, path)
            return root
        for section in sections.elements() if sections.is_list else (sections,):
            steps = section.value.strip("/").split("/") if isinstance(section.value, str) else []
            if not all(steps) or not steps:
                self.problem("expected the keys of a section joined by /", section.position, f"{path}.in_sections")
                continue
            self.dead_ends.clear()
            changed = self._reached(root, steps, params, "")
            if changed is None:
                why, hint = self.dead_ends[0]
                self.problem(f'no section "{section.value}": {why}', section.position, f"{path}.in_sections", hint)
            else:
                root = changed
        return root

    def _reached(self, node: Node, steps: list[str], params: Node, path: str) -> Node | None:
        """The node with the parameters at the end of ``steps``; None, and why in ``dead_ends``, if the way ends before."""
        if isinstance(node.value, list):
            reached = [self._reached(child, steps, params, child_path(path, i)) for i, child in enumerate(node.value)]
            if node.value and all(child is None for child in reached):
                return None
            return Node([new or old for new, old in zip(reached, node.value, strict=True)], node.position)
        if not steps:
            return self._received(node, params, path)
        step, *rest = steps
        if step == "parameters":
            node = node.as_component()
        child = node.get(step)
        if child is None and step == "parameters" and _takes_parameters(node):
            child = Node({}, node.position)
        if child is None:
            names = [name for name, _ in node.items()]
            there = f"{path or 'the configuration'} {'has ' + ', '.join(names) if names else 'is ' + node.kind}"
            self.dead_ends.append((f'no "{step}", {there}', nearest(step, names)))
            return None
        here = child_path(path, step)
        into_parameters = step == "parameters" and not rest
        changed = self._merged(child, params, here) if into_parameters else self._reached(child, rest, params, here)
        return None if changed is None else node.with_child(step, changed)

    def _received(self, node: Node, params: Node, path: str) -> Node | None:
        """The node at the end of a section with the parameters in it: in its own ``parameters`` if it is a component."""
        node = node.as_component()
        if node.get("class") is None and node.get("parameters") is None:
            return self._merged(node, params, path)
        inner = self._merged(node.get("parameters") or Node({}, node.position), params, child_path(path, "parameters"))
        return None if inner is None else node.with_child("parameters", inner)

    def _merged(self, node: Node, params: Node, path: str) -> Node | None:
        """The object with the parameters it does not have yet; None if it is no object."""
        if not node.is_object:
            self.dead_ends.append((f"{path} is {node.kind}, expected an object", ""))
            return None
        for name, value in params.items():
            existing = node.get(name)
            if existing is None:
                node = node.with_child(name, value, params.key_position(name))
                self.given.add(value)
            elif existing.plain() != value.plain():
                message = f'keeps its "{name}"; the other one, of {_RULES} ({value.position}), is not used'
                self.notices.append(Notice(message, path, existing.position))
        return node


def _takes_parameters(node: Node) -> bool:
    return node.is_object and (node.get("class") is not None or not node.value)


def _is_too_deep(root: Node) -> bool:
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in (*node.elements(), *(child for _, child in node.items()))]
    return bool(level)
