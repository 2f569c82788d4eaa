"""Projects for random sequences: of two or three classes, one or two targets, TIFF or zarr."""

import hashlib

import numpy as np
import tifffile
import zarr

from napari_emda.project.project import Project
from tests.predictions import note_as_predicted

SHAPE = (5, 48, 40)
SPACING = (50.0, 4.6, 4.6)
# The second target of some projects has other voxels: its layers lie elsewhere in the world.
OTHER_SHAPE = (4, 40, 56)
OTHER_SPACING = (40.0, 8.0, 8.0)
NAMES = ("background", "mitochondria", "vesicles")
# In voxels; the last one overlaps the first, as suggestions of later rounds may.
BOXES = ("1:2,0:16,0:16", "3:4,8:24,8:24", "2:3,0:16,16:32", "1:2,8:24,8:24")


def kind_of(seed):
    """What a sequence works with: number of classes, of targets, TIFF files, voxels alike."""
    rng = np.random.default_rng([seed, 1_000_000])
    # The first seeds go through all of them.
    return {
        "classes": 2 + (seed + 1) % 2,
        "targets": 1 + (seed // 2 + 1) % 2,
        "tiff": bool(rng.random() < 0.4),
        "alike": bool(rng.random() < 0.5),
    }


def make_project(folder, seed=0):
    """A project with a source, one or two targets, suggestions, and predictions of the targets."""
    kind = kind_of(seed)
    rng = np.random.default_rng([seed, 1_000_001])
    other = (SHAPE, SPACING) if kind["alike"] else (OTHER_SHAPE, OTHER_SPACING)
    volumes = [("source", "source", SHAPE, SPACING), ("target", "target", SHAPE, SPACING)]
    volumes += [("second", "target", *other)] if kind["targets"] == 2 else []
    with Project.create(folder, NAMES[: kind["classes"]]) as project:
        for name, domain, shape, spacing in volumes:
            # Random values: no two sections are alike, so that the picture tells which it is.
            image = rng.integers(0, 255, shape).astype(np.uint8)
            labels = None
            if domain == "source":
                labels = project.volumes.store("labels", (image > 200).astype(np.uint8))
            path = _stored(project, name, image, tiff=kind["tiff"])
            project.volumes.add(path, domain, labels=labels, name=name, spacing=spacing)
        targets = [(name, shape) for name, domain, shape, _ in volumes if domain == "target"]
        _predict(project, targets, rng, kind["classes"])
        # Some users come to patches that wait for them, others ask for the first ones.
        if rng.random() < 0.8:
            order = [(box, targets[k % len(targets)][0]) for k, box in enumerate(BOXES)]
            suggestions = [
                {"volume": name, "box": box, "score": 0.9 - k / 10}
                for k, (box, name) in enumerate(order)
            ]
            project.regions.suggest(suggestions, "entropy", "001-fake")


def _stored(project, name, image, *, tiff):
    """Path of an image, in the project or beside it."""
    if not tiff:
        return project.volumes.store(name, image)
    path = project.folder.parent / f"{name}.tif"
    tifffile.imwrite(path, image)
    return path


def _predict(project, targets, rng, classes):
    run = project.folder / "runs" / "001-fake"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    for group in ("probabilities.zarr", "uncertainty.zarr"):
        zarr.open_group(run / group, mode="a")
    for name, shape in targets:
        values = rng.integers(0, 160, (classes - 1, *shape)).astype(np.uint8)
        for group, array in (("probabilities.zarr", values), ("uncertainty.zarr", values[0])):
            chunks = (*(1,) * (array.ndim - 2), *shape[1:])
            zarr.create_array(run / group / name, data=array, chunks=chunks)
        note_as_predicted(run, name, shape)


def fingerprints(folder):
    """A hash of each file that no action may change: images, labels, predictions."""
    paths = [
        *(folder / "volumes").rglob("*"),
        *(folder / "runs" / "001-fake").rglob("*.zarr/**/*"),
        *(folder.parent / f"{name}.tif" for name in ("source", "target", "second")),
    ]
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.is_file()
    }


def painted(folder):
    """The annotations on disk, read past the program: uint8 (z, y, x) by volume."""
    return {
        path.stem: np.asarray(zarr.open_array(path, mode="r")[:])
        for path in sorted((folder / "annotations").glob("*.zarr"))
        if (path / "zarr.json").exists()
    }


def check_project(folder):
    """The project opens, its annotations hold classes only, and accepted patches are complete."""
    with Project.open(folder, exclusive=True) as project:
        for volume, stored in painted(folder).items():
            assert stored.max() <= len(project.classes), f"a number that is no class in {volume}"
        for region in project.regions.all():
            if region.state == "accepted":
                stored = np.asarray(project.annotations.open(region.volume)[region.voxels.slices])
                assert stored.all(), f"patch {region.id} was accepted, and part of it is unpainted"
        return {region.id: region.state for region in project.regions.all()}
