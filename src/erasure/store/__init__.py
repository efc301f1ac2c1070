"""Content-addressed results on disk: objects and locks. Imports neither torch nor pyarrow until they are needed."""

from erasure.store.addresses import FORMAT_VERSION, address, file_digest
from erasure.store.artifacts import Artifact, Manifest
from erasure.store.directory import Store, default_base_path, default_store_path
from erasure.store.index import Entry
from erasure.store.writer import Writer

__all__ = [
    "FORMAT_VERSION",
    "Artifact",
    "Entry",
    "Manifest",
    "Store",
    "Writer",
    "address",
    "default_base_path",
    "default_store_path",
    "file_digest",
]
