"""The phantom in a viewer with the dock, for the tests that need both."""

import functools
import subprocess
import sys

import numpy as np

from napari_emda._gui.dock import Dock
from napari_emda._gui.process import catalogue
from napari_emda._gui.process import runner as jobs
from napari_emda.synthetic.phantom import phantom
from tests.gui.fake import fake_command, methods_command
from tests.predictions import note_as_predicted

# The dock keeps a process waiting only for its own command. Loading it for each job that comes, and
# once more, takes 3 s each.
WITHOUT_STANDBY = (jobs.COMMAND[0], "-u", *jobs.COMMAND[1:])

SHAPE = (6, 112, 96)
SPACING = (50, 4.6, 4.6)
REPORT_EVERY = 5
NM = {"scale": SPACING, "units": ("nm",) * 3}


@functools.cache
def known_methods():
    """A command that prints the real methods at once: a child takes seconds each time."""
    answer = subprocess.run(catalogue.COMMAND, capture_output=True, text=True, check=True).stdout
    return (sys.executable, "-c", f"print({answer!r})")


@functools.cache
def drawn(domain, seed):
    """The phantom, as nearly every test with a viewer shows it."""
    return phantom(SHAPE, domain, seed, SPACING)


def start(viewer, seed=0, *, fake=False, standby=False):
    """Show the phantom and the dock; returns the dock and the target's truth.

    A ``fake`` dock starts children that only say what a real one would, for what has nothing to do
    with training. One with ``standby`` keeps a process waiting for the next job, as in life.
    """
    source, labels = (array.copy() for array in drawn("source", seed))
    target, truth = (array.copy() for array in drawn("target", seed))
    assert labels.any()
    viewer.add_image(source, name="old", **NM)
    viewer.add_labels(labels, name="old mitochondria", **NM)
    viewer.add_image(target, name="new", translate=(100, 46, 0), **NM)
    if fake:
        commands = (fake_command(), methods_command())
    else:
        commands = (jobs.COMMAND if standby else WITHOUT_STANDBY, known_methods())
    dock = Dock(viewer, *commands)
    viewer.window.add_dock_widget(dock, name="napari-emda")
    return dock, truth


def make_project(dock, folder, wait):
    """Press *Use these layers*."""
    wait(lambda: dock.session.catalogue is not None)
    dock.data.folder.setText(str(folder))
    dock.data.use_layers()
    wait(lambda: dock.session.opened is not None)


def train(dock, steps=30, **settings):
    """Press *Start* with the smallest network and patches."""
    dock.train.method.setCurrentText("histogram")
    dock.train.main.set_values({"profile": "test"})
    dock.train.main.set_values({"steps": steps})
    small = {
        "patch": 32,
        "batch": 2,
        "validations": 0,
        "save_every": 10,
        "report_every": REPORT_EVERY,
    }
    dock.train.advanced.set_values({**small, **settings})
    dock.train.start_job()
    assert dock.session.runner.job is not None, dock.notices.text()


def fake_model(project, volume="new"):
    """A run that has predicted a square everywhere, without any training."""
    import zarr

    run = project.folder / "runs" / "001-fake"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    values = np.zeros((1, *project.volumes.open(volume).shape), np.uint8)
    values[:, :, 4:14, 4:14] = 250
    zarr.open_group(run / "probabilities.zarr", mode="a")
    zarr.create_array(
        run / "probabilities.zarr" / volume, data=values, chunks=(1, 1, *values.shape[2:])
    )
    note_as_predicted(run, volume, values.shape[1:])
