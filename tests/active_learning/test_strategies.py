"""What each strategy computes, against SciPy, scikit-learn and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import xlogy
from scipy.stats import entropy as scipy_entropy
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, pairwise_distances_argmin

from napari_emda.active_learning.block_outputs import BlockOutputs, mutual_information
from napari_emda.active_learning.candidates import Candidates, Pool
from napari_emda.active_learning.patch_features import WindowPooling, means_of, windows_of
from napari_emda.active_learning.strategies.least_confidence import lack_of_confidence
from napari_emda.active_learning.strategy import strategies
from napari_emda.active_learning.suggest import choose, suggest
from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError
from napari_emda.events import Suggested
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor, entropy
from napari_emda.inference.tiling import plan
from napari_emda.jobs.execute import execute
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import in_domain, norms
from napari_emda.project.job_files import SuggestJob, TrainJob
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings

CPU = Compute(torch.device("cpu"), bf16=False)


def strategy_of(name, **settings):
    cls = strategies[name]
    return cls(cls.Settings.parse(settings))


def unet(dropout=0.5, seed=0):
    torch.manual_seed(seed)
    network = UNet(2, UNet.Settings(base_channels=8, dropout=dropout))
    # Fresh statistics are 0 and 1, with which a forgotten normalisation would go unnoticed.
    for layer in norms(network):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    return network.eval()


def predictor(network, pixel_size=4.0):
    header = ModelHeader(
        method="source_only",
        classes=("background", "a"),
        network={"classes": 2},
        pixel_size=pixel_size,
        statistics={"v": Statistics(0.0, 1.0, (0.0,))},
    )
    return Predictor(network, header, CPU)


def volume(shape, spacing=(50.0, 4.0, 4.0), seed=0):
    return Volume(
        "v",
        np.random.default_rng(seed).normal(size=shape).astype(np.float32),
        "target",
        VoxelGrid(spacing),
    )


def images(*shape, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(size=(shape[0], 1, *shape[1:])).astype(np.float32)
    )


def probabilities(classes=2, samples=1, shape=(3, 20, 24), seed=0):
    """Samples x B x C x H x W float64; two rows are exactly 0 and 1."""
    rng = np.random.default_rng(seed)
    values = rng.dirichlet([0.3] * classes, size=(samples, *shape))
    values[..., :2, :] = np.eye(classes)[0]
    return torch.from_numpy(np.moveaxis(values, -1, 2))


# -- entropy and least confidence ------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_entropy_equals_scipys(classes):
    p = probabilities(classes)[0]
    np.testing.assert_allclose(
        entropy(p) * np.log(classes), scipy_entropy(p.numpy(), axis=1), atol=1e-12
    )


@pytest.mark.parametrize(
    ("p", "nats"),
    [((0.5, 0.5), 0.693147), ((0.9, 0.1), 0.325083), ((1.0, 0.0), 0.0), ((0.0, 1.0), 0.0)],
)
def test_entropy_of_single_pixels(p, nats):
    pixel = torch.tensor(p, dtype=torch.float64).view(1, 2, 1, 1)
    assert float(entropy(pixel)) * np.log(2) == pytest.approx(nats, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_lack_of_confidence_is_one_minus_the_largest_probability(classes):
    p = probabilities(classes)[0]
    lack = lack_of_confidence(p).numpy()
    confidence = np.sort(p.numpy(), axis=1)[:, -1].sum((1, 2))  # eq. 2, between N / C and N
    pixels = lack[0].size
    np.testing.assert_allclose(lack.sum((1, 2)) * (1 - 1 / classes), pixels - confidence, atol=1e-9)
    assert lack.min() == 0
    assert lack.max() <= 1
    uniform = torch.full((1, classes, 1, 1), 1 / classes)
    assert float(lack_of_confidence(uniform)) == pytest.approx(1)


def test_with_two_classes_entropy_and_least_confidence_order_pixels_alike():
    p = probabilities()[0]
    order = lack_of_confidence(p).ravel().argsort()
    assert (entropy(p).ravel()[order].diff() >= -1e-12).all()


# -- BALD ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("samples", [1, 2, 7])
def test_mutual_information_is_entropy_of_the_mean_less_mean_entropy(classes, samples):
    predictions = probabilities(classes, samples)
    values = predictions.numpy()
    predictive = -xlogy(values.mean(0), values.mean(0)).sum(1)
    expected = predictive + xlogy(values, values).sum(2).mean(0)
    measured = mutual_information(iter(predictions)).numpy() * np.log(classes)
    np.testing.assert_allclose(measured, expected, atol=1e-12)
    assert measured.min() >= 0
    assert (measured <= predictive + 1e-12).all()


@pytest.mark.parametrize(
    ("samples", "nats", "predictive"),
    [(((0.9, 0.1), (0.1, 0.9)), 0.368064, 0.693147), (((0.5, 0.5), (0.5, 0.5)), 0.0, 0.693147)],
)
def test_bald_differs_from_predictive_entropy(samples, nats, predictive):
    predictions = torch.tensor(samples, dtype=torch.float64).view(2, 1, 2, 1, 1)
    assert float(mutual_information(predictions)) * np.log(2) == pytest.approx(nats, abs=1e-6)
    mean = predictions.mean(0)
    assert float(entropy(mean)) * np.log(2) == pytest.approx(predictive, abs=1e-6)


def test_bald_and_mc_entropy_are_computed_from_the_same_samples():
    outputs = BlockOutputs(predictor(unet()), images(2, 32, 40), "target")
    samples = np.stack([sample.numpy() for sample in outputs.dropout(4)]).astype(np.float64)
    predictive = scipy_entropy(samples.mean(0), axis=1) / np.log(2)
    mc_entropy = strategy_of("mc_entropy", samples=4).uncertainty(outputs)
    np.testing.assert_allclose(mc_entropy, predictive, atol=1e-6)
    expected = scipy_entropy(samples, axis=2).mean(0) / np.log(2)
    bald = strategy_of("bald", samples=4).uncertainty(outputs)
    np.testing.assert_allclose(bald, predictive - expected, atol=1e-6)
    assert bald.max() > 0.01


# -- dropout ---------------------------------------------------------------------------------------


def sampled_by_whole_pass(network, image, layers, seed):
    """A pass through the whole network in which only the given layers are in training mode."""
    network.eval()
    for layer in layers:
        layer.train()
    with torch.random.fork_rng(), torch.no_grad(), in_domain(network, "target"):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        sample = network(image).softmax(1)
    network.eval()
    return sample


def test_samples_equal_whole_passes_with_only_dropout_in_training_mode():
    network = unet()
    image = images(2, 32, 40)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Dropout2d)]
    assert layers
    samples = list(BlockOutputs(predictor(network), image, "target", (3, 5)).dropout(3))
    for number, sample in enumerate(samples):
        expected = sampled_by_whole_pass(network, image, layers, (3, 5, number))
        torch.testing.assert_close(sample, expected)
    assert not torch.equal(samples[0], samples[1])


@pytest.mark.parametrize("training", [True, False])
def test_dropout_changes_neither_modes_nor_statistics_nor_torchs_generator(training):
    network = unet().train(training)
    next(norms(network)).train(not training)
    modes = [layer.training for layer in network.modules()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    for _ in BlockOutputs(predictor(network), images(1, 16, 16), "source").dropout(2):
        assert [layer.training for layer in network.modules()] == modes
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_dropout_follows_its_seed():
    network = unet()
    image = images(1, 16, 24)

    def samples(seed):
        return torch.stack(list(BlockOutputs(predictor(network), image, "source", seed).dropout(2)))

    assert torch.equal(samples((1,)), samples((1,)))
    assert not torch.equal(samples((1,)), samples((2,)))


@pytest.mark.parametrize("name", ["bald", "mc_entropy", "hybrid"])
def test_strategies_that_need_dropout_refuse_a_model_without(name):
    outputs = BlockOutputs(predictor(unet(dropout=0.0)), images(1, 16, 16), "source")
    with pytest.raises(JobError, match="trained without dropout, which this strategy needs"):
        strategy_of(name).uncertainty(outputs)


def test_views_are_four_flips_flipped_back():
    network = unet()
    image = images(2, 36, 44)  # not a multiple of the stride
    outputs = BlockOutputs(predictor(network), image, "target")
    views = []
    padded = torch.nn.functional.pad(image, (0, 4, 0, 4), mode="replicate")
    with torch.no_grad(), in_domain(network, "target"):
        for axes in ((), (-1,), (-2,), (-1, -2)):
            views.append(network(padded.flip(axes)).softmax(1).flip(axes)[..., :36, :44])
    torch.testing.assert_close(torch.stack(list(outputs.views())), torch.stack(views))
    expected = mutual_information(iter(views))
    torch.testing.assert_close(strategy_of("disagreement").uncertainty(outputs), expected)
    assert expected.max() > 0


def test_rounds_compare_with_the_model_before():
    network = unet()
    earlier = unet(seed=1)
    image = images(1, 20, 24)
    outputs = BlockOutputs(predictor(network), image, "target", earlier=predictor(earlier))
    strategy = strategy_of("disagreement", between="rounds")
    assert strategy.required.earlier_run
    assert not strategy_of("disagreement").required.earlier_run
    predictions = [
        BlockOutputs(predictor(model), image, "target").probabilities
        for model in (network, earlier)
    ]
    torch.testing.assert_close(strategy.uncertainty(outputs), mutual_information(predictions))
    same_twice = BlockOutputs(predictor(network), image, "target", earlier=predictor(network))
    assert strategy.uncertainty(same_twice).max() < 1e-6


# -- k-means ---------------------------------------------------------------------------------------


def pool_of_points(points, count, *, annotated=None, seed=0):
    """A pool of patches side by side, none of which overlap, with given embeddings."""
    n = len(points)
    starts = np.stack([np.zeros(n), np.zeros(n), 16 * np.arange(n)], axis=1).astype(np.int64)
    return Pool(
        Candidates(starts, 16, n),
        count,
        seed=seed,
        embeddings=np.asarray(points, np.float32),
        annotated=None if annotated is None else np.asarray(annotated, np.float32),
    )


def picked_indices(strategy, pool):
    return [index for index, _ in choose(strategy, pool)]


@pytest.mark.parametrize("seed", range(5))
def test_k_means_picks_the_patch_nearest_to_each_centroid(seed, noise):
    centres = np.array([[0, 0], [5, 0], [0, 5], [5, 5]])
    points = np.concatenate(
        [centre + 0.4 * noise.normal(size=(15, 2)) for centre in centres]
    ).astype(np.float32)
    centroids = KMeans(4, n_init=20, random_state=0).fit(points).cluster_centers_
    expected = set(pairwise_distances_argmin(centroids, points).tolist())
    pool = pool_of_points(points, 4, seed=seed)
    assert set(picked_indices(strategy_of("k_means"), pool)) == expected


def test_k_means_picks_from_every_cluster_in_turn_until_none_is_left(noise):
    points = np.concatenate([noise.normal(size=(12, 2)), 20 + noise.normal(size=(3, 2))])
    strategy = strategy_of("k_means")
    first_two = picked_indices(strategy, pool_of_points(points, 2))
    assert sorted(index >= 12 for index in first_two) == [False, True]
    assert sorted(picked_indices(strategy, pool_of_points(points, 15))) == list(range(15))


def test_k_means_copes_with_duplicates():
    points = np.repeat(np.eye(3), 4, axis=0)
    assert len(set(picked_indices(strategy_of("k_means"), pool_of_points(points, 7)))) == 7


# -- core-set --------------------------------------------------------------------------------------


def radius(distances, centres):
    """Largest distance of a point to the nearest centre, from the distances between all points."""
    return distances[:, list(centres)].min(1).max()


def test_core_set_covers_within_twice_the_best_radius():
    strategy = strategy_of("core_set")
    for seed in range(100):
        points = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
        distances = pairwise_distances(points)
        best = min(radius(distances, centres) for centres in itertools.combinations(range(12), 3))
        centres = picked_indices(strategy, pool_of_points(points, 3))
        assert radius(distances, centres) <= 2 * best * (1 + 1e-6)


def test_core_set_picks_the_farthest_from_annotated_and_picked_patches(noise):
    points = noise.normal(size=(30, 4))
    annotated = noise.normal(size=(5, 4))
    centres = list(annotated)
    expected = []
    for _ in range(8):
        expected.append(int(pairwise_distances(points, centres).min(1).argmax()))
        centres.append(points[expected[-1]])
    picks = choose(strategy_of("core_set"), pool_of_points(points, 8, annotated=annotated))
    assert [index for index, _ in picks] == expected
    radii = [score for _, score in picks]
    assert radii == sorted(radii, reverse=True)


def test_core_set_picks_duplicates_and_copies_of_annotated_patches_last():
    points = np.repeat(np.eye(3), 3, axis=0)
    strategy = strategy_of("core_set")
    first_two = picked_indices(strategy, pool_of_points(points, 2, annotated=points[:1]))
    assert sorted(index // 3 for index in first_two) == [1, 2]
    all_nine = picked_indices(strategy, pool_of_points(points, 9, annotated=points[:1]))
    assert sorted(all_nine) == list(range(9))


# -- hybrid ----------------------------------------------------------------------------------------


def test_hybrid_spreads_over_the_most_uncertain(noise):
    points = noise.normal(size=(40, 3))
    annotated = noise.normal(size=(2, 3))
    uncertainty = noise.random(40)
    pool = pool_of_points(points, 4, annotated=annotated)
    pool.uncertainty = uncertainty
    listed = np.argsort(-uncertainty)[:12]
    centres = list(annotated)
    expected = []
    for _ in range(4):
        expected.append(int(listed[pairwise_distances(points[listed], centres).min(1).argmax()]))
        centres.append(points[expected[-1]])
    assert picked_indices(strategy_of("hybrid", shortlist=3), pool) == expected


# -- coverage --------------------------------------------------------------------------------------


def facility_location(points, uncertainty, centres, width):
    """Brute force: the uncertainty of every point, times its similarity to the nearest centre."""
    total = 0.0
    for point, weight in zip(points, uncertainty, strict=True):
        similarities = [
            np.exp(-((point - centre) ** 2).sum() / (2 * width**2)) for centre in centres
        ]
        total += weight * max(similarities)
    return total


def test_coverage_adds_the_patch_that_represents_most_uncertainty(noise):
    points = noise.normal(size=(25, 3))
    annotated = noise.normal(size=(2, 3))
    uncertainty = noise.random(25)
    pool = pool_of_points(points, 5, annotated=annotated)
    pool.uncertainty = uncertainty
    width = 0.7 * np.median(pairwise_distances(points))
    centres = list(annotated)
    indices = []
    gains = []
    for _ in range(5):
        before = facility_location(points, uncertainty, centres, width)
        values = [
            facility_location(points, uncertainty, [*centres, point], width) - before
            for point in points
        ]
        indices.append(int(np.argmax(values)))
        gains.append(max(values))
        centres.append(points[indices[-1]])
    picks = choose(strategy_of("coverage", reach=0.7, shortlist=5), pool)
    assert [index for index, _ in picks] == indices
    np.testing.assert_allclose([score for _, score in picks], gains, rtol=1e-4)


def test_coverage_does_not_prefer_outliers_as_core_set_does(noise):
    outliers = [[9, 9], [-9, 9]]
    points = np.concatenate([0.1 * noise.normal(size=(30, 2)), outliers])
    pool = pool_of_points(points, 1, annotated=[[0.3, 0.3]])
    pool.uncertainty = np.full(32, 0.5)
    assert picked_indices(strategy_of("coverage", shortlist=100), pool)[0] < 30
    pool = pool_of_points(points, 1, annotated=[[0.3, 0.3]])
    assert picked_indices(strategy_of("core_set"), pool)[0] >= 30


# -- features of patches ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", [(7, 9), (40, 50)])
def test_windows_have_the_same_means_and_maxima_for_all_block_sizes(block, noise):
    maps = noise.normal(size=(3, 4, 40, 50)).astype(np.float32)  # sections, channels, rows, columns
    patches = [
        [z, z + 1, y, y + 11, x, x + 13] for z in range(3) for y in (0, 5, 29) for x in (0, 20, 37)
    ]
    box = [0, 3, 4, 36, 2, 50]
    bounds = np.array([*patches, box])
    windows = WindowPooling(bounds, 4, maxima=True)
    for z, y, x in itertools.product(range(3), range(0, 40, block[0]), range(0, 50, block[1])):
        windows.add(maps[z, :, y : y + block[0], x : x + block[1]], z, y, x)
    values = [
        np.moveaxis(maps[z0:z1, :, y0:y1, x0:x1], 1, 0).reshape(4, -1)
        for z0, z1, y0, y1, x0, x1 in bounds
    ]
    np.testing.assert_allclose(windows.means, [window.mean(1) for window in values], atol=1e-6)
    pooled = np.array([np.concatenate([window.mean(1), window.max(1)]) for window in values])
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(windows.embeddings(), expected, atol=1e-6)


def test_means_of_a_stored_map_equal_numpys(noise):
    values = noise.integers(0, 256, (3, 50, 61)).astype(np.uint8)
    candidates = Candidates.of(values.shape, 16)
    expected = [values[candidates.box(i).slices].mean() / 255 for i in range(len(candidates))]
    np.testing.assert_allclose(means_of(values, candidates), expected)


@pytest.mark.parametrize("spacing", [(50.0, 4.0, 4.0), (50.0, 2.0, 2.0)])
def test_the_score_of_a_patch_is_the_mean_of_its_uncertainty(spacing, tmp_path):
    target = volume((3, 64, 80), spacing)
    strategy = strategy_of("least_confidence")
    settings = QuerySettings.parse(
        {"patch": 24, "count": 4, "strategy": strategy.name, "device": "cpu"}
    )
    *_, last = suggest(predictor(unet()), target, strategy, settings, RunFolder(tmp_path), [])
    assert isinstance(last, Suggested)
    stored = StoredPrediction(RunFolder(tmp_path), "v").uncertainty[:]
    candidates = Candidates.of(target.shape, 24)
    means = [stored[candidates.box(i).slices].mean() / 255 for i in range(len(candidates))]
    assert last.regions[0]["score"] == pytest.approx(max(means), abs=1e-3)
    for region in last.regions:
        box = Box.parse(region["box"], target.shape)
        assert region["score"] == pytest.approx(stored[box.slices].mean() / 255, abs=1e-3)


def pool_seen_by(model, strategy, target, folder, patch=24, excluded=()):
    """The pool that `suggest` gives to the strategy: candidates, uncertainty, embeddings."""
    pools = []
    strategy.begin = pools.append
    settings = QuerySettings(patch=patch, count=2)
    list(suggest(model, target, strategy, settings, RunFolder(folder), list(excluded)))
    return pools[0]


def test_embeddings_are_mean_and_maximum_of_the_bottleneck(tmp_path):
    """Patches fill whole sections here, so that the encoder sees nothing but the patch."""
    network = unet()
    target = volume((6, 32, 32))
    annotated = Box((1, 0, 0), (2, 32, 32))
    pool = pool_seen_by(
        predictor(network), strategy_of("core_set"), target, tmp_path, 32, [annotated]
    )
    with torch.no_grad():
        maps = network.encode(torch.from_numpy(target.image[:, None]))[-1].flatten(2)
    pooled = torch.cat([maps.mean(2), maps.amax(2)], dim=1)
    expected = (pooled / pooled.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(pool.embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(pool.annotated, expected[1:2], atol=1e-5)


@pytest.mark.parametrize("binning", [1, 2])
def test_embeddings_hold_the_cells_whose_centres_lie_in_the_patch(binning, tmp_path):
    network = unet()
    target = volume((2, 96, 80), (50.0, 4.0 / binning, 4.0 / binning))
    pool = pool_seen_by(predictor(network), strategy_of("core_set"), target, tmp_path, 32)
    small = target.image.reshape(2, 96 // binning, binning, 80 // binning, binning).mean((2, 4))
    with torch.no_grad():
        maps = network.encode(torch.from_numpy(small[:, None]))[-1].numpy()
    rows, columns = ((np.arange(n) + 0.5) * network.stride * binning for n in maps.shape[2:])
    for index in range(len(pool.candidates)):
        z, y, x = pool.candidates.starts[index]
        inside = np.ix_((rows >= y) & (rows < y + 32), (columns >= x) & (columns < x + 32))
        cells = maps[z][(slice(None), *inside)].reshape(maps.shape[1], -1)
        pooled = np.concatenate([cells.mean(1), cells.max(1)])
        expected = pooled / np.linalg.norm(pooled)
        np.testing.assert_allclose(pool.embeddings[index], expected, atol=1e-4)


@pytest.mark.parametrize("pixel_size", [4.0, 3.1, 5.7])
def test_features_do_not_depend_on_the_block_size(pixel_size, monkeypatch, tmp_path):
    model = predictor(unet())
    target = volume((3, 90, 75), (50.0, 16 / pixel_size, 16 / pixel_size))

    def plan_small_blocks(view, network, settings, stacks):
        return plan(view, network, settings.model_copy(update={"block": 32}), stacks=stacks)

    pools = [pool_seen_by(model, strategy_of("least_confidence"), target, tmp_path / "a")]
    pools += [pool_seen_by(model, strategy_of("core_set"), target, tmp_path / "a")]
    monkeypatch.setattr("napari_emda.active_learning.patch_features.plan", plan_small_blocks)
    pools += [pool_seen_by(model, strategy_of("least_confidence"), target, tmp_path / "b")]
    pools += [pool_seen_by(model, strategy_of("core_set"), target, tmp_path / "b")]
    np.testing.assert_allclose(pools[0].uncertainty, pools[2].uncertainty, atol=1e-5)
    np.testing.assert_allclose(pools[1].embeddings, pools[3].embeddings, atol=1e-4)


def test_windows_of_candidates_and_boxes_are_their_bounds():
    candidates = Candidates.of((2, 20, 24), 16)
    box = Box((0, 1, 2), (2, 9, 8))
    bounds = windows_of(candidates, [box])
    assert [tuple(row) for row in bounds.tolist()] == [
        *(candidates.box(i).bounds for i in range(len(candidates))),
        box.bounds,
    ]


def test_entropy_is_computed_from_the_prediction_if_another_strategy_overwrote_it(tmp_path):
    model = predictor(unet())
    target = volume((2, 48, 48))

    def run(name):
        settings = QuerySettings.parse({"patch": 16, "strategy": name, "device": "cpu"})
        *events, last = suggest(model, target, strategy_of(name), settings, RunFolder(tmp_path), [])
        return len(events), last.regions

    first = run("entropy")
    assert first[0] > 0
    assert run("entropy") == (0, first[1])  # nothing was computed again
    run("least_confidence")
    assert StoredPrediction(RunFolder(tmp_path), "v").measure == "least_confidence"
    events, regions = run("entropy")
    assert events == 0
    assert [region["box"] for region in regions] == [region["box"] for region in first[1]]
    scores, rounded = ([region["score"] for region in rows] for rows in (first[1], regions))
    assert rounded == pytest.approx(scores, abs=0.01)


def test_between_rounds_needs_a_run_that_was_trained_on_from_another(project):
    folder = str(project.folder)
    settings = TrainSettings.parse(
        {"steps": 1, "patch": 32, "batch": 2, "validations": 0, "device": "cpu"}
    )
    query = QuerySettings.parse(
        {"strategy": "disagreement", "patch": 32, "count": 2, "device": "cpu"}
    )

    def suggested(run):
        job = SuggestJob(
            project=folder, run=run, settings=query, strategy_settings={"between": "rounds"}
        )
        return list(execute(job))[-1].result["regions"]

    first = TrainJob(
        project=folder,
        method="source_only",
        settings=settings,
        network_settings={"base_channels": 8},
    )
    runs = [list(execute(first))[-1].result["run"]]
    with pytest.raises(
        JobError,
        match="did not start from another run, with which it could be compared: retrain first",
    ):
        suggested(runs[0])
    runs.append(list(execute(first.model_copy(update={"start_from": runs[0]})))[-1].result["run"])
    regions = suggested(runs[1])
    assert [region["strategy"] for region in regions] == ["disagreement"] * 2
    assert regions[0]["score"] > 0
