"""What is loaded ahead, and where."""

import pint
import pytest
from napari.components import ViewerModel

from napari_emda._gui import dock as docks
from napari_emda._gui.process.runner import COMMAND
from tests.gui.fake import methods_command


@pytest.fixture
def unused_units(monkeypatch):
    """Units that nobody has read yet, as in a napari without a layer."""
    registry = pint.get_application_registry()
    before = registry.get()
    registry.set(pint.LazyRegistry())
    yield registry
    registry.set(before)


def test_units_are_read_before_a_thread_can_make_a_layer(qtbot, monkeypatch, unused_units):
    # Two threads that read them at the same time leave one of them without any unit.
    found = []
    monkeypatch.setattr(docks, "load_ahead", lambda: found.append(type(unused_units.get())))
    dock = docks.Dock(ViewerModel(), COMMAND, methods_command())
    qtbot.addWidget(dock)
    qtbot.waitUntil(lambda: bool(found), timeout=60_000)
    dock.shut_down()
    assert found == [pint.UnitRegistry]
