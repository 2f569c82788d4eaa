"""Grey values: those of a volume, and those of independent images, each in its own range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
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
from napari_emda.inference.tiles import plan, read_tile
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import ExportJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.validation import Validator
from tests.inference.test_checkpoint import as_format, rewritten

SPACING = (50.0, 4.0, 4.0)


def view(image, *, independent=False, pixel_size=4.0, **values):
    grid = VoxelGrid(SPACING, sections_are_independent=independent)
    return Resampled(Volume("v", image, "source", grid, **values), pixel_size)


# -- of a volume -------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_numpy(noise):
    image = noise.gamma(2, 30, (1, 200, 250)).astype(np.float32)
    known = measure(view(image))
    assert known.mean == pytest.approx(image.mean(), rel=1e-5)
    assert known.std == pytest.approx(image.std(), rel=1e-5)
    expected = (np.quantile(image, np.linspace(0, 1, 513)) - image.mean()) / image.std()
    np.testing.assert_allclose(known.quantiles, expected, atol=1e-5)
    assert known.ranges == ()


def test_statistics_of_a_large_volume_are_sampled_from_everywhere(noise):
    image = (
        noise.normal(size=(40, 300, 300)).astype(np.float32) + np.linspace(0, 10, 40)[:, None, None]
    )
    known = measure(view(image))
    assert known.mean == pytest.approx(5, abs=0.2)
    assert known.std == pytest.approx(image.std(), rel=0.05)


@pytest.mark.parametrize(("share", "padded"), [(0.4, True), (0.05, True), (0.005, False)])
def test_zeros_are_padding_when_there_are_many(share, padded, noise):
    image = noise.normal(100, 10, (1, 200, 200)).astype(np.float32)
    image.ravel()[: int(share * image.size)] = 0
    known = measure(view(image))
    expected = image[image != 0] if padded else image
    assert known.padded == padded
    assert known.mean == pytest.approx(expected.mean(), rel=1e-4)
    assert known.std == pytest.approx(expected.std(), rel=1e-4)


# -- of independent images ---------------------------------------------------------------------------------------


@pytest.fixture
def fields(noise):
    """Four images of the same kind, with exposures that differ up to eightfold."""
    scene = noise.gamma(2, 10, (4, 80, 96))
    return (
        scene * np.array([1.0, 0.5, 4.0, 2.0])[:, None, None]
        + np.array([0, 30, 5, 90])[:, None, None]
    ).astype(np.float32)


def in_own_range(images):
    """As scikit-image rescales images by percentiles, one by one."""
    return np.stack(
        [
            rescale_intensity(image.astype(float), tuple(np.percentile(image, (1, 99))), (0.0, 1.0))
            for image in images
        ]
    )


def test_every_image_is_in_its_own_range(fields):
    known = measure(view(fields, independent=True))
    read = known.read(view(fields, independent=True), Box.whole(fields.shape))
    between = (read * known.std + known.mean).clip(0, 1)
    np.testing.assert_allclose(between, in_own_range(fields), atol=1e-5)
    assert [read.mean(), read.std()] == pytest.approx([0, 1], abs=1e-4)


def test_exposure_makes_no_difference(fields):
    one, other = (view(image, independent=True) for image in (fields, fields * 3 + 7))
    read = [measure(each).read(each, Box((1, 8, 8), (3, 40, 50))) for each in (one, other)]
    np.testing.assert_allclose(*read, atol=1e-4)


def test_a_box_is_the_part_of_the_whole_and_ranges_are_those_of_whole_images(fields):
    seen = view(fields, independent=True)
    known = measure(seen, Box((0, 0, 0), (2, 40, 40)))
    whole, box = known.read(seen, Box.whole(fields.shape)), Box((2, 10, 20), (4, 50, 60))
    np.testing.assert_array_equal(known.read(seen, box), whole[box.slices])
    assert known.ranges == measure(seen).ranges


def test_ranges_are_measured_at_the_pixel_size_of_the_network(fields):
    binned = block_reduce(fields, (1, 2, 2), np.mean)
    np.testing.assert_allclose(
        measure(view(fields, independent=True, pixel_size=8.0)).ranges,
        measure(view(binned, independent=True)).ranges,
        rtol=1e-5,
    )


def test_the_range_of_a_large_image_is_measured_in_windows(noise):
    image = noise.normal(size=(1, 1500, 1400)).astype(np.float32)
    (found,) = measure(view(image, independent=True)).ranges
    assert found == pytest.approx(np.percentile(image, (1, 99)), abs=0.02)


def test_a_dark_image_with_few_small_things_keeps_them_apart():
    """Both percentiles are then the background."""
    image = np.zeros((2, 64, 64), np.uint8)
    image[0, 10:14, 10:14] = 200
    image[1, ::2] = 50
    seen = view(image, independent=True)
    read = measure(seen).read(seen, Box.whole(image.shape))
    assert np.isfinite(read).all()
    assert np.abs(read).max() < 10
    for section, standard in zip(image, read, strict=True):
        np.testing.assert_array_equal(rankdata(standard), rankdata(section))


def test_images_of_one_grey_value_alone_are_refused():
    with pytest.raises(DataError, match="one grey value only"):
        measure(view(np.full((2, 40, 40), 7, np.uint8), independent=True))
    image = np.full((2, 40, 40), 7, np.uint8)
    image[0, 0] = 9
    assert np.isfinite(measure(view(image, independent=True)).std)


# -- training, prediction and validation agree -------------------------------------------------------------------


def test_a_patch_a_block_and_a_tile_of_a_validation_look_alike(fields):
    labels = np.zeros(fields.shape, np.uint8)
    labels[:, 20:40, 20:40] = 1
    volume = Volume("v", fields, "target", VoxelGrid(SPACING, sections_are_independent=True))
    sampler = PatchSampler([volume], 64, 4)
    standard = sampler.statistics["v"].read(Resampled(volume, 4.0), Box.whole(fields.shape))
    for patch in sampler.batch(0)["target"].image[:, 0].numpy():
        assert any((patch == window).all() for window in _windows(standard, 64))
    header = _header(statistics=sampler.statistics)
    settings = TrainSettings.for_profile("test", patch=32)
    predictor = Predictor(header.build().predictor, header, Compute.choose("cpu", "32"))
    tiles = plan(Resampled(volume, 4.0), predictor.network, PredictSettings(block=32))
    for tile in tiles:
        image = read_tile(Resampled(volume, 4.0), tile, predictor.statistics_of(volume))
        np.testing.assert_array_equal(image[:, 0].numpy(), standard[tile.seen.slices])
    validator = Validator.of(
        [replace(volume, labels=labels, domain="source")], [volume], header, settings
    )
    for tile in validator.tiles:
        seen = tile.statistics.read(Resampled(tile.volume, 4.0), Box.whole(tile.volume.shape))
        assert any((seen[0] == window).all() for window in _windows(standard, *seen.shape[1:]))
    assert len({tile.volume.name for tile in validator.tiles}) == len(validator.tiles)


def _windows(images, height, width=None):
    width = width or height
    return [
        window
        for image in images
        for window in np.lib.stride_tricks.sliding_window_view(image, (height, width)).reshape(
            -1, height, width
        )
    ]


def _header(**values):
    classes, network = ("background", "x"), {"classes": 2, "settings": {"base_channels": 8}}
    return ModelHeader(
        method="source_only",
        classes=classes,
        network=network,
        pixel_size=4.0,
        **values,
    )


def test_a_new_stack_is_measured_image_by_image_but_not_for_models_that_know_no_ranges(fields):
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


def test_a_run_of_an_older_version_is_used_as_it_is_and_not_continued(run):
    folder, name = run
    path = RunFolder.of(folder, name).checkpoint
    rewritten(path, lambda values: as_format(1, values))
    with pytest.raises(JobError, match=f"An older version began .* --from {name}"):
        list(execute(TrainJob(project=str(folder), method="", resume=name)))
    assert not checkpoint.load_method(path)[0].range_per_section


def test_a_package_says_how_images_are_brought_to_their_range(run, tmp_path, monkeypatch):
    folder, name = run
    seen = {}
    monkeypatch.setattr(
        "napari_emda.export.model.write_package", lambda *data, **named: seen.update(named)
    )
    list(
        execute(ExportJob(project=str(folder), run=name, what="model", to=str(tmp_path / "m.zip")))
    )
    known = checkpoint.read_header(RunFolder.of(folder, name).checkpoint).statistics["target_image"]
    assert seen["percentiles"] == (1, 99)
    assert (seen["mean"], seen["standard_deviation"]) == (known.mean, known.std)
