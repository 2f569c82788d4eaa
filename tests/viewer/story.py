"""The phantom in a viewer with the dock, for the tests that need both."""

import numpy as np

from napari_emda._gui.dock import Dock
from napari_emda.data.phantom import phantom

SHAPE = (6, 112, 96)
SPACING = (50, 4.6, 4.6)
NM = {"scale": SPACING, "units": ("nm",) * 3}


def start(viewer, seed=0):
    """Show the phantom and the dock; returns the dock and the target's truth."""
    source, labels = phantom(SHAPE, "source", seed, SPACING)
    target, truth = phantom(SHAPE, "target", seed, SPACING)
    assert labels.any()
    viewer.add_image(source, name="old", **NM)
    viewer.add_labels(labels, name="old mitochondria", **NM)
    viewer.add_image(target, name="new", translate=(100, 46, 0), **NM)
    dock = Dock(viewer)
    viewer.window.add_dock_widget(dock, name="napari-emda")
    return dock, truth


def make_project(dock, folder, wait):
    """Press *Use these layers*."""
    wait(lambda: dock.session.catalogue is not None)
    dock.data.folder.setText(str(folder))
    dock.data.use_layers()
    wait(lambda: dock.session.project is not None)


def train(dock, steps=30, **settings):
    """Press *Start* with the settings for trying out."""
    dock.train.main.set_values({"profile": "test"})
    dock.train.main.set_values({"steps": steps})
    dock.train.advanced.set_values({"save_every": 10, "report_every": 5, **settings})
    dock.train.start_training()
    assert dock.session.runner.job is not None, dock.notices.text()


def fake_model(project, volume="new"):
    """A run that has predicted a square everywhere, without any training."""
    import zarr

    run = project.folder / "runs" / "001-fake"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    values = np.zeros((1, *project.volume(volume).shape), np.uint8)
    values[:, :, 4:14, 4:14] = 250
    zarr.open_group(run / "probabilities.zarr", mode="a")
    zarr.create_array(run / "probabilities.zarr" / volume, data=values, chunks=(1, 1, *values.shape[2:]))
