"""The stand-in for the child process, and what it is told to know."""

import json
import sys
from pathlib import Path

import numpy as np
import zarr

from napari_emda.project.job_files import TrainJob, write_job
from tests.predictions import note_as_predicted

HERE = Path(__file__).parent

CATALOGUE = {
    "methods": [
        {
            "name": "auto",
            "summary": "Borrows the target's grey values.",
            "requirements": {"domains": ["source", "target"], "labels": "needed"},
            "schema": {"properties": {}},
        },
        {
            "name": "source_only",
            "summary": "Never looks at the target.",
            "requirements": {"domains": ["source"], "labels": "needed"},
            "schema": {"properties": {}},
        },
        {
            "name": "finetune",
            "summary": "Learns from your patches.",
            "requirements": {
                "domains": ["source", "target"],
                "labels": "needed",
                "annotations": True,
            },
            "schema": {
                "properties": {
                    "replay": {
                        "default": 0.5,
                        "minimum": 0,
                        "maximum": 1,
                        "step": 0.1,
                        "type": "number",
                        "description": "Weight.",
                    }
                }
            },
        },
        {
            "name": "iic",
            "summary": "Needs no labels.",
            "requirements": {"optional_domains": ["source", "target"], "labels": "unused"},
            "schema": {"properties": {}},
        },
    ],
    "strategies": [
        {
            "name": "entropy",
            "summary": "The least sure.",
            "schema": {"properties": {}},
            "requirements": {"model": "classes"},
        },
        {
            "name": "random",
            "summary": "Random.",
            "schema": {"properties": {}},
            "requirements": {"model": "none"},
        },
    ],
    "exporters": [
        {
            "name": "mask",
            "summary": "The class of every voxel.",
            "schema": {"properties": {"threshold": {}, "minimum_size": {}}},
            "formats": {"TIFF": [".tif", ".tiff"], "OME-Zarr": [".zarr"]},
            "classes": "all",
        },
        {
            "name": "probabilities",
            "summary": "Of every class.",
            "schema": {"properties": {}},
            "formats": {"TIFF": [".tif", ".tiff"], "OME-Zarr": [".zarr"]},
            "classes": "all or one",
        },
        {
            "name": "table",
            "summary": "The objects of one class.",
            "schema": {"properties": {"threshold": {}, "minimum_size": {}, "separate": {}}},
            "formats": {"CSV": [".csv"]},
            "classes": "one",
        },
    ],
    "networks": [
        {
            "name": "unet",
            "summary": "The small one.",
            "schema": {
                "properties": {
                    name: {
                        "default": default,
                        "minimum": 3,
                        "maximum": 64,
                        "type": "integer",
                        "description": "Size.",
                    }
                    for name, default in (("base_channels", 16), ("depth", 3))
                }
            },
            "profiles": {
                "test": {"base_channels": 8},
                "standard": {"base_channels": 32, "depth": 4},
            },
        },
    ],
    "device": "cpu",
}


def fake_command(behaviour="work"):
    return (sys.executable, str(HERE / "fake_child.py"), behaviour, "{job}")


def methods_command():
    return (sys.executable, "-c", f"print({json.dumps(CATALOGUE)!r})")


def clusters_of(project, volume):
    """A run that has found three clusters in a volume: the left, the middle and the right third."""
    run = project.folder / "runs" / "001-iic"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    write_job(TrainJob(project=str(project.folder), method="iic"), run / "job.json")
    shape = project.volumes.open(volume).shape
    values = np.zeros((3, *shape), np.uint8)
    for k, columns in enumerate(np.array_split(np.arange(shape[2]), 3)):
        values[k][..., columns] = 240
    zarr.open_group(run / "probabilities.zarr", mode="a")
    names = ["none", "cluster 1", "cluster 2", "cluster 3"]
    path = run / "probabilities.zarr" / volume
    chunks = (1, 1, *shape[1:])
    zarr.create_array(path, data=values, chunks=chunks, attributes={"classes": names})
    note_as_predicted(run, volume, shape)
