"""Ratings of real users in a file, for recommenders: MovieLens' and others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import MinLen

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import NonEmptyNames
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.table_columns import MARKS_OF_MISSING, RawTable, TextFormat, read_tables
from erasure.data.reading.table_values import codes_of, numbers_of
from erasure.errors import DataError, Diagnostic, InvalidParameters
from erasure.training.batches import TensorColumn
from erasure.training.randomness import Streams
from erasure.types import Fraction, Json, NonNegativeInt, PositiveInt

__all__ = ["RatingsFile"]

_MAX_BYTES = 4 * 2**30
"""Inputs and labels of one 0 or 1 for every user and item."""


@dataclass(frozen=True, kw_only=True)
class RatingsFile(DataSource):
    """Users and the items they have, from a file with a line for each rating; from ``min_rating`` on a user has the item.

    A sample is a user: its input the items that a recommender sees, its labels all items that the user has, of which a random share
    ``hidden`` is missing from the input. A user's id is the group ``z``, so that ``ByZ`` with ``z_labels`` forgets named users. Of lines
    of one user and item the last one counts. Users with fewer than ``min_items`` items and items with fewer than ``min_users`` users
    are left out, again and again until none is left of them: which ones depends on all users, forgotten ones too.

    Args:
        path: One file or several, put one below the other: CSV, TSV or Parquet, compressed or not.
        user: Column of the user's id; by default the first.
        item: Column of the item's id; by default the second.
        rating: Column of the rating; by default the third, if ``min_rating`` is given.
        min_rating: Rating from which on a user has an item; by default every line counts, whatever its rating.
        min_items: Items that a user must have.
        min_users: Users that an item must have.
        hidden: Share of a user's items that the input lacks, 0 to 1; each item is drawn by itself.
        separator: Between two values; by default a tab for ``.tsv``, else a comma. ``::`` is that of MovieLens' ``.dat`` files.
        header: Whether the first line of a text file has the names of its columns; MovieLens' ``u.data`` and ``.dat`` files have none.
        n_columns: Columns of a file without a header: user, item, rating and time in MovieLens' files.
        encoding: Of text files.
        seed: Of the hidden items; 0 or more.
        name: How results call the data; by default the first file's name.

    Raises:
        DataError: If a column is missing, a user, item or rating is, or nobody is left.
    """

    is_digested: ClassVar[bool] = True

    path: NonEmptyNames
    user: str | None = None
    item: str | None = None
    rating: str | None = None
    min_rating: float | None = None
    min_items: PositiveInt = 5
    min_users: PositiveInt = 5
    hidden: Fraction = 0.2
    separator: Annotated[str, MinLen(1)] | None = None
    header: bool = True
    n_columns: PositiveInt = 4
    encoding: str = "utf-8"
    seed: NonNegativeInt = 0
    name: str = ""

    def check(self) -> None:
        """Fields that must fit each other."""
        if self.separator is not None and len(self.separator) != 1 and self.separator != "::":
            message = f'expected one character, or "::"; found {self.separator!r}'
            raise InvalidParameters([Diagnostic(message, path="RatingsFile.separator")])
        if self.header and self.separator == "::":
            raise InvalidParameters(
                [Diagnostic('files with "::" have no line of names: give header = false', path="RatingsFile.header")]
            )
        if not self.header and (self.user, self.item, self.rating) != (None, None, None):
            message = "files without a header have no names: leave user, item and rating out"
            raise InvalidParameters([Diagnostic(message, path="RatingsFile.header")])
        if not self.header and self.n_columns < (2 if self.min_rating is None else 3):
            message = "a line has a user, an item and, for min_rating, a rating"
            raise InvalidParameters([Diagnostic(message, path="RatingsFile.n_columns")])
        if self.rating is not None and self.min_rating is None:
            message = f'"{self.rating}" has no effect without min_rating'
            raise InvalidParameters([Diagnostic(message, path="RatingsFile.rating")])

    def fingerprint(self) -> Json:
        """SHA-256 of each file."""
        return {"sha256": [file_digest(path) for path in self.path]}

    def load(self) -> Dataset:
        """Read the lines and put them into a table of users and items."""
        has, users, items = self._table()
        is_seen = Streams(self.seed).numpy("hidden").random(size=has.shape, dtype=np.float32) >= self.hidden
        return checked(
            Dataset(
                x=TensorColumn(torch.from_numpy((has & is_seen).astype(np.float32))),
                y=torch.from_numpy(has.astype(np.float32)),
                z=torch.arange(len(users)),
                z_names=users,
                n_classes=len(items),
                x_shape=(len(items),),
                task="multilabel",
                class_names=items,
                feature_names=items,
                name=self.name or existing_file(self.path[0]).name.partition(".")[0],
            )
        )

    def _table(self) -> tuple[npt.NDArray[np.bool_], tuple[str, ...], tuple[str, ...]]:
        """Who has what, ``(users, items)``, and what they are called."""
        table, columns = self._read()
        for name in columns:
            gaps = table.missing(name)
            if gaps.any():
                raise DataError(f'"{name}" is missing in {table.row(int(gaps.argmax()))}')
        users, items = (codes_of(table, name) for name in columns[:2])
        pairs = users.codes * len(items.names) + items.codes
        # The last line of a user and an item stands first in the order turned around.
        pairs, last = np.unique(pairs[::-1], return_index=True)
        if self.min_rating is not None:
            ratings = numbers_of(table, columns[2])
            if ratings is None:
                raise DataError(f'the column "{columns[2]}" holds text, and ratings are numbers; name another one as rating')
            pairs = pairs[ratings[::-1][last] >= self.min_rating]
        of_user, of_item = np.divmod(pairs, len(items.names))
        while len(of_user):
            n_items, n_users = np.bincount(of_user), np.bincount(of_item)
            stays = (n_items[of_user] >= self.min_items) & (n_users[of_item] >= self.min_users)
            if stays.all():
                break
            of_user, of_item = of_user[stays], of_item[stays]
        if not len(of_user):
            least = f"{self.min_items} items and items with {self.min_users} users"
            raise DataError(f"no users with {least} are left: lower min_items, min_users or min_rating")
        (named_users, of_user), (named_items, of_item) = (np.unique(each, return_inverse=True) for each in (of_user, of_item))
        n_bytes = 8 * len(named_users) * len(named_items)
        if n_bytes > _MAX_BYTES:
            size = f"{len(named_users):,} users and {len(named_items):,} items take {n_bytes / 2**30:.0f} GiB"
            raise DataError(f"{size}, more than {_MAX_BYTES // 2**30}: raise min_users or min_items")
        has = np.zeros((len(named_users), len(named_items)), dtype=np.bool_)
        has[of_user, of_item] = True
        return has, tuple(users.names[k] for k in named_users), tuple(items.names[k] for k in named_items)

    def _read(self) -> tuple[RawTable, tuple[str, ...]]:
        """The lines, and the names of the columns of user, item and perhaps rating."""
        names = tuple(f"column {k}" for k in range(1, self.n_columns + 1)) if not self.header else ()
        separator = self.separator
        if separator == "::":  # two characters are one, with empty columns between
            separator = ":"
            names = tuple(each for k, name in enumerate(names) for each in ([name] if not k else [f"between {k}", name]))
        text = TextFormat(separator, names, MARKS_OF_MISSING, True, self.encoding)
        files = [existing_file(path) for path in self.path]
        table = read_tables(files, [0] * len(files), text)
        found = [name for name in table.columns if not name.startswith("between ") and name]
        wanted = [self.user, self.item, *([self.rating] if self.min_rating is not None else [])]
        if len(found) < len(wanted):
            raise DataError(
                f"{table.files[0][0]} has the column {', '.join(found)}, and a line has a user and an item; set separator"
            )
        columns = tuple(asked or found[place] for place, asked in enumerate(wanted))
        for name in columns:
            table.check(name)
        return table, columns
