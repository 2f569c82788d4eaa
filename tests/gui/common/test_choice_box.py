"""A combo box that lists recommended entries first; chosen by keys, as a user does."""

import pytest
from qtpy.QtCore import Qt

from napari_emda._gui.common.choice_box import MORE, ChoiceBox


@pytest.fixture
def box(qtbot):
    new_box = ChoiceBox()
    qtbot.addWidget(new_box)
    new_box.offer(["auto", "source_only"], ["adabn", "mmd"], {"mmd": "Compares means."})
    return new_box


def entries(box):
    return [box.itemText(index) for index in range(box.count()) if box.itemText(index)]


def test_recommended_entries_come_first_and_the_others_after_more(qtbot, box):
    assert entries(box) == ["auto", "source_only", MORE]
    chosen = []
    box.currentTextChanged.connect(chosen.append)
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert box.currentText() == "source_only"
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert box.currentText() == chosen[-1] == "source_only"  # *More …* is no choice
    assert entries(box) == ["auto", "source_only", "adabn", "mmd"]
    assert box.view().isVisible()
    assert box.itemData(box.findText("mmd"), Qt.ItemDataRole.ToolTipRole) == "Compares means."


def test_an_entry_that_is_not_listed_can_be_chosen_by_name_and_stays(box):
    box.setCurrentText("mmd")
    assert box.currentText() == "mmd"
    box.offer(["auto"], ["adabn", "mmd", "source_only"], {})
    assert box.currentText() == "mmd"


def test_without_recommendations_everything_is_listed(box):
    box.offer([], ["b", "a"], {})
    assert entries(box) == ["b", "a"]
    box.offer([], [], {})
    assert entries(box) == [] and box.currentText() == ""
