"""Stacks of independent images, in which no section says anything of the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label, regionprops_table

from napari_emda.active_learning.strategy import strategies
from napari_emda.active_learning.suggest import suggest
from napari_emda.cli import main
from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Suggested
from napari_emda.inference.predict import predict
from napari_emda.io.read import open_image
from napari_emda.methods.base import Postprocessing
from napari_emda.objects.components import find_objects
from napari_emda.objects.table import object_table
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.prior_matching import WEIGHT, CalibrationSample, calibrate
from napari_emda.training.validation import _tiles
from tests.export.exporting import export
from tests.training.test_prior_matching import normal, predictor, target

SPACING = (1.0, 4.0, 2.0)
CLASSES = ("background", "nucleus")


def fields(image):
    volume = target(image)
    return replace(volume, grid=replace(volume.grid, sections_are_independent=True))


# -- kept in the project -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "independent"),
    [
        ([], [False, False]),
        (["--independent"], [True, True]),
        (["--target-independent"], [False, True]),
    ],
)
def test_the_command_line_says_so_and_the_project_keeps_it(
    flags, independent, phantom_files, tmp_path
):
    source = [str(phantom_files["source", kind]) for kind in ("image", "labels")]
    with pytest.raises(SystemExit) as end:
        main(
            [
                "new",
                str(tmp_path / "p"),
                "--source",
                *source,
                "--target",
                str(phantom_files["target", "image"]),
                *flags,
            ]
        )
    assert end.value.code == 0
    volumes = Project.open(tmp_path / "p").volumes.open_all()
    assert [volume.grid.sections_are_independent for volume in volumes] == independent


# -- sections say nothing of each other ---------------------------------------------------------------------------


def test_predictions_are_not_averaged_with_those_of_other_images(tmp_path):
    image, stored = normal(5, 64, 64), []
    for name, made, volume in (
        ("fields", predictor(z_smoothing=0.2), fields(image)),
        ("plain", predictor(), fields(image)),
        ("stack", predictor(z_smoothing=0.2), target(image)),
        ("stack, plain", predictor(), target(image)),
    ):
        list(predict(made, volume, PredictSettings(flips="off"), RunFolder(tmp_path / name)))
        stored.append(StoredPrediction(RunFolder(tmp_path / name), "v").probabilities[:])
    assert np.array_equal(stored[0], stored[1])
    assert not np.array_equal(stored[2], stored[3])


def test_in_another_order_every_image_gets_bitwise_the_same_answer(tmp_path):
    image, order = normal(5, 64, 64), [3, 0, 4, 2, 1]
    image = (
        image * np.linspace(0.5, 2, 5)[:, None, None] + np.arange(5)[:, None, None]
    )  # each has its own exposure
    stored = []
    for name, stack in (("as they are", image), ("shuffled", image[order])):
        list(
            predict(
                predictor(z_smoothing=0.2),
                fields(stack),
                PredictSettings(flips="off"),
                RunFolder(tmp_path / name),
            )
        )
        stored.append(StoredPrediction(RunFolder(tmp_path / name), "v").probabilities[:])
    assert stored[0].std() > 0
    assert np.array_equal(stored[0][:, order], stored[1])


def test_calibration_averages_nothing_even_where_images_are_alike():
    alike = np.repeat(normal(1, 96, 96), 8, axis=0)
    for volume, weight in ((target(alike), WEIGHT), (fields(alike), 0)):
        regions = PatchSampler([volume], 32, 1).regions("target")
        made = predictor()
        assert (
            calibrate(
                made,
                regions,
                (),
                Postprocessing(z_smoothing=True),
                CalibrationSample(8, 32, flips=False),
            )
            == weight
        )


def test_independent_images_beside_a_stack_neither_hinder_its_averaging_nor_take_part():
    alike = np.repeat(normal(1, 96, 96), 8, axis=0)
    pair = [target(alike), replace(fields(normal(8, 96, 96)), name="fields")]
    regions = PatchSampler(pair, 32, 1).regions("target")
    made = predictor()
    assert (
        calibrate(
            made,
            regions,
            (),
            Postprocessing(z_smoothing=True),
            CalibrationSample(8, 32, flips=False),
        )
        == WEIGHT
    )


def test_validation_looks_at_one_image_at_a_time():
    image = normal(5, 64, 64)
    header = predictor().header
    for volume, sections in ((target(image), {2, 3}), (fields(image), {1})):
        tiles = list(_tiles(Resampled(volume, 4.0), header, TrainSettings.for_profile("test"), 5))
        assert {tile.volume.shape[0] for tile in tiles} == sections
        assert {tile.volume.grid for tile in tiles} == {volume.grid}


def test_patches_at_the_same_place_of_the_next_image_may_be_suggested(tmp_path):
    strategy, image = strategies["random"], np.zeros((8, 32, 32), np.uint8)

    def closest(volume, seed):
        chosen = QuerySettings(strategy="random", patch=32, count=2, section_distance=3, seed=seed)
        *_, last = suggest(
            None, volume, strategy(strategy.Settings()), chosen, RunFolder(tmp_path), []
        )
        assert isinstance(last, Suggested)
        a, b = (Box.parse(region["box"], volume.shape).start[0] for region in last.regions)
        return abs(a - b)

    assert min(closest(target(image), seed) for seed in range(10)) > 3
    assert min(closest(fields(image), seed) for seed in range(10)) == 1


# -- objects end with their section -------------------------------------------------------------------------------


class Chunked(np.ndarray):
    """Says how it would be stored."""

    chunks: tuple[int, int, int]


def objects_of(mask, connectivity, chunks=(2, 2, 2)):
    out = np.zeros(mask.shape, np.uint32).view(Chunked)
    out.chunks = chunks
    list(
        find_objects(
            mask[None] * np.uint8(255),
            out,
            connectivity=connectivity,
            sections_are_independent=True,
        )
    )
    return out.view(np.ndarray)


def section_by_section(mask, connectivity):
    ids = [label(section, connectivity=min(connectivity, 2)) for section in mask]
    firsts = np.cumsum([0, *(each.max() for each in ids)])
    return np.stack(
        [np.where(each > 0, each + first, 0) for each, first in zip(ids, firsts, strict=False)]
    )


@settings(max_examples=40)
@given(
    mask=arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)),
    connectivity=st.sampled_from([1, 2, 3]),
)
def test_objects_are_those_of_scikit_image_in_each_section(mask, connectivity):
    found, expected = objects_of(mask, connectivity), section_by_section(mask, connectivity)
    pairs = {*zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_tables_hold_areas():
    mask = np.zeros((3, 12, 12), bool)
    mask[:, 2:6, 3:9] = True
    mask[1, 8:10, 8:10] = True
    table = object_table(objects_of(mask, 1), VoxelGrid(SPACING, sections_are_independent=True))
    areas = [
        regionprops_table(label(section), spacing=SPACING[1:], properties=("area",))["area"]
        for section in mask
    ]
    assert sorted(table["area (nm^2)"]) == sorted(np.concatenate(areas))
    assert set(table["z stop (voxel)"] - table["z start (voxel)"]) == {1}
    assert not {"volume (nm^3)", "surface (nm^2)", "centroid z (nm)"} & set(table)
    assert "centroid y (nm)" in table


# -- exports state no size along z --------------------------------------------------------------------------------


@pytest.fixture
def stored():
    values = np.zeros((1, 3, 16, 16), np.uint8)
    values[:, :, 4:8, 4:8] = 250
    return values


def test_a_tiff_has_sizes_in_the_plane_alone(stored, tmp_path):
    list(
        export(
            "objects", stored, tmp_path / "o.tif", VoxelGrid(SPACING, sections_are_independent=True)
        )
    )
    with tifffile.TiffFile(tmp_path / "o.tif") as file:
        assert "spacing" not in file.imagej_metadata
        assert file.imagej_metadata["unit"] == "nm"
        numerator, denominator = file.pages[0].tags["XResolution"].value
        assert denominator / numerator == pytest.approx(2.0)
        assert file.asarray().max() == 3
    assert open_image(tmp_path / "o.tif").spacing is None


def test_a_zarr_has_no_unit_along_z(stored, tmp_path):
    list(
        export(
            "objects",
            stored,
            tmp_path / "o.zarr",
            VoxelGrid(SPACING, sections_are_independent=True),
        )
    )
    image = zarr.open_group(tmp_path / "o.zarr").attrs["ome"]["multiscales"][0]
    assert [axis.get("unit") for axis in image["axes"]] == [None, "nanometer", "nanometer"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0, 4.0, 2.0]


def test_a_table_is_written_with_areas(stored, tmp_path):
    list(
        export(
            "table", stored, tmp_path / "t.csv", VoxelGrid(SPACING, sections_are_independent=True)
        )
    )
    header, *rows = (tmp_path / "t.csv").read_text().splitlines()
    assert "area (nm^2)" in header
    assert len(rows) == 3
