"""The common spectrum: two volumes are filtered to the power that both have at each frequency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from scipy.signal import welch

from napari_emda.data.box import Box
from napari_emda.data.context import Context
from napari_emda.data.intensity import GreySample, Statistics, measure
from napari_emda.data.resampled import Resampled
from napari_emda.data.spectrum import BINS, REACH, filtered, kernel_to
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import SettingsError
from napari_emda.export.model import Filtered
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.tiles import BlockReader, Tile, read_tile
from napari_emda.nn.network import NetworkConfig
from napari_emda.sampling.device_volumes import DeviceVolumes
from napari_emda.sampling.sampler import PatchSampler

CPU = torch.device("cpu")
SHAPE = (3, 200, 210)


def texture(seed, blur=0.0, shape=SHAPE):
    """Tissue with structure at all scales, as grey values, seen through a Gaussian point spread."""
    noise = np.random.default_rng(seed).normal(size=shape)
    tissue = gaussian_filter(noise, (0, 3, 3), mode="wrap") * 8 + gaussian_filter(
        noise, (0, 0.5, 0.5), mode="wrap"
    )
    image = 120 + 20 * gaussian_filter(tissue, (0, blur, blur), mode="wrap")
    return image.round().clip(0, 255).astype(np.uint8)


def volume(domain, image, *, spacing=(50.0, 8.0, 8.0), independent=False):
    return Volume(domain, image, domain, VoxelGrid(spacing, "nm", independent))


@pytest.fixture(scope="module")
def pair():
    """A sharp source and a target blurred by one pixel."""
    return [volume("source", texture(0)), volume("target", texture(1, blur=1.0))]


@pytest.fixture(scope="module")
def sampler(pair):
    """Of the pair, filtered to its common spectrum."""
    return PatchSampler(pair, 64, 4, spectrum=None, context=1)


def line_power(sections):
    """Power along rows, by frequency, without our code (Welch's method of SciPy)."""
    frequencies, power = welch(sections, window="hamming", nperseg=50, axis=-1)
    return frequencies, power.mean((0, 1))


def test_a_blurred_volume_and_a_sharp_one_get_equal_spectra(pair, sampler):
    ratios = []
    for statistics in (lambda region: measure(region.view), lambda region: region.statistics):
        powers = []
        for domain in ("source", "target"):
            (region,) = sampler.regions(domain)
            image = statistics(region).read(region.view, Box.whole(SHAPE))
            assert image.std() == pytest.approx(1, abs=0.02)
            frequencies, power = line_power(image)
            powers.append(power)
        fine = frequencies > 0.1
        ratios.append(powers[0][fine] / powers[1][fine])
    before, after = ratios
    assert before.max() > 20
    # Of 9 x 9 pixels, the filter cannot follow the gains exactly: an amplitude is right to a fifth.
    assert after.min() > 1 / 1.45 and after.max() < 1.45
    (target,) = sampler.regions("target")
    assert not target.statistics.kernel


def test_volumes_of_equal_appearance_stay_as_they_are():
    volumes = [volume("source", texture(0)), volume("target", texture(1))]
    filtered_sampler = PatchSampler(volumes, 64, 4, spectrum=None)
    assert len(filtered_sampler.spectrum) == BINS
    assert filtered_sampler.statistics == PatchSampler(volumes, 64, 4).statistics


def test_filtering_is_multiplying_the_fourier_transform(sampler, noise):
    (source,) = sampler.regions("source")
    kernel = source.statistics.kernel
    image = noise.normal(size=(2, 40, 50)).astype(np.float32)
    around = np.pad(image, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="wrap")
    weights = np.zeros((40, 50))
    weights[: len(kernel), : len(kernel)] = kernel
    weights = np.roll(weights, (-REACH, -REACH), (0, 1))
    # The weights are symmetric, so that correlation is convolution.
    expected = np.fft.ifft2(np.fft.fft2(image) * np.fft.fft2(weights)).real
    np.testing.assert_allclose(filtered(around, kernel), expected, atol=1e-5)
    np.testing.assert_allclose(np.fft.fft2(weights).real.ravel()[0], 1)


@pytest.mark.parametrize("spacing", [(50.0, 8.0, 8.0), (50.0, 6.0, 11.0)])
@pytest.mark.parametrize("independent", [False, True])
def test_parts_of_a_volume_are_filtered_as_all_of_it(sampler, spacing, independent):
    view = Resampled(volume("v", texture(3), spacing=spacing, independent=independent), 8.0)
    statistics = measure(view, common=sampler.spectrum)
    assert statistics.kernel
    box = Box((0, -9, -3), (3, view.shape[1] + 5, 100))
    whole = statistics.read(view, box)
    plain = replace(statistics, kernel=()).read(view, box.grown(REACH))
    np.testing.assert_allclose(whole, filtered(plain, statistics.kernel), atol=1e-4)
    for z in range(3):
        for rows in ((-9, 11), (11, 12), (12, view.shape[1] + 5)):
            part = Box((z, rows[0], 20), (z + 1, rows[1], 71))
            inside = whole[z : z + 1, rows[0] + 9 : rows[1] + 9, 23:74]
            # Resampling is exact to rounding alone.
            tolerance = 0 if view.scale == (1, 1) else 1e-5
            np.testing.assert_allclose(statistics.read(view, part), inside, 0, tolerance)


def test_a_device_filters_as_the_processor_does(pair, sampler):
    device_volumes = DeviceVolumes(sampler, CPU)
    for step in range(3):
        batch = sampler.batch(step)
        corners = device_volumes.draw(step, sampler.domains)
        for domain, patches in device_volumes.batch(corners).items():
            torch.testing.assert_close(patches.image, batch[domain].image, rtol=0, atol=1e-4)
            assert torch.equal(patches.labels, batch[domain].labels)
    (source,) = sampler.regions("source")
    reader = BlockReader(source.view, source.statistics, CPU, on_device=True)
    for box in (Box.whole(SHAPE), Box((1, 64, 0), (2, 128, 64))):
        tile = Tile(box, box)
        with torch.autocast("cpu", torch.bfloat16):
            image = reader.on_device(reader.read(tile), tile)
        expected = read_tile(source.view, tile, source.statistics, Context.none(SHAPE[0]))
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("shape", [(1, 2, 48, 64), (2, 1, 3, 32, 48)])
def test_an_exported_network_filters_what_it_gets(sampler, shape, noise):
    (source,) = sampler.regions("source")
    kernel = source.statistics.kernel
    network = Filtered(torch.nn.Identity(), torch.tensor(kernel)).eval()
    traced = torch.jit.trace(network, torch.zeros(shape))
    image = noise.normal(size=(*shape[:-2], 40, 70)).astype(np.float32)
    widths = [(0, 0)] * (len(shape) - 2) + [(REACH, REACH)] * 2
    around = np.pad(image, widths, mode="symmetric")
    expected = filtered(around.reshape(-1, *around.shape[-2:]), kernel).reshape(image.shape)
    np.testing.assert_allclose(traced(torch.from_numpy(image)).numpy(), expected, atol=1e-5)


def test_padding_changes_neither_spectrum_nor_statistics():
    image = texture(0, shape=(4, 256, 256))
    bordered = image.copy()
    bordered[:, :60] = 0
    common = GreySample.of(
        Resampled(volume("target", texture(1, 1.0, (4, 256, 256))), 8.0)
    ).spectrum()
    with_border, without = (
        measure(Resampled(volume("source", grey), 8.0), common=common) for grey in (bordered, image)
    )
    assert with_border.padded
    np.testing.assert_allclose(with_border.kernel, without.kernel, atol=0.01)
    assert with_border.mean == pytest.approx(without.mean, rel=0.01)
    assert with_border.std == pytest.approx(without.std, rel=0.05)
    np.testing.assert_allclose(with_border.quantiles[20:-20], without.quantiles[20:-20], atol=0.1)


@pytest.mark.parametrize("shape", [(1, 32, 40), (1, 3, 5)])
def test_volumes_smaller_than_a_patch_have_a_spectrum(shape):
    spectrum = GreySample.of(Resampled(volume("target", texture(1, 1, shape)), 8.0)).spectrum()
    assert len(spectrum) == BINS
    assert np.isfinite(spectrum).all()


def test_a_filter_never_amplifies_one_frequency_more_than_a_lower_one():
    flat = (1.0,) * BINS
    # Less power in the middle alone, as beside a peak of noise.
    common = tuple(0.1 if 15 <= ring < 25 else 1.0 for ring in range(BINS))
    weights = np.zeros((64, 64))
    weights[: 2 * REACH + 1, : 2 * REACH + 1] = kernel_to(common, flat)
    gains = np.abs(np.fft.fft2(weights))[0, :33]
    assert gains[:8].min() > 0.85
    assert gains[20:].max() < 0.45


# -- models ----------------------------------------------------------------------------------------


def header(sampler, **values):
    return ModelHeader(
        method="source_only",
        classes=("background", "structure"),
        network=NetworkConfig(classes=2),
        pixel_size=8.0,
        statistics=sampler.statistics,
        spectrum=sampler.spectrum,
        **values,
    )


def test_a_volume_that_is_new_to_a_model_is_filtered_to_its_spectrum(pair, sampler):
    model = ModelHeader.model_validate_json(header(sampler).model_dump_json())
    assert model.statistics_of(Resampled(pair[0], 8.0)) == sampler.statistics["source"]
    unknown = replace(pair[0], name="another", domain="target")
    assert model.statistics_of(Resampled(unknown, 8.0)) == sampler.statistics["source"]
    as_before = model.model_copy(update={"spectrum": ()})
    assert not as_before.statistics_of(Resampled(unknown, 8.0)).kernel


@pytest.mark.parametrize(
    "values",
    [
        {"spectrum": (1.0,) * (BINS - 1)},
        {"spectrum": (-1.0,) * BINS},
        {"spectrum": (float("inf"),) * BINS},
        {"statistics": {"v": Statistics(0.0, 1.0, (), kernel=((1.0,),))}},
        {"statistics": {"v": Statistics(0.0, 1.0, (), kernel=((1.0,) * 9,) * 9)}},
        {"statistics": {"v": Statistics(0.0, 1.0, (), kernel=((float("nan"),) * 9,) * 9)}},
    ],
)
def test_a_model_with_an_impossible_filter_is_refused(sampler, values):
    fields = header(sampler).model_dump() | values
    with pytest.raises(ValidationError, match=r"cannot be right|finite number"):
        ModelHeader.model_validate(fields)


@pytest.fixture
def labelled(source, target):
    """The phantom's pair, of which the source is sharper."""
    return [source, target]


def test_a_training_goes_on_with_the_spectrum_that_it_began_with(make_training, tmp_path, labelled):
    first = make_training(labelled, tmp_path, "histogram", spectrum="common")
    assert first.header.spectrum == first.sampler.spectrum != ()
    assert any(statistics.kernel for statistics in first.header.statistics.values())
    first.write(0)
    again = make_training(labelled, tmp_path, "histogram", spectrum="own")
    assert again.sampler.spectrum == first.sampler.spectrum
    assert again.header.statistics == first.header.statistics
    stored = checkpoint.read_header(first.path)
    assert stored.spectrum == first.sampler.spectrum


@pytest.mark.parametrize(("setting", "filters"), [("auto", True), ("own", False)])
def test_a_training_from_another_run_sees_its_spectrum(
    make_training, tmp_path, labelled, setting, filters
):
    first = make_training(labelled, tmp_path / "first", "histogram", spectrum="common")
    first.write(0)
    later = make_training(
        labelled, tmp_path / "later", "histogram", start=first.path, spectrum=setting
    )
    assert later.sampler.spectrum == (first.sampler.spectrum if filters else ())


def test_one_domain_has_nothing_in_common(make_training, tmp_path, labelled):
    with pytest.raises(SettingsError, match="choose spectrum=own, or a method that uses both"):
        make_training(labelled, tmp_path, "source_only", spectrum="common")
