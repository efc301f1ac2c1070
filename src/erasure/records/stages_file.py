"""Which stored objects a run used: a small file beside its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from erasure.durable import failure, write_atomically
from erasure.errors import StoreError

__all__ = ["STAGES", "read_stages", "write_stages"]

STAGES = "stages.json"


def write_stages(stages: Mapping[str, str], directory: Path) -> None:
    """Write ``stages.json``: address to name of every stage of a run's plan, so that pruning the store can spare them.

    Raises:
        StoreError: If it cannot be written.
    """
    text = json.dumps({"stages": dict(stages)}, indent=1, ensure_ascii=True) + "\n"
    write_atomically(Path(directory) / STAGES, text.encode())


def read_stages(directory: Path) -> dict[str, str]:
    """What :func:`write_stages` wrote.

    Raises:
        StoreError: If it is missing or damaged; a run without it may use anything.
    """
    path = Path(directory) / STAGES
    try:
        stages = json.loads(path.read_bytes())["stages"]
        return {str(address): str(name) for address, name in stages.items()}
    except FileNotFoundError:
        raise StoreError(
            f"{directory} does not say which objects it used (it has no file {STAGES}); run its configuration again, which costs "
            "nothing while its objects are there, or leave it out."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}); run the configuration again.") from error
    except OSError as error:
        raise failure("read", path, error, option="--unreferenced-by") from error
