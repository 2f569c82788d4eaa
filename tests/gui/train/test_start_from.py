"""A method that adapts a model starts from the latest one, without being told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from napari_emda._gui.process import catalogue
from napari_emda._gui.train.panel import TrainPanel
from napari_emda.project.job_files import TrainJob
from napari_emda.settings.requirements import Requirements
from tests.gui.fake import CATALOGUE


@pytest.fixture
def panel(session, qtbot):
    """The panel of a session that knows a method without a source."""
    methods = catalogue.parse(json.dumps(CATALOGUE)).methods
    methods["source_free"] = catalogue.Choice(
        "source_free",
        schema={"properties": {}},
        requirements=Requirements(domains=("target",), model="classes"),
    )
    new_panel = TrainPanel(session)
    qtbot.addWidget(new_panel)
    session.set_catalogue(replace(catalogue.parse(json.dumps(CATALOGUE)), methods=methods))
    return new_panel


def add_run(project, name):
    """A run with a model that says no more than its step."""
    run = project.folder / "runs" / name
    run.mkdir(parents=True)
    values = {"format": 4, "model": {"step": 3}, "training": {"settings": {"steps": 3}}}
    tensors = {"network.offset": np.zeros(2, np.float32)}
    save_file(tensors, run / "checkpoint.safetensors", {"napari_emda": json.dumps(values)})
    project.run(name).write_job(TrainJob(project=str(project.folder), method="source_only"))


def test_it_starts_from_the_latest_run(session, panel, project):
    add_run(project, "001-imported")
    session.adopt(project, {}, {})
    opened = session.opened
    assert panel.start_from.run is None
    panel.method.setCurrentText("source_free")
    assert panel.why_not(opened) == ""
    assert panel.job(opened).start_from == "001-imported"
    # The user's own choice stays.
    add_run(project, "002-other")
    session.project_changed.emit()
    assert panel.job(opened).start_from == "001-imported"


def test_without_a_model_it_says_what_is_missing(session, panel, project):
    session.adopt(project, {}, {})
    panel.method.setCurrentText("source_free")
    assert "none to start from" in panel.why_not(session.opened)
    assert panel.job(session.opened).start_from is None
