"""The domain gap finds the changes made to an image, and its sentence fits known volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from napari_emda.data.domain_gap import DomainGap, domain_gap, frechet_distance
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.synthetic.phantom import SPACING, phantom

DATA = Path(__file__).parents[3] / "shared" / "data"


def volume(image, spacing=SPACING):
    return Volume("volume", np.asarray(image), "source", VoxelGrid(spacing))


@pytest.fixture(scope="module")
def scene():
    """A smooth random image, 8 x 128 x 128, of which every section is read as a whole."""
    scene = gaussian_filter(np.random.default_rng(0).normal(size=(8, 128, 128)), (0, 3, 3))
    return (scene / scene.std()).astype(np.float32)


@pytest.fixture(scope="module")
def phantom_images():
    """Sections of the phantom's two domains, 8 x 256 x 256."""
    return {domain: phantom((8, 256, 256), domain, seed=3)[0] for domain in ("source", "target")}


def test_gain_and_offset_make_no_gap(scene):
    for other in (scene, 40 * scene + 500):
        gap = domain_gap(volume(scene), volume(other))
        assert (gap.greys, gap.texture) == pytest.approx((0, 0), abs=1e-3)
        assert (gap.sharpness, gap.noise, gap.pixel) == pytest.approx((1, 1, 1), rel=1e-3)
        assert gap.in_words().startswith("Domain gap: small – the two look alike: ")


def test_exposures_of_independent_images_make_no_gap(scene):
    gains = np.geomspace(0.2, 5, len(scene))[:, None, None]
    same, other = (
        replace(volume(image), grid=VoxelGrid(SPACING, sections_are_independent=True))
        for image in (scene, gains * scene + 20 * gains)
    )
    gap = domain_gap(same, other)
    assert (gap.greys, gap.texture) == pytest.approx((0, 0), abs=1e-3)
    assert (gap.sharpness, gap.noise) == pytest.approx((1, 1), rel=1e-3)
    assert domain_gap(volume(scene), volume(other.image)).greys > 0.14


def test_greys_equal_scipys_wasserstein_distance(scene):
    other = np.exp(scene)
    standardised = [((image - image.mean()) / image.std()).ravel() for image in (scene, other)]
    expected = wasserstein_distance(*standardised)
    # The gap leaves out half a percent of the grey values at both ends.
    assert domain_gap(volume(scene), volume(other)).greys == pytest.approx(expected, rel=0.1)


def test_noise_equals_the_added_noise(scene):
    noise = np.random.default_rng(1).normal(size=scene.shape)
    quiet = scene + 0.1 * noise
    noisy = scene + 0.4 * noise
    gap = domain_gap(volume(quiet), volume(noisy))
    assert gap.noise == pytest.approx((0.4 / noisy.std()) / (0.1 / quiet.std()), rel=0.05)
    assert "noisier" in gap.in_words()
    assert "less noisy" in domain_gap(volume(noisy), volume(quiet)).in_words()


def test_a_blurred_image_is_less_sharp(scene):
    gap = domain_gap(volume(scene), volume(gaussian_filter(scene, (0, 4, 4))))
    assert gap.sharpness < 0.8
    assert "the target is less sharp" in gap.in_words()


