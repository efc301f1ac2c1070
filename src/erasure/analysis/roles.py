"""Which partitions of a run were forgotten, kept and never seen."""

from __future__ import annotations

from erasure.analysis.gaps import Roles
from erasure.records.run_folder import RunFolder

__all__ = ["roles_of"]


def roles_of(folder: RunFolder) -> Roles:
    """The roles of a run's partitions, with their sizes."""
    sizes = {each.name: each.n for group in folder.groups for each in group.partitions}
    return Roles(folder.partitions("forget"), folder.partitions("retain"), folder.partitions("test"), sizes)
