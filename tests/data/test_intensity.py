"""Grey values of a volume, and of independent images, each in its own range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from scipy.stats import rankdata
from skimage.exposure import rescale_intensity
from skimage.measure import block_reduce

from napari_emda.cli import main
from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics, measure
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, JobError
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.tiles import read_tile
from napari_emda.inference.tiling import plan
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import ExportJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.device_volumes import standardised as on_device
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.validation import Validator
from tests.inference.test_checkpoint import as_format, rewritten

SPACING = (50.0, 4.0, 4.0)


def view(image, *, independent=False, pixel_size=4.0, **values):
    grid = VoxelGrid(SPACING, sections_are_independent=independent)
    return Resampled(Volume("v", image, "source", grid, **values), pixel_size)


# -- volumes -----------------------------------------------------------------------------------


def test_statistics_equal_numpys(noise):
    image = noise.gamma(2, 30, (1, 200, 250)).astype(np.float32)
    statistics = measure(view(image))
    assert statistics.mean == pytest.approx(image.mean(), rel=1e-5)
    assert statistics.std == pytest.approx(image.std(), rel=1e-5)
    expected = (np.quantile(image, np.linspace(0, 1, 513)) - image.mean()) / image.std()
    np.testing.assert_allclose(statistics.quantiles, expected, atol=1e-5)
    assert statistics.ranges == ()


def test_statistics_of_a_large_volume_are_sampled_from_everywhere(noise):
    drift = np.linspace(0, 10, 40)[:, None, None]
    image = noise.normal(size=(40, 300, 300)).astype(np.float32) + drift
    statistics = measure(view(image))
    assert statistics.mean == pytest.approx(5, abs=0.2)
    assert statistics.std == pytest.approx(image.std(), rel=0.05)


@pytest.mark.parametrize(("share", "padded"), [(0.4, True), (0.05, True), (0.005, False)])
def test_zeros_are_padding_if_there_are_many(share, padded, noise):
    image = noise.normal(100, 10, (1, 200, 200)).astype(np.float32)
    image.ravel()[: int(share * image.size)] = 0
    statistics = measure(view(image))
    expected = image[image != 0] if padded else image
    assert statistics.padded == padded
    assert statistics.mean == pytest.approx(expected.mean(), rel=1e-4)
    assert statistics.std == pytest.approx(expected.std(), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("independent", [False, True])
def test_clean_grey_values_are_standardised_as_they_are(dtype, independent, noise):
    image = noise.normal(120, 25, (3, 200, 220)).clip(1, 255).astype(dtype)
    statistics = measure(view(image, independent=independent))
    whole = Box.whole(image.shape)
    clipped = statistics.read(view(image), whole)
    unclipped = replace(statistics, limits=None).read(view(image), whole)
    np.testing.assert_array_equal(clipped, unclipped)
    if not independent:
        assert statistics.mean == pytest.approx(image.mean(), rel=1e-6)
        assert statistics.std == pytest.approx(image.std(), rel=1e-6)


@pytest.mark.parametrize("hot", [65535, 60_000, 0])
@pytest.mark.parametrize("share", [1e-4, 2e-3])
@pytest.mark.parametrize("independent", [False, True])
def test_a_few_broken_pixels_change_nothing(hot, share, independent, noise):
    clean = noise.normal(3000, 60, (3, 200, 220)).astype(np.uint16)
    broken = clean.copy()
    broken.ravel()[noise.choice(clean.size, int(share * clean.size), replace=False)] = hot
    expected = measure(view(clean, independent=independent))
    found = measure(view(broken, independent=independent))
    # Of independent images, the percentiles that become 0 and 1 move by the broken pixels' share.
    assert found.mean == pytest.approx(expected.mean, rel=0.03)
    assert found.std == pytest.approx(expected.std, rel=0.03)
    np.testing.assert_allclose(found.quantiles[5:-5], expected.quantiles[5:-5], atol=0.1)
    seen = found.read(view(broken), Box.whole(clean.shape))
    # The network sees them as grey values that differ, and not as thousands of deviations.
    assert np.abs(seen).max() < 20
    np.testing.assert_allclose(
        seen[broken == clean],
        expected.read(view(clean), Box.whole(clean.shape))[broken == clean],
        atol=0.2,
    )
    by_torch = on_device(
        torch.from_numpy(broken.astype(np.float32))[:, None],
        found,
        torch.tensor(found.ranges) if independent else None,
    )
    np.testing.assert_allclose(by_torch[:, 0], seen, atol=1e-3)


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
def test_a_constant_border_changes_nothing(grey, noise):
    clean = noise.normal(120, 25, (3, 200, 220)).clip(2, 254).astype(np.uint8)
    bordered = clean.copy()
    bordered[:, :, :60] = grey
    bordered[:, -30:] = grey
    expected = measure(view(clean))
    found = measure(view(bordered))
    assert found.padding == (grey,)
    assert found.mean == pytest.approx(expected.mean, rel=0.01)
    assert found.std == pytest.approx(expected.std, rel=0.02)
    # At a coarser pixel size, the rounding of the average hides no padding.
    coarse = measure(view(bordered, pixel_size=8.0))
    assert coarse.mean == pytest.approx(measure(view(clean, pixel_size=8.0)).mean, rel=0.01)


def test_a_model_of_an_older_version_clips_nothing():
    header = {"mean": 100.0, "std": 10.0, "quantiles": [0.0, 1.0], "padded": False, "ranges": []}
    statistics = TypeAdapter(Statistics).validate_python(header)
    assert (statistics.limits, statistics.padding) == (None, ())
    values = np.array([[[0.0, 100.0, 65535.0]]], np.float32)
    assert statistics.standardise(values).ravel().tolist() == [-10.0, 0.0, 6543.5]


# -- independent images -------------------------------------------------------------------------


@pytest.fixture
def fields(noise):
    """Four images of the same kind, with exposures that differ up to eightfold."""
    scene = noise.gamma(2, 10, (4, 80, 96))
    gains = np.array([1.0, 0.5, 4.0, 2.0])[:, None, None]
    offsets = np.array([0, 30, 5, 90])[:, None, None]
    return (scene * gains + offsets).astype(np.float32)


def rescaled_one_by_one(images):
    """Every image rescaled by its percentiles with scikit-image."""
    return np.stack(
        [
            rescale_intensity(image.astype(float), tuple(np.percentile(image, (1, 99))), (0.0, 1.0))
            for image in images
        ]
    )


def test_every_image_is_scaled_to_its_own_range(fields):
    statistics = measure(view(fields, independent=True))
    read = statistics.read(view(fields, independent=True), Box.whole(fields.shape))
    scaled = (read * statistics.std + statistics.mean).clip(0, 1)
    np.testing.assert_allclose(scaled, rescaled_one_by_one(fields), atol=1e-5)
    assert [read.mean(), read.std()] == pytest.approx([0, 1], abs=1e-4)


def test_exposure_makes_no_difference(fields):
    box = Box((1, 8, 8), (3, 40, 50))
    standardised = []
    for image in (fields, fields * 3 + 7):
        images = view(image, independent=True)
        standardised.append(measure(images).read(images, box))
    np.testing.assert_allclose(*standardised, atol=1e-4)


def test_boxes_use_the_ranges_of_whole_images(fields):
    images = view(fields, independent=True)
    statistics = measure(images, Box((0, 0, 0), (2, 40, 40)))
    whole = statistics.read(images, Box.whole(fields.shape))
    box = Box((2, 10, 20), (4, 50, 60))
    np.testing.assert_array_equal(statistics.read(images, box), whole[box.slices])
    assert statistics.ranges == measure(images).ranges


def test_ranges_are_measured_at_the_pixel_size_of_the_network(fields):
    binned = block_reduce(fields, (1, 2, 2), np.mean)
    np.testing.assert_allclose(
        measure(view(fields, independent=True, pixel_size=8.0)).ranges,
        measure(view(binned, independent=True)).ranges,
        rtol=1e-5,
    )


def test_the_range_of_a_large_image_is_measured_in_windows(noise):
    image = noise.normal(size=(1, 1500, 1400)).astype(np.float32)
    (measured,) = measure(view(image, independent=True)).ranges
    assert measured == pytest.approx(np.percentile(image, (1, 99)), abs=0.02)


def test_few_small_objects_in_a_dark_image_keep_their_contrast():
    """Both percentiles are those of the background."""
    image = np.zeros((2, 64, 64), np.uint8)
    image[0, 10:14, 10:14] = 200
    image[1, ::2] = 50
    images = view(image, independent=True)
    read = measure(images).read(images, Box.whole(image.shape))
    assert np.isfinite(read).all()
    assert np.abs(read).max() < 10
    for section, standardised in zip(image, read, strict=True):
        np.testing.assert_array_equal(rankdata(standardised), rankdata(section))


def test_images_with_one_grey_value_only_are_refused():
    with pytest.raises(DataError, match="one grey value only"):
        measure(view(np.full((2, 40, 40), 7, np.uint8), independent=True))
    image = np.full((2, 40, 40), 7, np.uint8)
    image[0, 0] = 9
    assert np.isfinite(measure(view(image, independent=True)).std)


# -- training, prediction and validation agree -----------------------------------------------------


def test_training_prediction_and_validation_read_the_same_grey_values(fields):
    labels = np.zeros(fields.shape, np.uint8)
    labels[:, 20:40, 20:40] = 1
    volume = Volume("v", fields, "target", VoxelGrid(SPACING, sections_are_independent=True))
    sampler = PatchSampler([volume], 64, 4)
    standardised = sampler.statistics["v"].read(Resampled(volume, 4.0), Box.whole(fields.shape))
    for patch in sampler.batch(0)["target"].image[:, 0].numpy():
        assert any((patch == window).all() for window in _windows(standardised, 64))
    header = _header(statistics=sampler.statistics)
    settings = TrainSettings.for_profile("test", patch=32)
    predictor = Predictor(header.build().predictor, header, Compute.choose("cpu", "32"))
    tiles = plan(Resampled(volume, 4.0), predictor.network, PredictSettings(block=32))
    for tile in tiles:
        image = read_tile(Resampled(volume, 4.0), tile, predictor.statistics_of(volume))
        np.testing.assert_array_equal(image[:, 0].numpy(), standardised[tile.seen.slices])
    validator = Validator.of(
        [replace(volume, labels=labels, domain="source")], [volume], header, settings
    )
    for tile in validator.tiles:
        seen = tile.statistics.read(Resampled(tile.volume, 4.0), Box.whole(tile.volume.shape))
        windows = _windows(standardised, *seen.shape[1:])
        assert any((seen[0] == window).all() for window in windows)
    assert len({tile.volume.name for tile in validator.tiles}) == len(validator.tiles)


def _windows(images, height, width=None):
    """All windows of this size, in all images."""
    width = width or height
    windows = []
    for image in images:
        view_of_windows = np.lib.stride_tricks.sliding_window_view(image, (height, width))
        windows += list(view_of_windows.reshape(-1, height, width))
    return windows


def _header(**values):
    return ModelHeader(
        method="source_only",
        classes=("background", "x"),
        network={"classes": 2, "settings": {"base_channels": 8}},
        pixel_size=4.0,
        **values,
    )


def test_a_new_stack_is_measured_image_by_image_unless_the_model_has_no_ranges(fields):
    volume = Volume("new", fields, "target", VoxelGrid(SPACING, sections_are_independent=True))
    assert len(_header().statistics_of(Resampled(volume, 4.0)).ranges) == 4
    assert _header(range_per_section=False).statistics_of(Resampled(volume, 4.0)).ranges == ()
    stack = replace(volume, grid=VoxelGrid(SPACING))
    assert _header().statistics_of(Resampled(stack, 4.0)).ranges == ()
    old = Statistics(3.0, 2.0, ())
    assert (
        _header(range_per_section=False, statistics={"new": old}).statistics_of(
            Resampled(volume, 4.0)
        )
        == old
    )


@pytest.fixture
def run(phantom_files, tmp_path):
    """A project of independent images with one run."""
    files = [str(phantom_files["source", kind]) for kind in ("image", "labels")]
    target = str(phantom_files["target", "image"])
    flags = ["--set", "patch=32", "--steps", "2"]
    for command in (
        ["new", str(tmp_path / "p"), "--source", *files, "--target", target, "--independent"],
        ["train", str(tmp_path / "p"), "--method", "histogram", "--profile", "test", *flags],
    ):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 0
    with Project.open(tmp_path / "p") as project:
        return project.folder, project.run(None).name


def test_a_run_of_an_older_version_can_be_used_but_not_continued(run):
    folder, name = run
    path = RunFolder.of(folder, name).checkpoint
    rewritten(path, lambda values: as_format(1, values))
    with pytest.raises(JobError, match=f"An older version began .*from {name}"):
        list(execute(TrainJob(project=str(folder), method="", resume=name)))
    assert not checkpoint.load_method(path)[0].range_per_section


def test_a_model_package_describes_the_scaling_of_images(run, tmp_path, monkeypatch):
    folder, name = run
    written = {}
    monkeypatch.setattr(
        "napari_emda.export.model.write_package", lambda *data, **named: written.update(named)
    )
    list(
        execute(ExportJob(project=str(folder), run=name, what="model", to=str(tmp_path / "m.zip")))
    )
    header = checkpoint.read_header(RunFolder.of(folder, name).checkpoint)
    statistics = header.statistics["target_image"]
    assert written["percentiles"] == (1, 99)
    assert (written["mean"], written["standard_deviation"]) == (statistics.mean, statistics.std)
