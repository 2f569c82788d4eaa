"""The objects as columns of a table. No Qt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda.objects.suspicion import touches_border
from napari_emda.project.proofreading import Proofreading

# Voxels of the boxes of objects that are measured again when a project is opened, in all: those
# that were merged or split have other surfaces than the stored ones.
_MEASURED_AGAIN = 2**24
# Units of the table of objects, how they are shown, and how many are one of these.
_MICROMETRES = (("(nm^3)", "(µm³)", 1e9), ("(nm^2)", "(µm²)", 1e6))
# Digits of an object of the usual size.
_DIGITS = 3


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: in the header.
        tip: what it says.
        values: by row; NaN where it is not known.
        form: how a value is written.
    """

    title: str
    tip: str
    values: NDArray[np.generic]
    form: str = "{:.3g}"

    def text(self, row: int) -> str:
        """A cell."""
        value = self.values[row]
        if self.values.dtype.kind == "f" and np.isnan(value):
            return "–"
        if self.values.dtype.kind == "b":
            return "yes" if value else ""
        return self.form.format(value)

    def order(self, *, descending: bool) -> NDArray[np.intp]:
        """The rows in order of their values; equal ones as they are, unknown ones last."""
        values = self.values
        if values.dtype.kind in "UO":
            _, values = np.unique(values.astype(np.str_), return_inverse=True)
        numbers = values.astype(np.float64)
        return np.argsort(-numbers if descending else numbers, kind="stable")


@dataclass(frozen=True)
class Rows:
    """A row per object that there is.

    Attributes:
        ids: of the objects.
        columns: of the table.
        decided: whether there is a decision on an object.
        twins: ids of objects that may belong to them; 0 for none.
    """

    ids: NDArray[np.int64]
    columns: tuple[Column, ...]
    decided: NDArray[np.bool_]
    twins: NDArray[np.int64]

    def reason(self, row: int) -> str:
        """Why an object is suspicious, or what was decided."""
        return str(self.columns[-1].values[row])

    def explanation(self, row: int) -> str:
        """What the user sees of an object: why it is suspicious, and what is magenta."""
        reason = self.reason(row) or "nothing unusual."
        twin = int(self.twins[row])
        if twin and f"object {twin}," not in reason:
            reason += f" Magenta is object {twin}, which may belong to it."
        return f"Object {self.ids[row]}: {reason}"


def rows_of(objects: Proofreading) -> Rows:
    """The rows of objects after edits; in a worker thread, because large tables take a while."""
    edited = objects.objects
    table = objects.table.columns
    queue = objects.queue_of_found
    grid = objects.grid
    ids = edited.ids
    found = ids <= len(table["id"])
    at = np.where(found, ids - 1, 0)
    changed = np.isin(ids, list(edited.changed))
    size = next(name for name in table if name.startswith(("volume (", "area (")))
    unit = grid.pixel_area if grid.sections_are_independent else grid.voxel_volume
    extents = edited.extents
    measured = _measured(objects, ids, at, changed)
    boxes = {
        f"{axis} {end} (voxel)": corners[ids, k]
        for k, axis in enumerate("zyx")
        for end, corners in (("start", extents.low), ("stop", extents.high))
    }
    shape = (edited.shape[0], edited.shape[1], edited.shape[2])
    border = touches_border({"id": ids, **boxes}, grid, shape)
    sections = boxes["z stop (voxel)"] - boxes["z start (voxel)"]
    decided = np.isin(ids, list(edited.decided))
    score, reason, twins = _suspicion(queue, at, found & ~changed & ~decided, len(ids))
    reason[decided] = "decided"
    reason[np.isin(ids, list(edited.good))] = "good"
    surface = next((values for name, values in measured.items() if "surface" in name), None)
    columns = [
        Column("id", "Number of the object.", ids, "{}"),
        Column("suspicion", "How probably it is wrong, from 0 to 1.", score, "{:.2f}"),
        _size(size, "Its size.", extents.voxels[ids] * unit),
        Column("sections", "Sections in which it lies.", sections, "{}"),
        Column(
            "confidence",
            "Mean probability of its voxels.",
            measured["mean probability"],
            "{:.2f}",
        ),
        Column("solidity", "Share of its convex hull that it fills.", measured["solidity"]),
        Column("border", "Whether the border of the volume may cut it off.", border, "{}"),
        Column("class", "Its class.", np.full(len(ids), objects.class_name, dtype=np.str_), "{}"),
        Column("why", "Why it is suspicious, or what was decided.", reason, "{}"),
    ]
    if surface is not None:
        title = next(name for name in measured if "surface" in name)
        columns.insert(3, _size(title, "Area of its surface.", surface))
    return Rows(ids, tuple(columns), decided, twins)


def _measured(
    objects: Proofreading,
    ids: NDArray[np.int64],
    at: NDArray[np.int64],
    changed: NDArray[np.bool_],
) -> dict[str, NDArray[np.float64]]:
    """Surface, solidity and mean probability of objects by the table's names, NaN if unknown.

    Args:
        objects: with their table.
        ids: of the objects.
        at: their rows in the table; any row for those that were split off.
        changed: those whose voxels are not the ones in the table.
    """
    table = objects.table.columns
    measured = {}
    for name in table:
        if name.startswith("surface (") or name in ("solidity", "mean probability"):
            values = table[name].astype(np.float64)
            measured[name] = values[at] if len(values) else np.zeros(len(ids))
            measured[name][changed] = np.nan
    _measure_again(objects, ids[changed], measured, np.flatnonzero(changed))
    return measured


def _size(title: str, tip: str, values: NDArray[np.floating]) -> Column:
    """A column of sizes, whose numbers are short: in micrometres where the table has nanometres."""
    for unit, shown, factor in _MICROMETRES:
        if unit in title:
            title = title.replace(unit, shown)
            values = values / factor
    positive = values[values > 0]
    usual = float(np.median(positive)) if len(positive) else 1.0
    # All with the same decimals, so that numbers below each other can be compared; specks are 0.
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(usual)))
    return Column(title, tip, values, f"{{:.{decimals}f}}")


def _suspicion(
    queue: dict[str, NDArray[np.generic]],
    at: NDArray[np.int64],
    is_ranked: NDArray[np.bool_],
    count: int,
) -> tuple[NDArray[np.float64], NDArray[np.object_], NDArray[np.int64]]:
    # Sentences as objects: 100 000 of one width would be copied each time, 30 MB at once.
    reason = np.full(count, "", dtype=np.object_)
    if not len(queue["id"]):
        return np.zeros(count), reason, np.zeros(count, np.int64)
    score = np.where(is_ranked, queue["score"].astype(np.float64)[at], 0.0)
    reason[is_ranked] = queue["reason"].astype(np.object_)[at[is_ranked]]
    return score, reason, np.where(is_ranked, queue["twin"].astype(np.int64)[at], 0)


def _measure_again(
    objects: Proofreading,
    ids: NDArray[np.int64],
    measured: dict[str, NDArray[np.float64]],
    rows: NDArray[np.intp],
) -> None:
    """Fill in what is not known of objects that were merged or split, smallest first."""
    sizes = np.array([objects.objects.box(number).size for number in ids.tolist()], np.int64)
    order = np.argsort(sizes, kind="stable")
    affordable = order[np.cumsum(sizes[order]) <= _MEASURED_AGAIN]
    for k in affordable.tolist():
        values = objects.measure(int(ids[k]))
        for name, column in measured.items():
            column[rows[k]] = values[name]
