"""A volume keeps the place that its OME-Zarr states, up to what is exported of it."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale

from napari_emda.io.read import open_image
from napari_emda.io.write import save_volume
from napari_emda.project.project import Project

SCALE = [0.05, 0.008, 0.008]
TRANSLATION = [1.5, 0.4, -0.2]


@pytest.fixture
def placed(tmp_path):
    level = Dataset.build(path="0", scale=SCALE, translation=TRANSLATION)
    axes = [Axis(name=axis, type="space", unit="micrometer") for axis in "zyx"]
    image = Multiscale(axes=axes, datasets=(level,), name="a")
    attributes = ImageAttrs(multiscales=[image], version="0.5").model_dump(
        mode="json", exclude_none=True
    )
    group = zarr.create_group(tmp_path / "a.zarr", attributes={"ome": attributes}, zarr_format=3)
    group.create_array("0", data=np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    return tmp_path / "a.zarr"


def test_exports_lie_where_the_image_lies(placed, tmp_path):
    with Project.create(tmp_path / "p", ("background", "a")) as project:
        project.volumes.add(placed, "target")
    with Project.open(tmp_path / "p") as project:
        volume = project.volumes.open("a")
    assert volume.grid.origin == pytest.approx((1500, 400, -200))
    for channels in (1, 2):
        path = tmp_path / f"out{channels}.zarr"
        list(save_volume([volume.image] * channels, path, np.uint8, volume.grid))
        level = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
        (translation,) = [
            step["translation"]
            for step in level["coordinateTransformations"]
            if step["type"] == "translation"
        ]
        assert translation == pytest.approx([0] * (channels - 1) + [1500, 400, -200])
    assert open_image(tmp_path / "out1.zarr").origin == pytest.approx((1500, 400, -200))


def test_a_voxel_size_of_the_user_has_no_place(placed, tmp_path):
    with Project.create(tmp_path / "p", ("background", "a")) as project:
        project.volumes.add(placed, "target", spacing=(50, 4, 4))
        assert project.volumes.open("a").grid.origin == (0, 0, 0)
