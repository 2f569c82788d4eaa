"""Objects of a fake model, found without a child process."""

import numpy as np
import zarr

from napari_emda.events import result_of
from napari_emda.project.found_objects import Description
from napari_emda.project.stored_calibration import described
from napari_emda.project.storing_objects import store_objects
from tests.predictions import note_as_predicted

RUN = "001-fake"
DISCS = {"pair": ((30, 20), (30, 33)), "lone": ((70, 25),), "faint": ((75, 70),)}
"""Centres (y, x): two that touch, one that is sound, one of which the model is unsure."""


def disc_model(project, volume="new", radius=8, discs=DISCS):
    """A run that has predicted discs in the middle sections of a volume, and their objects."""
    shape = project.volumes.open(volume).shape
    y, x = np.mgrid[: shape[1], : shape[2]]
    values = np.zeros((1, *shape), np.uint8)
    for kind, centres in discs.items():
        for cy, cx in centres:
            disc = (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
            values[0, 1:-1, disc] = 150 if kind == "faint" else 245
    run = project.folder / "runs" / RUN
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    zarr.open_group(run / "probabilities.zarr", mode="a")
    zarr.create_array(
        run / "probabilities.zarr" / volume, data=values, chunks=(1, 1, *values.shape[2:])
    )
    note_as_predicted(run, volume, shape)
    find_objects(project, volume)
    return values


def find_objects(project, volume="new", **settings):
    """What the job of finding objects leaves."""
    classes = dict(enumerate(project.classes[1:], start=1))
    folder = project.run(RUN)
    description = Description(
        run=RUN,
        volume=volume,
        prediction=described(folder, volume),
        settings=settings,
        classes=classes,
    )
    prediction = project.predictions.of(RUN, volume)
    grid = project.volumes.entry(volume).grid
    path = folder.objects(volume)
    return result_of(store_objects(path, description, prediction, grid))
