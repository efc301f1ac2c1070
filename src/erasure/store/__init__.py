"""Content-addressed results on disk: objects, locks and result rows. Imports neither torch nor pyarrow until they are needed."""

from erasure.store.addresses import FORMAT_VERSION, address, file_digest
from erasure.store.artifacts import Artifact, Manifest
from erasure.store.directory import Store, default_base_path, default_store_path
from erasure.store.durable import write_atomically
from erasure.store.index import Entry
from erasure.store.references import read_stages, write_stages
from erasure.store.rows import RESULT_FIELDS, Row, read_rows, write_rows, write_trace
from erasure.store.writer import Writer

__all__ = [
    "FORMAT_VERSION",
    "RESULT_FIELDS",
    "Artifact",
    "Entry",
    "Manifest",
    "Row",
    "Store",
    "Writer",
    "address",
    "default_base_path",
    "default_store_path",
    "file_digest",
    "read_rows",
    "read_stages",
    "write_atomically",
    "write_rows",
    "write_stages",
    "write_trace",
]
