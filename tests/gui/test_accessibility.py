"""The whole dock by keyboard and screen reader, in both themes, and in a large font."""

import re
from itertools import pairwise

import pytest
from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QAbstractSpinBox, QComboBox, QWidget

from napari_emda._gui.common.notices import Notices
from napari_emda._gui.common.widgets import FOCUS_STYLE, TONES, Drawer
from napari_emda._gui.dock import Dock
from tests.gui.fake import fake_command, methods_command


@pytest.fixture
def dock(qtbot):
    new_dock = Dock(ViewerModel(), fake_command(), methods_command())
    qtbot.addWidget(new_dock)
    qtbot.waitUntil(lambda: new_dock.session.catalogue is not None, timeout=240_000)
    yield new_dock
    new_dock.shut_down()


def controls(dock):
    """All widgets that the Tab key reaches, without the parts of others."""
    return [
        widget
        for widget in dock.findChildren(QWidget)
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        # The text of a spin box and the menu of a combo box are parts of it.
        and not isinstance(widget.parent(), QAbstractSpinBox | QComboBox)
        and not (isinstance(widget, QAbstractItemView) and isinstance(widget.window(), QComboBox))
        and widget.window() is dock
    ]


def test_every_control_has_a_human_name_and_a_description(dock, predicted):
    dock.session.adopt(predicted)
    nameless = []
    for widget in controls(dock):
        # Qt itself uses the text of a button or a check box, and the tooltip.
        text = widget.text() if hasattr(widget, "text") and callable(widget.text) else ""
        name = widget.accessibleName() or (text if not isinstance(widget, QAbstractSpinBox) else "")
        human = re.search("[A-Za-z]{2}", name) and "_" not in name and name != type(widget).__name__
        if not human or not (widget.toolTip() or widget.accessibleDescription()):
            nameless.append((type(widget).__name__, name, widget.toolTip()))
    assert not nameless, nameless


def test_the_tab_key_goes_down_the_open_panel_in_reading_order(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    dock.resize(330, 2000)
    with qtbot.waitExposed(dock):
        dock.show()
    for name, drawer in dock.drawers.items():
        dock.show_only(name)
        qtbot.wait(1)
        chain = [drawer.toggleButton()]
        while (following := chain[-1].nextInFocusChain()) is not chain[0]:
            chain.append(following)
        reached = set(controls(dock))
        inside = [control for control in chain if control in reached and control.isVisible()]
        places = [
            control.mapTo(dock, control.rect().center())
            for control in inside
            if drawer.content().isAncestorOf(control)
        ]
        assert places
        for before, after in pairwise(places):
            # Not above what came before, apart from neighbours in a row of different heights.
            assert after.y() > before.y() - 12, name


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_outlines_and_tones_are_seen_on_the_background(theme):
    background = get_theme(theme).background.as_rgb_tuple()[:3]
    (focus,) = re.findall("#[0-9a-f]{6}", FOCUS_STYLE)
    for colour in (focus, *TONES.values()):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        lighter, darker = sorted((luminance(rgb), luminance(background)), reverse=True)
        # WCAG 2.2, 1.4.11 and 2.4.13.
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour


def luminance(rgb):
    """Relative luminance, as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in map(_unit, rgb)]
    return sum(
        weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def _unit(value):
    return value / 255


def test_text_in_a_font_half_as_large_again_is_not_cut_off(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    font = dock.font()
    font.setPointSizeF(1.5 * font.pointSizeF())
    dock.setFont(font)
    for drawer in dock.findChildren(Drawer):
        if drawer not in dock.drawers.values():
            drawer.expand()
    with qtbot.waitExposed(dock):
        dock.show()
    for name in dock.drawers:
        dock.show_only(name)
        qtbot.wait(1)
        dock.resize(max(320, dock.minimumSizeHint().width()), 1400)
        # A layout may take several turns of the event loop.
        qtbot.waitUntil(lambda: not cut_off(dock), timeout=60_000)


def cut_off(dock):
    """The controls on view that are lower than their text."""
    return [
        widget
        for widget in controls(dock)
        if widget.isVisible() and widget.height() < widget.fontMetrics().height()
    ]


def test_the_details_of_a_message_are_behind_why(qtbot):
    notices = Notices()
    qtbot.addWidget(notices)
    notices.show()
    notices.show_text("It failed: choose a smaller patch.\nOut of memory at step 3.", "error")
    assert notices.message.text() == "It failed: choose a smaller patch."
    assert notices.text().endswith("Out of memory at step 3.")
    details = [
        widget for widget in notices.findChildren(QWidget) if widget.accessibleName() == DETAILS
    ]
    assert not details[0].isVisible()
    qtbot.mouseClick(notices.why, Qt.MouseButton.LeftButton)
    assert details[0].isVisible()
    notices.show_text("Done.", "done")
    assert not notices.why.isVisible() and not details[0].isVisible()


DETAILS = "Out of memory at step 3."
