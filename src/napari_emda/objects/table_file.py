"""Tables of objects as CSV files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from napari_emda.errors import DataError
from napari_emda.io.safe_files import LARGEST_LINES, read_file
from napari_emda.objects.table import Table

# Columns of text; all others hold numbers.
TEXTS = ("class", "reason")


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
    rows = csv.reader(io.StringIO(text))
    try:
        names = next(rows, [])
        values = list(zip(*rows, strict=True)) or [()] * len(names)
        return {
            name: np.array(column, str if name in TEXTS else np.float64)
            for name, column in zip(names, values, strict=True)
        }
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"'{path}' is damaged ({error}): find the objects again with 'napari-emda objects'."
        ) from None
