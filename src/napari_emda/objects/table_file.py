"""Tables of objects as CSV files."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_emda.errors import DataError
from napari_emda.io.safe_files import LARGEST_LINES, read_file
from napari_emda.objects.table import Table

# Columns of text; all others hold numbers.
TEXTS = ("class", "reason")
# Rows that are read at once: some hundredths of a second.
_BATCH = 8192


def write_csv(table: Table, path: Path) -> None:
    """Write a table of objects."""
    # csv ends lines itself; without `newline=""` Windows would add empty rows.
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        # Nine digits tell all float32 values apart; more would only be noise in a spreadsheet.
        columns = [
            [f"{value:.9g}" if column.dtype.kind == "f" else value for value in column.tolist()]
            for column in table.values()
        ]
        writer.writerows(zip(*columns, strict=True))


def read_csv(path: Path) -> Table:
    """Read a table of objects that this program has written.

    Returns:
        Its columns: numbers as float64, apart from `TEXTS`.

    Raises:
        OSError: it cannot be read.
        JobError: it is a link or special file, or far too large.
        DataError: it is no such table.
    """
    # Bounded by the size of the file: no line is longer than what was read.
    text = read_file(path, LARGEST_LINES).decode("utf-8", "replace")
    names, _, rest = text.partition("\n")
    titles = next(csv.reader([names]), [])
    try:
        parts = [_columns(titles, [])]
        if set(titles).isdisjoint(TEXTS):
            parts += list(_numbers(titles, io.StringIO(rest)))
        else:
            rows = csv.reader(io.StringIO(rest))
            # In batches: the viewer reads in a thread, and must answer in between.
            while batch := list(itertools.islice(rows, _BATCH)):
                parts.append(_columns(titles, batch))
        return {title: np.concatenate([part[title] for part in parts]) for title in titles}
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"'{path}' is damaged ({error}): find the objects again with 'napari-emda objects'."
        ) from None


def _numbers(titles: list[str], lines: io.StringIO) -> Iterator[Table]:
    """Batches of columns of a table that holds numbers alone, which NumPy reads faster."""
    while batch := list(itertools.islice(lines, _BATCH)):
        rows = [line for line in batch if line.strip()]
        values = np.loadtxt(rows, delimiter=",", ndmin=2, comments=None)
        yield dict(zip(titles, values.T, strict=True))


def _columns(titles: list[str], rows: list[list[str]]) -> Table:
    values = list(zip(*rows, strict=True)) or [()] * len(titles)
    return {
        title: np.array(column, str if title in TEXTS else np.float64)
        for title, column in zip(titles, values, strict=True)
    }
