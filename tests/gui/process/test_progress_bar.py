"""The bar that moves while the share of the work is unknown: where it is drawn, and how often."""

import time

import numpy as np
import pytest
from napari.qt import get_stylesheet
from qtpy.QtCore import QEvent, QObject
from qtpy.QtTest import QTest

from napari_emda._gui.process import progress_bar
from napari_emda._gui.process.progress_bar import ProgressBar


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Paints(QObject):
    """Counts how often a widget is painted."""

    def __init__(self, widget):
        super().__init__()
        self.count = 0
        widget.installEventFilter(self)

    def eventFilter(self, watched, event):
        self.count += event.type() == QEvent.Type.Paint
        return False


@pytest.fixture(params=["napari's style", "Qt's style"])
def bar(request, qtbot):
    """A bar on the screen whose share is unknown."""
    new_bar = ProgressBar(clock=Clock())
    qtbot.addWidget(new_bar)
    if request.param == "napari's style":
        new_bar.setStyleSheet(get_stylesheet("dark"))
    new_bar.setRange(0, 0)
    new_bar.resize(400, 20)
    new_bar.show()
    qtbot.waitExposed(new_bar)
    return new_bar


def pixels(bar):
    """What is seen in the middle row, as (width, 3)."""
    image = bar.grab().toImage()
    row = [image.pixelColor(x, image.height() // 2) for x in range(image.width())]
    return np.array([colour.getRgb()[:3] for colour in row])


def test_a_block_goes_from_one_end_to_the_other_and_back(bar):
    turns = 2 * progress_bar._POSITIONS
    rows = []
    for turn in range(turns + 1):
        bar._clock.now = turn * progress_bar._INTERVAL / 1000 + 0.01
        rows.append(pixels(bar))
    background = np.median(rows, axis=0)
    lefts, rights = [], []
    for row in rows:
        (columns,) = np.nonzero((row != background).any(axis=1))
        lefts.append(columns[0])
        rights.append(columns[-1])
    half = progress_bar._POSITIONS
    assert (np.diff(lefts[: half + 1]) > 0).all() and (np.diff(lefts[half:]) < 0).all()
    assert lefts[0] < 5 and rights[half] > 394
    assert lefts[-1] == lefts[0]


def test_it_is_painted_no_more_often_than_it_moves(bar):
    paints = Paints(bar)
    begin = time.monotonic()
    QTest.qWait(5 * progress_bar._INTERVAL)
    passed = 1000 * (time.monotonic() - begin)
    assert 1 <= paints.count <= passed / progress_bar._INTERVAL + 1


def test_a_bar_that_nobody_sees_is_not_painted(bar):
    bar.hide()
    paints = Paints(bar)
    QTest.qWait(3 * progress_bar._INTERVAL)
    assert paints.count == 0
    assert not bar._next.isActive()
