"""JSONC with positions, composed from files into one tree. Imports lark only when a text is parsed."""

from erasure.config.compose import from_python, load, load_text
from erasure.config.jsonc import parse
from erasure.config.overrides import apply_overrides
from erasure.config.propagation import propagate
from erasure.config.tree import MAX_DEPTH, Loaded, Node, Notice, child_path

__all__ = [
    "MAX_DEPTH",
    "Loaded",
    "Node",
    "Notice",
    "apply_overrides",
    "child_path",
    "from_python",
    "load",
    "load_text",
    "parse",
    "propagate",
]
