"""Stacks of independent images, in which neighbouring sections are unrelated."""

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
from napari_emda.events import Suggested, result_of
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


# -- in the project ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "independent"),
    [
        ([], [False, False]),
        (["--independent"], [True, True]),
        (["--target-independent"], [False, True]),
    ],
)
def test_flags_of_the_command_line_are_kept_in_the_project(
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


# -- sections are unrelated -----------------------------------------------------------------------


def test_predictions_are_not_averaged_with_those_of_other_sections(tmp_path):
    image = normal(5, 64, 64)
    stored = []
    for name, model, volume in (
        ("fields", predictor(z_smoothing=0.2), fields(image)),
        ("plain", predictor(), fields(image)),
        ("stack", predictor(z_smoothing=0.2), target(image)),
        ("stack, plain", predictor(), target(image)),
    ):
        list(predict(model, volume, PredictSettings(flips="off"), RunFolder(tmp_path / name)))
        stored.append(StoredPrediction(RunFolder(tmp_path / name), "v").probabilities[:])
    assert np.array_equal(stored[0], stored[1])
    assert not np.array_equal(stored[2], stored[3])


def test_the_order_of_images_does_not_change_their_predictions_by_a_bit(tmp_path):
    order = [3, 0, 4, 2, 1]
    gains = np.linspace(0.5, 2, 5)[:, None, None]
    offsets = np.arange(5)[:, None, None]
    image = gains * normal(5, 64, 64) + offsets
    stored = []
    for name, stack in (("in order", image), ("shuffled", image[order])):
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


def z_smoothing_of(volumes):
    """The weight of neighbouring sections that calibration finds."""
    regions = PatchSampler(volumes, 32, 1).regions("target")
    sample = CalibrationSample(8, 32, flips=False)
    smoothing = Postprocessing(z_smoothing=True)
    return result_of(calibrate(predictor(), regions, (), smoothing, sample))


def test_calibration_smooths_stacks_but_not_independent_images():
    alike = np.repeat(normal(1, 96, 96), 8, axis=0)
    for volume, weight in ((target(alike), WEIGHT), (fields(alike), 0)):
        assert z_smoothing_of([volume]) == weight


def test_independent_images_beside_a_stack_do_not_prevent_its_smoothing():
    alike = np.repeat(normal(1, 96, 96), 8, axis=0)
    pair = [target(alike), replace(fields(normal(8, 96, 96)), name="fields")]
    assert z_smoothing_of(pair) == WEIGHT


def test_validation_predicts_one_independent_image_at_a_time():
    image = normal(5, 64, 64)
    header = predictor().header
    for volume, sections in ((target(image), {2, 3}), (fields(image), {1})):
        tiles = list(_tiles(Resampled(volume, 4.0), header, TrainSettings.for_profile("test"), 5))
        assert {tile.volume.shape[0] for tile in tiles} == sections
        assert {tile.volume.grid for tile in tiles} == {volume.grid}


def test_patches_of_independent_images_may_be_suggested_at_the_same_place(tmp_path):
    cls = strategies["random"]
    image = np.zeros((8, 32, 32), np.uint8)

    def distance(volume, seed):
        query = QuerySettings(strategy="random", patch=32, count=2, section_distance=3, seed=seed)
        *_, last = suggest(None, volume, cls(cls.Settings()), query, RunFolder(tmp_path), [])
        assert isinstance(last, Suggested)
        first, second = (Box.parse(region["box"], volume.shape) for region in last.regions)
        return abs(first.start[0] - second.start[0])

    assert min(distance(target(image), seed) for seed in range(10)) > 3
    assert min(distance(fields(image), seed) for seed in range(10)) == 1


# -- objects end with their section ----------------------------------------------------------------


class Chunked(np.ndarray):
    """An array with the chunks of a stored one."""

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
    """Objects of scikit-image in each section, numbered through."""
    labels = [label(section, connectivity=min(connectivity, 2)) for section in mask]
    offsets = np.cumsum([0, *(section.max() for section in labels)])
    return np.stack(
        [
            np.where(section > 0, section + offset, 0)
            for section, offset in zip(labels, offsets, strict=False)
        ]
    )


@settings(max_examples=40)
@given(
    mask=arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)),
    connectivity=st.sampled_from([1, 2, 3]),
)
def test_objects_equal_scikit_images_in_each_section(mask, connectivity):
    objects = objects_of(mask, connectivity)
    expected = section_by_section(mask, connectivity)
    # Equal but for the numbers: each id goes with one other id.
    pairs = {*zip(objects.ravel().tolist(), expected.ravel().tolist(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_tables_have_areas_instead_of_volumes():
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


# -- exports have no size along z ------------------------------------------------------------------


@pytest.fixture
def stored():
    values = np.zeros((1, 3, 16, 16), np.uint8)
    values[:, :, 4:8, 4:8] = 250
    return values


def test_a_tiff_has_sizes_in_the_plane_only(stored, tmp_path):
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
