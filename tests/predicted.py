"""A project with a complete prediction of known quality, without a model that could be loaded."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io.tiff import write_tiff
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction

RUN = "001-source_only"
CLASSES = ("background", "mitochondria")
SHAPE = (6, 96, 96)


def tissue(shift=0.0, classes=1):
    """Class ids of blobs, and stored probabilities that are off by a shift of the log odds."""
    rng = np.random.default_rng(0)
    truth = np.zeros(SHAPE, np.uint8)
    stored = np.zeros((classes, *SHAPE), np.uint8)
    for k in range(classes):
        field = gaussian_filter(rng.standard_normal(SHAPE), (1, 4, 4))
        signal = field / field.std() - 1.2
        # What the model sees is noisy, and calibrated but for the shift.
        seen = signal + 0.35 * rng.standard_normal(SHAPE)
        truth[signal > 0] = k + 1
        stored[k] = np.floor(255 * expit(5 * seen + shift) + 0.5) / classes
    return truth, stored


def store(folder, stored, model="a", run=RUN, classes=CLASSES):
    """Predict the target of a project."""
    header = {"model": model, "uncertainty": False, "shape": list(stored.shape[1:])}
    prediction = StoredPrediction(RunFolder.of(folder, run), "target")
    prediction.begin(header, stored.shape, classes=classes, uncertainty=False)
    write = prediction.writer(uncertainty=False)
    with prediction.recording():
        write(Box.whole(stored.shape[1:]), stored, None)
        prediction.box_done(Box.whole(stored.shape[1:]))


def project_with(folder, stored, classes=CLASSES):
    """Make the project ``p`` in a folder; returns its path."""
    noise = np.random.default_rng(1).integers(60, 200, stored.shape[1:]).astype(np.uint8)
    image = folder / "target.tif"
    write_tiff(image, iter(noise), noise.shape, noise.dtype, VoxelGrid((50.0, 8.0, 8.0)))
    with Project.create(folder / "p", classes) as project:
        project.volumes.add(image, "target")
        run = project.folder / "runs" / RUN
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors").write_bytes(b"")
        store(project.folder, stored, classes=classes)
    return folder / "p"


def annotations(project):
    """The annotations of the target, 0 where there are none."""
    array = project.annotations.open("target")
    return np.zeros(SHAPE, np.uint8) if array is None else np.asarray(array[...])
