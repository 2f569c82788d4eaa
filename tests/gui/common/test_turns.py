"""Work in steps, and the dock, which is built in steps."""

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton

from napari_emda._gui.common.turns import Turns
from napari_emda._gui.dock import Dock
from tests.gui.fake import fake_command, methods_command


@pytest.fixture
def turns(qapp):
    one = Turns()
    yield one
    one.stop()


def numbers(found, *values):
    for value in values:
        found.append(value)
        yield


def test_other_events_come_between_two_steps(turns, qtbot):
    found = []
    turns.add(numbers(found, 1, 2, 3))
    turns.add(numbers(found, 4))
    assert found == []
    QTimer.singleShot(0, lambda: found.append("event"))
    qtbot.waitUntil(lambda: turns.over)
    assert [value for value in found if value != "event"] == [1, 2, 3, 4]
    assert found.index("event") < len(found) - 1


def test_the_rest_is_done_at_once_or_not_at_all(turns, qtbot):
    found = []
    turns.add(numbers(found, 1, 2, 3))
    qtbot.waitUntil(lambda: bool(found))
    turns.finish()
    assert found == [1, 2, 3] and turns.over
    turns.add(numbers(found, 4))
    turns.stop()
    qtbot.wait(1)
    assert found == [1, 2, 3]


def test_a_step_may_end_the_work_that_it_is_part_of(turns, qtbot):
    found = []

    def ends():
        found.append(1)
        turns.stop()
        yield
        found.append(2)

    turns.add(ends())
    qtbot.waitUntil(lambda: turns.over)
    qtbot.wait(1)
    assert found == [1]


@pytest.fixture
def dock(qtbot):
    new_dock = Dock(ViewerModel(), fake_command(), methods_command())
    qtbot.addWidget(new_dock)
    yield new_dock
    new_dock.shut_down()


def test_the_dock_opens_before_it_is_built(dock, qtbot):
    assert dock.findChildren(QPushButton) == []
    qtbot.waitUntil(lambda: len(dock.findChildren(QPushButton)) > 20, timeout=60_000)
    qtbot.waitUntil(lambda: dock.session.catalogue is not None, timeout=60_000)


def test_whoever_asks_for_a_part_has_it_built(dock):
    assert dock.drawers.keys() == {"Data", "Train", "Annotate", "Predict", "Objects", "Export"}
    assert not hasattr(dock, "reset_choices")


def test_a_dock_that_is_closed_at_once_is_never_built(dock, qtbot):
    dock.shut_down()
    qtbot.wait(1)
    assert dock.findChildren(QPushButton) == []
