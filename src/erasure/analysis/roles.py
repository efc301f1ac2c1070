"""Which partitions of a run were forgotten, kept and never seen."""

from __future__ import annotations

from erasure.analysis.gaps import RolePartitions
from erasure.records.run_folder import RunFolder

__all__ = ["roles_of"]


def roles_of(folder: RunFolder) -> RolePartitions:
    """The roles of a run's partitions, with their sizes."""
    sizes = {each.name: each.n for group in folder.groups for each in group.partitions}
    return RolePartitions(folder.partitions("forget"), folder.partitions("retain"), folder.partitions("test"), sizes)
