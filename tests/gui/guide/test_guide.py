"""The line at the top of the dock follows the panels and presses their buttons."""

import psutil
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_emda._gui.dock import Dock
from napari_emda.project.job_files import PredictJob
from tests.gui.fake import fake_command, methods_command


@pytest.fixture
def dock(qtbot):
    new_dock = Dock(ViewerModel(), fake_command(), methods_command())
    qtbot.addWidget(new_dock)
    qtbot.waitUntil(lambda: new_dock.session.catalogue is not None, timeout=60_000)
    yield new_dock
    new_dock.shut_down()


def step(qtbot, dock, text):
    """Wait until the button of the next step has that text, and can be pressed."""
    line = dock.guide.line
    qtbot.waitUntil(lambda: line.button.text() == text and line.button.isEnabled(), timeout=60_000)
    return line


def press(qtbot, dock, text):
    line = step(qtbot, dock, text)
    qtbot.mouseClick(line.button, Qt.MouseButton.LeftButton)
    return line


def opened_panels(dock):
    return [name for name, drawer in dock.drawers.items() if drawer.isExpanded()]


def test_without_layers_the_line_says_what_the_panel_says(dock):
    dock.guide.refresh()
    line = dock.guide.line
    assert line.where.toolTip() == "No project yet"
    assert line.sentence.text() == dock.data.missing.text()
    assert line.button.text() == "Use these layers"
    assert not line.button.isEnabled()


def test_the_button_leads_from_a_project_to_a_file(qtbot, dock, project, tmp_path):
    dock.session.adopt(project)
    dock.show_only("Data")
    press(qtbot, dock, "Start")
    assert opened_panels(dock) == ["Train"]
    assert dock.session.runner.job.kind == "train"
    press(qtbot, dock, "Show progress")
    press(qtbot, dock, "Suggest patches")
    assert opened_panels(dock) == ["Annotate"]
    line = press(qtbot, dock, "Next patch")
    assert line.where.toolTip() == "project · target · 001-fake"
    for _ in range(3):
        press(qtbot, dock, "Done")
    dock.annotate.retrain.steps.setValue(20)
    press(qtbot, dock, "Retrain")
    press(qtbot, dock, "Predict")
    assert opened_panels(dock) == ["Predict"]
    assert isinstance(dock.session.runner.job or dock.session.runner.last_job, PredictJob)


def test_a_training_that_was_resumed_and_then_killed_is_resumed_again(qtbot, dock, project):
    dock.session.adopt(project)
    runner = dock.session.runner
    bar = dock.train.strip.bar
    dock.train.main.set_values({"steps": 5000})
    press(qtbot, dock, "Start")
    qtbot.waitUntil(lambda: bar.value() >= 20, timeout=60_000)
    qtbot.mouseClick(dock.train.strip.stop, Qt.MouseButton.LeftButton)
    # Whoever stops a training and keeps its model goes on with the model.
    step(qtbot, dock, "Suggest patches")
    qtbot.mouseClick(dock.train.resume, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: runner.job is not None and bar.value() >= 20, timeout=60_000)
    psutil.Process(runner.process_id).kill()
    qtbot.waitUntil(lambda: runner.job is None, timeout=60_000)
    assert "press Resume" in dock.notices.text()
    step(qtbot, dock, "Resume")


def test_a_job_that_cannot_start_is_explained_in_the_line(qtbot, dock, project):
    dock.session.adopt(project)
    dock.train.method.setCurrentText("finetune")
    line = dock.guide.line
    qtbot.waitUntil(lambda: "annotated patches" in line.sentence.text(), timeout=60_000)
    assert not line.button.isEnabled()
    # The panel does not say it as well.
    assert dock.train.reason.text() == line.sentence.text()
    assert dock.train.reason.isHidden()
    # What the line does not say, the panel does.
    assert dock.export.reason.text() not in ("", line.sentence.text())
    assert not dock.export.reason.isHidden()
    dock.train.method.setCurrentText("source_only")
    step(qtbot, dock, "Start")


@pytest.mark.parametrize("key", [Qt.Key.Key_Space, Qt.Key.Key_Return])
def test_headings_open_by_key_and_one_panel_is_open_at_a_time(qtbot, dock, key):
    assert opened_panels(dock) == ["Data"]
    heading = dock.drawers["Predict"].toggleButton()
    qtbot.keyClick(heading, key)
    assert opened_panels(dock) == ["Predict"]
    qtbot.keyClick(heading, key)
    assert opened_panels(dock) == []
    qtbot.mouseClick(dock.drawers["Data"].toggleButton(), Qt.MouseButton.LeftButton)
    assert opened_panels(dock) == ["Data"]


def test_the_painting_tools_stay_in_sight_while_a_patch_is_open(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    with qtbot.waitExposed(dock):
        dock.show()
    assert not dock.strip.isVisible()
    dock.annotate.suggest.start_job()
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=60_000)
    press(qtbot, dock, "Next patch")
    dock.show_only("Train")
    assert dock.annotate.painting.next.isVisible()
    dock.annotate.patches.leave()
    dock.annotate.patches.changed.emit()
    assert not dock.strip.isVisible()
