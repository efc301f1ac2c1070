"""How one name of the configuration format that researchers already have is understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from erasure.registry.derived import Derived

__all__ = ["ALWAYS_CACHED", "Alias"]

ALWAYS_CACHED = "results are cached by their content; globals.cached turns that off"
"""Why a parameter that switches caching on has no effect."""


@dataclass(frozen=True, kw_only=True)
class Alias:
    """How one of upstream's classes is understood.

    Args:
        kind: The slot it belongs to.
        target: Registered name of our component; empty if the node needs no component here.
        rename: Upstream's parameter to ours.
        defaults: Values that upstream assumes where we assume something else, by our names.
        ignored: Parameters without effect, and why.
        wrap: Parameter that puts the component inside another one: parameter to (registered name, its parameter).
        note: One sentence on what we do differently, said whenever the name is used.
        fault: One sentence on a fault of the reference implementation that is not repeated, said where a file is explained.
        dropped: Why the node is left out, if it is.
        spliced: Parameter that holds a list of nodes which take this node's place.
        derived: Parameter of ours to the rule that makes it of several of upstream's.
        brings: Where the node has splitters of its own, as ``parameter.key``: a list of them, or a data section. What they make joins the
            data's partitions where the node names it.
        ours: Parameters of ours that another of upstream's classes has under the same name, and this one does not read: a rule that
            propagates one means the other.
        elsewhere: Values of a parameter of other classes of upstream's, which this one does not read, where ours has one of that name.
    """

    kind: str
    target: str = ""
    rename: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    wrap: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    note: str = ""
    fault: str = ""
    dropped: str = ""
    spliced: str = ""
    derived: Mapping[str, Derived] = field(default_factory=dict)
    brings: tuple[str, ...] = ()
    ours: frozenset[str] = frozenset()
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Upstream's parameters that are not ours by name."""
        return (*self.rename, *self.ignored, *self.wrap, *(name for rule in self.derived.values() for name in rule.takes))