def test_frechet_distance_equals_its_definition(noise):
    x = noise.normal(size=(500, 3))
    y = noise.normal(size=(400, 3)) @ noise.normal(size=(3, 3)) + 1
    scale = np.vstack([x, y]).std(0)
    cov_x = np.cov((x / scale).T)
    cov_y = np.cov((y / scale).T)
    means = np.sum((x.mean(0) / scale - y.mean(0) / scale) ** 2)
    squared = means + np.trace(cov_x + cov_y - 2 * sqrtm(cov_x @ cov_y).real)
    assert frechet_distance(x, y) == pytest.approx(np.sqrt(squared / 3), rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_volumes_are_compared_at_the_coarser_pixel_size(scene):
    fine = np.kron(scene, np.ones((1, 2, 2), np.float32))
    gap = domain_gap(volume(scene, (50, 10, 10)), volume(fine, (50, 5, 5)))
    assert gap.pixel == 0.5
    assert gap.greys < 0.05
    assert gap.sharpness == pytest.approx(1, rel=0.15)


def test_halves_of_one_volume_look_alike_and_the_phantoms_domains_do_not(phantom_images):
    source = phantom_images["source"]
    target = phantom_images["target"]
    halves = domain_gap(volume(source[:, :128]), volume(source[:, 128:]))
    assert halves.in_words().startswith("Domain gap: small")
    domains = domain_gap(volume(source), volume(target))
    assert domains.in_words().startswith(("Domain gap: moderate", "Domain gap: large"))


@pytest.mark.skipif(not DATA.exists(), reason="needs the real volumes VNC and Lucchi")
def test_halves_of_real_volumes_look_alike_and_the_volumes_do_not():
    vnc = tifffile.imread(DATA / "vnc" / "image.tif", key=range(0, 20, 4))
    lucchi = tifffile.imread(DATA / "lucchi" / "image_every4.tif", key=range(0, 42, 8))
    vnc_spacing = (50, 4.6, 4.6)
    lucchi_spacing = (20, 5, 5)
    for image, spacing in ((vnc, vnc_spacing), (lucchi, lucchi_spacing)):
        for axis in (1, 2):
            first, second = np.array_split(image, 2, axis)
            gap = domain_gap(volume(first, spacing), volume(second, spacing))
            assert gap.in_words().startswith("Domain gap: small"), gap
    pair = [volume(vnc, vnc_spacing), volume(lucchi, lucchi_spacing)]
    for source, target in (pair, pair[::-1]):
        assert domain_gap(source, target).in_words().startswith("Domain gap: large")


class CountingArray:
    """An array of any size that counts the voxels read of it."""

    def __init__(self, shape):
        self.shape = shape
        self.dtype = np.dtype(np.uint8)
        self.read = 0

    def __getitem__(self, key):
        shape = [axis.stop - axis.start for axis in key]
        values = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        self.read += values.size
        return values


@pytest.mark.parametrize("spacing", [(50, 10, 10), (50, 0.1, 0.1)])
def test_few_voxels_of_a_large_volume_are_read(spacing):
    image = CountingArray((5000, 100_000, 100_000))
    small = volume(np.random.default_rng(0).random((3, 99, 80)), (50, 10, 10))
    domain_gap(replace(small, image=image, grid=VoxelGrid(spacing)), small)
    assert image.read <= 8 * 2049**2


def test_padding_blank_and_broken_voxels_and_tiny_volumes_give_finite_numbers(scene):
    padded = np.pad(scene, ((0, 0), (0, 128), (0, 128)))
    broken = scene.copy()
    broken[0, :4] = np.nan
    for image in (padded, broken, np.zeros((2, 40, 40)), np.zeros((1, 1, 1)), scene[:1, :3, :3]):
        gap = domain_gap(volume(scene), volume(image))
        assert np.isfinite([gap.greys, gap.sharpness, gap.noise, gap.texture]).all()
        assert gap.in_words().endswith(".")


@pytest.mark.parametrize("grey", [0.0, 255.0, 128.0])
def test_constant_borders_make_no_gap(phantom_images, grey):
    image = phantom_images["source"].astype(np.float32)
    bordered = np.pad(image, ((0, 0), (64, 0), (0, 96)), constant_values=grey)
    gap = domain_gap(volume(image), volume(bordered))
    assert gap.in_words().startswith("Domain gap: small"), gap
    # As between two parts of one volume.
    halves = domain_gap(volume(image[:, :128]), volume(image[:, 128:]))
    assert gap.texture < 2 * halves.texture
    assert gap.sharpness == pytest.approx(1, rel=0.1)
    assert gap.noise == pytest.approx(1, rel=0.1)


def test_a_border_does_not_hide_a_gap(phantom_images):
    source, target = (phantom_images[domain] for domain in ("source", "target"))
    plain = domain_gap(volume(source), volume(target))
    bordered = domain_gap(volume(source), volume(np.pad(target, ((0, 0), (0, 96), (0, 96)))))
    assert bordered.texture == pytest.approx(plain.texture, rel=0.3)
    assert bordered.noise == pytest.approx(plain.noise, rel=0.1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.1, 1.2, 0.7, 0.2, 1.9), "small – the two look alike: "),
        ((0.2, 1, 1, 0, 1), "moderate – grey values differ: "),
        ((0, 1, 1, 0.4, 1), "moderate – texture differs: "),
        ((0, 0.5, 1, 0, 1), "moderate – the target is less sharp (factor 2.0): "),
        (
            (0, 1, 2, 0, 3),
            "large – the target is noisier (factor 2.0) and coarser (factor 3.0): ",
        ),
        (
            (0.2, 2, 1, 1, 1),
            "large – the target is sharper (factor 2.0), and grey values and texture differ: ",
        ),
    ],
)
def test_the_sentence_names_what_differs(values, words):
    gap = DomainGap(*values)
    assert gap.in_words().startswith(f"Domain gap: {words}")
    assert f"noise {gap.noise:.2f}" in gap.in_numbers()
