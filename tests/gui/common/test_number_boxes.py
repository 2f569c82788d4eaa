"""What is typed by keys into the boxes of numbers is the number that they have."""

import pytest
from qtpy.QtCore import QEvent, QLocale, QPoint, QPointF, Qt
from qtpy.QtGui import QKeyEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit, QVBoxLayout, QWidget

from napari_emda._gui.common.forms import SettingsForm, fields
from napari_emda._gui.common.number_boxes import (
    DecimalBox,
    LengthBox,
    WholeNumberBox,
    parse_number,
)
from napari_emda._gui.data.layer_widgets import VoxelSize
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings

LEFT = Qt.MouseButton.LeftButton
NONE = Qt.KeyboardModifier.NoModifier


def type_text(edit, text):
    for character in text:
        if character.isascii():
            QTest.keyClicks(edit, character)
        else:
            # QTest knows the keys of ASCII alone and aborts at others.
            for kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
                QApplication.sendEvent(edit, QKeyEvent(kind, 0, NONE, character))


def by_click(edit, nowhere):
    QTest.mouseClick(edit, LEFT, NONE, QPoint(edit.width() - 4, edit.height() // 2))


def by_tab(edit, nowhere):
    nowhere.setFocus()
    # The box "z is depth" comes first, as it does on the screen.
    for _ in range(2):
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert isinstance(QApplication.focusWidget(), LengthBox)


def by_selecting_all(edit, nowhere):
    edit.setFocus()
    QTest.keyClick(edit, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)


@pytest.fixture
def place(qtbot):
    """Puts a widget into a window, behind a line in which nothing is typed."""
    windows = []  # pytest-qt keeps weak references only

    def place_widget(widget):
        window = QWidget()
        windows.append(window)
        nowhere = QLineEdit()
        layout = QVBoxLayout(window)
        layout.addWidget(nowhere)
        layout.addWidget(widget)
        qtbot.addWidget(window)
        window.show()
        window.activateWindow()
        # Only the active window's boxes lose the focus, and the display says so when it likes.
        assert QTest.qWaitForWindowActive(window, 60_000)
        nowhere.setFocus()
        QApplication.processEvents()
        return nowhere

    yield place_widget


@pytest.mark.parametrize("enter", [by_click, by_tab, by_selecting_all])
@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ("50", 50),
        ("4.6", 4.6),
        ("4,6", 4.6),
        ("4\u066b6", 4.6),
        ("\u0665\u0660", 50),
        ("1.234,5", 1234.5),
    ],
)
def test_a_size_is_typed_where_none_was(place, enter, typed, size):
    widget = VoxelSize()
    nowhere = place(widget)
    box = widget._boxes[0]
    assert box.lineEdit().placeholderText() == "?"
    enter(box.lineEdit(), nowhere)
    type_text(box.lineEdit(), typed)
    QTest.keyClick(box.lineEdit(), Qt.Key.Key_Tab)
    assert box.value() == size
    assert box.text() == f"{size:g}"


def test_three_sizes_are_typed_one_after_the_other(place):
    widget = VoxelSize()
    nowhere = place(widget)
    by_tab(nowhere, nowhere)
    for number in ("40", "4.123456", "4"):
        box = QApplication.focusWidget()
        QTest.keyClicks(box, number)
        QTest.keyClick(box, Qt.Key.Key_Tab)
    assert widget.value() == (40, 4.123456, 4)


def test_a_size_is_deleted_again(place):
    widget = VoxelSize()
    nowhere = place(widget)
    widget.set_value((40, 4, 4))
    edit = widget._boxes[1].lineEdit()
    by_selecting_all(edit, nowhere)
    QTest.keyClick(edit, Qt.Key.Key_Backspace)
    QTest.keyClick(edit, Qt.Key.Key_Tab)
    assert edit.text() == ""
    assert widget.value() is None


@pytest.mark.parametrize(
    ("pasted", "size"), [("50 nm", 50), ("0.05 µm", 50), ("40nm", 40), ("1e2", 100)]
)
def test_a_size_is_pasted_with_its_unit(place, pasted, size):
    box = LengthBox()
    box.setRange(0, 1e6)
    place(box)
    QApplication.clipboard().setText(pasted)
    box.lineEdit().setFocus()
    QTest.keyClick(box.lineEdit(), Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(box.lineEdit(), Qt.Key.Key_Return)
    assert box.value() == size


@pytest.mark.parametrize("language", [QLocale.Language.German, QLocale.Language.English])
@pytest.mark.parametrize("typed", ["0.25", "0,25", ".25"])
def test_a_share_is_typed_with_point_or_comma_in_any_language(place, language, typed):
    box = DecimalBox()
    box.setLocale(QLocale(language))
    box.setRange(0.01, 0.99)
    place(box)
    by_selecting_all(box.lineEdit(), None)
    QTest.keyClicks(box.lineEdit(), typed)
    QTest.keyClick(box.lineEdit(), Qt.Key.Key_Tab)
    assert box.value() == 0.25


def test_a_number_outside_the_limits_becomes_the_nearest_limit(place):
    for box, typed, limit in ((WholeNumberBox(), "3", 16), (DecimalBox(), "7", 5.5)):
        box.setRange(*((16, 2048) if limit == 16 else (1.5, 5.5)))
        box.setValue(64 if limit == 16 else 2)
        place(box)
        by_selecting_all(box.lineEdit(), None)
        QTest.keyClicks(box.lineEdit(), typed)
        QTest.keyClick(box.lineEdit(), Qt.Key.Key_Tab)
        assert box.value() == limit


@pytest.mark.parametrize("model", [TrainSettings, PredictSettings, QuerySettings])
def test_every_number_of_a_form_can_be_typed(place, model):
    schema = model.model_json_schema()
    form = SettingsForm(schema)
    place(form.native)
    numbers = [f for f in fields(schema) if f.kind in (int, float) and not f.choices]
    assert numbers
    for field in numbers:
        # The last number in reach: with as many digits as a user ever types here.
        wanted = field.kind(field.maximum)
        edit = form[field.name].native.lineEdit()
        by_selecting_all(edit, None)
        QTest.keyClicks(edit, str(wanted))
        QTest.keyClick(edit, Qt.Key.Key_Tab)
        assert form.values()[field.name] == wanted
        assert form[field.name].native.accessibleName() == field.label


def test_the_size_of_a_patch_is_typed_over_the_old_one(place):
    form = SettingsForm(TrainSettings.model_json_schema())
    place(form.native)
    edit = form["patch"].native.lineEdit()
    by_selecting_all(edit, None)
    QTest.keyClicks(edit, "64")
    QTest.keyClick(edit, Qt.Key.Key_Tab)
    assert form.values()["patch"] == 64


def test_the_wheel_over_a_box_without_focus_changes_nothing(place):
    box = WholeNumberBox()
    nowhere = place(box)

    def turn():
        middle = QPointF(box.rect().center())
        event = QWheelEvent(
            middle,
            box.mapToGlobal(middle),
            QPoint(0, 120),
            QPoint(0, 120),
            Qt.MouseButton.NoButton,
            NONE,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(box, event)

    nowhere.setFocus()
    turn()
    assert box.value() == 0
    box.setFocus()
    turn()
    assert box.value() == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [("1 000", 1000), ("1'000.5", 1000.5), ("1,000,000", 1e6), ("nan", None), ("", None)],
)
def test_numbers_as_people_write_them(text, number):
    assert parse_number(text) == number
