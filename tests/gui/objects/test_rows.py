"""The table of objects: 100 000 rows are sorted at once, and say what there is."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_emda._gui.objects.rows import Column, Rows, _size, rows_of
from napari_emda._gui.objects.table import FIRST, ObjectTable
from napari_emda.project.proofreading import Proofreading
from tests.gui.found import RUN, disc_model


def many(count):
    rng = np.random.default_rng(0)
    ids = np.arange(1, count + 1)
    columns = (
        Column("id", "", ids, "{}"),
        Column("suspicion", "", rng.random(count).round(3)),
        Column("volume", "", np.where(ids % 7 == 0, np.nan, rng.random(count))),
        Column("border", "", ids % 2 == 0),
        Column("why", "", np.array([f"reason {k % 11}" for k in ids]), "{}"),
    )
    return Rows(ids, columns, ids % 10 == 0, np.zeros(count, int))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", range(5))
def test_any_column_sorts_as_numpy_does(qtbot, column, descending):
    table = ObjectTable(lambda number: None)
    qtbot.addWidget(table)
    rows = many(500)
    table.show_rows(rows)
    order = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
    table.sortByColumn(column, order)
    shown = [table.objects.id_at(line) for line in range(500)]
    values = [rows.columns[column].values[number - 1] for number in shown]
    known = [value for value in values if value == value]
    assert all(value != value for value in values[len(known) :])
    if column == FIRST and descending:
        split = sum(number % 10 != 0 for number in shown)
        assert all(number % 10 == 0 for number in shown[split:])
        known = known[:split]
    assert known == sorted(known, reverse=descending)
    assert sorted(shown) == list(range(1, 501))


def test_a_hundred_thousand_objects_are_listed_and_sorted(qtbot):
    table = ObjectTable(lambda number: None)
    qtbot.addWidget(table)
    rows = many(100_000)
    with qtbot.waitExposed(table):
        table.show()
    table.show_rows(rows)
    for column in range(5):
        table.sortByColumn(column, Qt.SortOrder.AscendingOrder)
    table.select(77_777)
    table.grab()
    assert table.objects.rowCount() == 100_000
    assert table.objects.id_at(table.line) == 77_777
    assert table.visualRect(table.currentIndex()).intersects(table.viewport().rect())


@pytest.mark.parametrize(
    ("voxels", "texts"),
    [
        # Of 1e6 nm^3 a voxel, in cubic micrometres: the usual object has three digits.
        ((1, 30, 36, 52, 9000), ["0.0010", "0.0300", "0.0360", "0.0520", "9.0000"]),
        ((120_000, 1, 130_000), ["120", "0", "130"]),
        ((), []),
    ],
)
def test_sizes_are_written_with_the_same_decimals(voxels, texts):
    column = _size("volume (nm^3)", "", 1e6 * np.array(voxels, float))
    assert column.title == "volume (µm³)"
    assert [column.text(row) for row in range(len(voxels))] == texts


def test_what_is_magenta_is_explained_once():
    why = [
        "It has a neck, beyond which lie 40 % of it: perhaps two objects.",
        "It shares 50 % of the smaller surface with object 3, with little contour between them.",
        "",
    ]
    rows = Rows(
        np.array([1, 2, 3]),
        (Column("why", "", np.array(why), "{}"),),
        np.zeros(3, bool),
        np.array([33, 3, 0]),
    )
    first, second, third = map(rows.explanation, range(3))
    assert first == f"Object 1: {why[0]} Magenta is object 33, which may belong to it."
    assert second == f"Object 2: {why[1]}"
    assert third == "Object 3: nothing unusual."


def test_rows_follow_the_edits(project):
    disc_model(project, "target", radius=5)
    objects = Proofreading.of(project, RUN, "target")
    before = rows_of(objects)
    assert [column.title for column in before.columns][:3] == ["id", "suspicion", "volume (µm³)"]
    table = objects.table.columns
    volumes = before.columns[2].values
    np.testing.assert_allclose(1000**3 * volumes, table["volume (nm^3)"])
    first = int(before.ids[0])
    objects.good(first)
    after = rows_of(objects)
    assert after.decided.tolist() == [number == first for number in after.ids]
    assert after.reason(0) == "good"
    objects.delete(first)
    assert first not in rows_of(objects).ids


def test_what_was_split_is_measured_again(project):
    from tests.gui.found import DISCS

    disc_model(project, "target", radius=7)
    objects = Proofreading.of(project, RUN, "target")
    (ay, ax), (by, bx) = DISCS["pair"]
    number = objects.at((2, ay, ax))
    before = objects.measure(number)
    assert before["voxels"] == objects.objects.voxels(number)
    objects.split(number, [(2, ay, ax), (2, by, bx)])
    rows = rows_of(objects)
    other = int(rows.ids.max())
    parts = [objects.measure(part) for part in (number, other)]
    assert sum(part["voxels"] for part in parts) == before["voxels"]
    for part in (number, other):
        row = rows.ids.tolist().index(part)
        named = {column.title: column.values[row] for column in rows.columns}
        measured = parts[part == other]
        assert 1000**3 * named["volume (µm³)"] == pytest.approx(measured["volume (nm^3)"])
        assert named["solidity"] > before["solidity"]
        assert 1000**2 * named["surface (µm²)"] == pytest.approx(measured["surface (nm^2)"])


def test_a_project_without_objects_has_no_rows(project):
    disc_model(project, "target")
    from tests.gui.found import find_objects

    find_objects(project, "target", minimum_size=10_000)
    rows = rows_of(Proofreading.of(project, RUN, "target"))
    assert len(rows.ids) == 0
    assert rows.columns[0].order(descending=True).tolist() == []
