"""A small local page to browse the runs of a folder and to look at two models side by side; reads runs and store, writes nothing."""

from erasure.ui.library import Library
from erasure.ui.routes import Site
from erasure.ui.server import UiServer

__all__ = ["Library", "Site", "UiServer"]
