"""What each strategy computes, against SciPy, scikit-learn and brute force (T24 to T30)."""

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
from napari_emda.inference.tiles import plan
from napari_emda.jobs.execute import execute
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import in_domain, norms
from napari_emda.project.job_files import SuggestJob, TrainJob
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings

CPU = Compute(torch.device("cpu"), bf16=False)


def made(name, **own):
    cls = strategies[name]
    return cls(cls.Settings.parse(own))


def unet(dropout=0.5, seed=0):
    torch.manual_seed(seed)
    network = UNet(2, UNet.Settings(base_channels=8, dropout=dropout))
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
    noise = np.random.default_rng(seed)
    drawn = noise.dirichlet([0.3] * classes, size=(samples, *shape))
    drawn[..., :2, :] = np.eye(classes)[0]  # sure, exactly
    return torch.from_numpy(np.moveaxis(drawn, -1, 2))


# -- T24, T25: entropy and least confidence ----------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_entropy_is_that_of_scipy(classes):
    p = probabilities(classes)[0]
    np.testing.assert_allclose(
        entropy(p) * np.log(classes), scipy_entropy(p.numpy(), axis=1), atol=1e-12
    )


@pytest.mark.parametrize(
    ("p", "nats"),
    [((0.5, 0.5), 0.693147), ((0.9, 0.1), 0.325083), ((1.0, 0.0), 0.0), ((0.0, 1.0), 0.0)],
)
def test_entropy_of_known_answers(p, nats):
    answer = torch.tensor(p, dtype=torch.float64).view(1, 2, 1, 1)
    assert float(entropy(answer)) * np.log(2) == pytest.approx(nats, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_lack_of_confidence_is_what_the_likeliest_class_leaves(classes):
    p = probabilities(classes)[0]
    lack = lack_of_confidence(p).numpy()
    sums = np.sort(p.numpy(), axis=1)[:, -1].sum((1, 2))  # eq. 2, between N / C and N
    pixels = lack[0].size
    np.testing.assert_allclose(lack.sum((1, 2)) * (1 - 1 / classes), pixels - sums, atol=1e-9)
    assert lack.min() == 0
    assert lack.max() <= 1
    assert float(lack_of_confidence(torch.full((1, classes, 1, 1), 1 / classes))) == pytest.approx(
        1
    )


def test_with_two_classes_both_order_pixels_alike():
    p = probabilities()[0]
    by_entropy, by_confidence = entropy(p).ravel(), lack_of_confidence(p).ravel()
    order = by_confidence.argsort()
    assert (by_entropy[order].diff() >= -1e-12).all()


# -- T26: BALD ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("samples", [1, 2, 7])
def test_mutual_information_is_entropy_of_the_mean_less_mean_entropy(classes, samples):
    drawn = probabilities(classes, samples)
    values = drawn.numpy()
    predictive = -xlogy(values.mean(0), values.mean(0)).sum(1)
    expected = predictive + xlogy(values, values).sum(2).mean(0)
    measured = mutual_information(iter(drawn)).numpy() * np.log(classes)
    np.testing.assert_allclose(measured, expected, atol=1e-12)
    assert measured.min() >= 0
    assert (measured <= predictive + 1e-12).all()


@pytest.mark.parametrize(
    ("samples", "nats", "predictive"),
    [(((0.9, 0.1), (0.1, 0.9)), 0.368064, 0.693147), (((0.5, 0.5), (0.5, 0.5)), 0.0, 0.693147)],
)
def test_bald_of_known_answers_is_not_predictive_entropy(samples, nats, predictive):
    drawn = torch.tensor(samples, dtype=torch.float64).view(2, 1, 2, 1, 1)
    assert float(mutual_information(drawn)) * np.log(2) == pytest.approx(nats, abs=1e-6)
    assert float(entropy(drawn.mean(0))) * np.log(2) == pytest.approx(predictive, abs=1e-6)


def test_bald_and_mc_entropy_are_those_of_the_same_samples():
    outputs = BlockOutputs(predictor(unet()), images(2, 32, 40), "target")
    drawn = np.stack([answer.numpy() for answer in outputs.dropout(4)]).astype(np.float64)
    mean = drawn.mean(0)
    total = scipy_entropy(mean, axis=1) / np.log(2)
    np.testing.assert_allclose(made("mc_entropy", samples=4).uncertainty(outputs), total, atol=1e-6)
    inner = scipy_entropy(drawn, axis=2).mean(0) / np.log(2)
    np.testing.assert_allclose(
        made("bald", samples=4).uncertainty(outputs), total - inner, atol=1e-6
    )
    assert made("bald", samples=4).uncertainty(outputs).max() > 0.01


# -- T27: dropout ------------------------------------------------------------------------------------------------


def naive(network, image, layers, seed):
    """A whole pass in which the given layers alone are in training mode."""
    network.eval()
    for layer in layers:
        layer.train()
    with torch.random.fork_rng(), torch.no_grad(), in_domain(network, "target"):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        answer = network(image).softmax(1)
    network.eval()
    return answer


def test_samples_are_those_of_whole_passes_with_nothing_but_dropout_in_training():
    network, image = unet(), images(2, 32, 40)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Dropout2d)]
    assert layers
    drawn = list(BlockOutputs(predictor(network), image, "target", (3, 5)).dropout(3))
    for number, answer in enumerate(drawn):
        torch.testing.assert_close(answer, naive(network, image, layers, (3, 5, number)))
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("training", [True, False])
def test_dropout_leaves_modes_statistics_and_torchs_generator_alone(training):
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
    network, image = unet(), images(1, 16, 24)

    def drawn(seed):
        return torch.stack(list(BlockOutputs(predictor(network), image, "source", seed).dropout(2)))

    assert torch.equal(drawn((1,)), drawn((1,)))
    assert not torch.equal(drawn((1,)), drawn((2,)))


@pytest.mark.parametrize("name", ["bald", "mc_entropy", "hybrid"])
def test_a_model_without_dropout_is_refused_where_it_is_needed(name):
    with pytest.raises(JobError, match="trained without dropout, which this strategy needs"):
        made(name).uncertainty(
            BlockOutputs(predictor(unet(dropout=0.0)), images(1, 16, 16), "source")
        )


def test_views_are_the_four_mirror_images_brought_back():
    network, image = unet(), images(2, 36, 44)  # not a multiple of the stride
    outputs, views = BlockOutputs(predictor(network), image, "target"), []
    padded = torch.nn.functional.pad(image, (0, 4, 0, 4), mode="replicate")
    with torch.no_grad(), in_domain(network, "target"):
        for axes in ((), (-1,), (-2,), (-1, -2)):
            views.append(network(padded.flip(axes)).softmax(1).flip(axes)[..., :36, :44])
    torch.testing.assert_close(torch.stack(list(outputs.views())), torch.stack(views))
    expected = mutual_information(iter(views))
    torch.testing.assert_close(made("disagreement").uncertainty(outputs), expected)
    assert expected.max() > 0


def test_rounds_compare_with_the_model_before():
    now, before, image = unet(), unet(seed=1), images(1, 20, 24)
    outputs = BlockOutputs(predictor(now), image, "target", earlier=predictor(before))
    strategy = made("disagreement", between="rounds")
    assert strategy.required.earlier_run
    assert not made("disagreement").required.earlier_run
    answers = [
        BlockOutputs(predictor(network), image, "target").probabilities for network in (now, before)
    ]
    torch.testing.assert_close(strategy.uncertainty(outputs), mutual_information(answers))
    alike = BlockOutputs(predictor(now), image, "target", earlier=predictor(now))
    assert strategy.uncertainty(alike).max() < 1e-6


# -- T28: k-means ------------------------------------------------------------------------------------------------


def side_by_side(points, count, *, annotated=None, seed=0):
    """A pool of patches with given embeddings, none in another's way."""
    n = len(points)
    starts = np.stack([np.zeros(n), np.zeros(n), 16 * np.arange(n)], axis=1).astype(np.int64)
    known = None if annotated is None else np.asarray(annotated, np.float32)
    return Pool(
        Candidates(starts, 16, n),
        count,
        seed=seed,
        embeddings=np.asarray(points, np.float32),
        annotated=known,
    )


def indices(strategy, pool):
    return [index for index, _ in choose(strategy, pool)]


@pytest.mark.parametrize("seed", range(5))
def test_k_means_takes_the_patch_nearest_to_each_centroid(seed, noise):
    centres = np.array([[0, 0], [5, 0], [0, 5], [5, 5]])
    points = np.concatenate(
        [centre + 0.4 * noise.normal(size=(15, 2)) for centre in centres]
    ).astype(np.float32)
    fitted = KMeans(4, n_init=20, random_state=0).fit(points)
    expected = set(pairwise_distances_argmin(fitted.cluster_centers_, points).tolist())
    assert set(indices(made("k_means"), side_by_side(points, 4, seed=seed))) == expected


def test_k_means_gives_every_cluster_its_turn_and_in_the_end_all(noise):
    points = np.concatenate([noise.normal(size=(12, 2)), 20 + noise.normal(size=(3, 2))])
    pool = side_by_side(points, 2)
    assert sorted(index >= 12 for index in indices(made("k_means"), pool)) == [False, True]
    assert sorted(indices(made("k_means"), side_by_side(points, 15))) == list(range(15))


def test_k_means_copes_with_duplicates():
    points = np.repeat(np.eye(3), 4, axis=0)
    assert len(set(indices(made("k_means"), side_by_side(points, 7)))) == 7


# -- T29: core-set -----------------------------------------------------------------------------------------------


def radius(points, centres):
    return pairwise_distances(points, points[list(centres)]).min(1).max()


def test_core_set_is_within_twice_the_best_radius():
    strategy = made("core_set")
    for seed in range(100):
        points = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
        apart = pairwise_distances(points)
        best = min(
            apart[:, centres].min(1).max() for centres in itertools.combinations(range(12), 3)
        )
        assert radius(points, indices(strategy, side_by_side(points, 3))) <= 2 * best * (1 + 1e-6)


def test_core_set_takes_the_farthest_from_the_annotated_one_after_the_other(noise):
    points, known = noise.normal(size=(30, 4)), noise.normal(size=(5, 4))
    centres, expected = list(known), []
    for _ in range(8):
        expected.append(int(pairwise_distances(points, centres).min(1).argmax()))
        centres.append(points[expected[-1]])
    picks = choose(made("core_set"), side_by_side(points, 8, annotated=known))
    assert [index for index, _ in picks] == expected
    radii = [score for _, score in picks]
    assert radii == sorted(radii, reverse=True)


def test_core_set_leaves_duplicates_and_copies_of_the_annotated_to_the_end():
    points = np.repeat(np.eye(3), 3, axis=0)
    first = indices(made("core_set"), side_by_side(points, 2, annotated=points[:1]))
    assert sorted(index // 3 for index in first) == [1, 2]
    assert sorted(indices(made("core_set"), side_by_side(points, 9, annotated=points[:1]))) == list(
        range(9)
    )


# -- hybrid ------------------------------------------------------------------------------------------------------


def test_hybrid_spreads_over_the_most_uncertain(noise):
    points, known, doubt = noise.normal(size=(40, 3)), noise.normal(size=(2, 3)), noise.random(40)
    pool = side_by_side(points, 4, annotated=known)
    pool.uncertainty = doubt
    listed = np.argsort(-doubt)[:12]
    centres, expected = list(known), []
    for _ in range(4):
        expected.append(int(listed[pairwise_distances(points[listed], centres).min(1).argmax()]))
        centres.append(points[expected[-1]])
    assert indices(made("hybrid", shortlist=3), pool) == expected


# -- coverage ----------------------------------------------------------------------------------------------------


def covered(points, known, centres, doubt, width):
    """Brute force: every patch counts with its uncertainty, as far as the most similar of what is chosen is like it."""
    total = 0.0
    for point, weight in zip(points, doubt, strict=True):
        near = [
            np.exp(-((point - other) ** 2).sum() / (2 * width**2))
            for other in [*known, *points[centres]]
        ]
        total += weight * max(near)
    return total


def test_coverage_adds_the_patch_that_stands_for_most_of_what_is_uncertain(noise):
    points, known, doubt = noise.normal(size=(25, 3)), noise.normal(size=(2, 3)), noise.random(25)
    pool = side_by_side(points, 5, annotated=known)
    pool.uncertainty = doubt
    width, centres, gains = 0.7 * np.median(pairwise_distances(points)), [], []
    for _ in range(5):
        before = covered(points, known, centres, doubt, width)
        worth = [covered(points, known, [*centres, i], doubt, width) - before for i in range(25)]
        centres.append(int(np.argmax(worth)))
        gains.append(max(worth))
    picks = choose(made("coverage", reach=0.7, shortlist=5), pool)
    assert [index for index, _ in picks] == centres
    np.testing.assert_allclose([score for _, score in picks], gains, rtol=1e-4)


def test_coverage_does_not_fall_for_outliers(noise):
    points = np.concatenate([0.1 * noise.normal(size=(30, 2)), [[9, 9], [-9, 9]]])
    pool = side_by_side(points, 1, annotated=[[0.3, 0.3]])
    pool.uncertainty = np.full(32, 0.5)
    assert indices(made("coverage", shortlist=100), pool)[0] < 30
    assert indices(made("core_set"), side_by_side(points, 1, annotated=[[0.3, 0.3]]))[0] >= 30


# -- what is gathered over patches -------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [(7, 9), (40, 50)])
def test_windows_hold_means_and_maxima_however_the_map_is_cut(block, noise):
    maps = noise.normal(size=(3, 4, 40, 50)).astype(np.float32)  # sections, channels, rows, columns
    bounds = np.array(
        [
            [z, z + 1, y, y + 11, x, x + 13]
            for z in range(3)
            for y in (0, 5, 29)
            for x in (0, 20, 37)
        ]
    )
    bounds = np.concatenate([bounds, [[0, 3, 4, 36, 2, 50]]])  # a box of three sections
    windows = WindowPooling(bounds, 4, maxima=True)
    for z, y, x in itertools.product(range(3), range(0, 40, block[0]), range(0, 50, block[1])):
        windows.add(maps[z, :, y : y + block[0], x : x + block[1]], z, y, x)
    cut = [np.moveaxis(maps[a:b, :, c:d, e:f], 1, 0).reshape(4, -1) for a, b, c, d, e, f in bounds]
    np.testing.assert_allclose(windows.means, [piece.mean(1) for piece in cut], atol=1e-6)
    both = np.array([np.concatenate([piece.mean(1), piece.max(1)]) for piece in cut])
    np.testing.assert_allclose(
        windows.embeddings(), both / np.linalg.norm(both, axis=1, keepdims=True), atol=1e-6
    )


def test_means_of_a_stored_map_are_those_of_the_patches(noise):
    values = noise.integers(0, 256, (3, 50, 61)).astype(np.uint8)
    candidates = Candidates.of(values.shape, 16)
    expected = [values[candidates.box(i).slices].mean() / 255 for i in range(len(candidates))]
    np.testing.assert_allclose(means_of(values, candidates), expected)


@pytest.mark.parametrize("spacing", [(50.0, 4.0, 4.0), (50.0, 2.0, 2.0)])
def test_a_patchs_score_is_the_mean_of_its_map(spacing, tmp_path):
    target, strategy = volume((3, 64, 80), spacing), made("least_confidence")
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


def test_embeddings_are_the_bottlenecks_mean_and_maximum_of_each_patch(tmp_path):
    """Of patches that fill whole sections, so that the encoder sees nothing but the patch."""
    network, target = unet(), volume((6, 32, 32))
    model, strategy = predictor(network), made("core_set")
    kept = {}
    strategy.begin = lambda pool: kept.setdefault("pool", pool)
    list(
        suggest(
            model,
            target,
            strategy,
            QuerySettings(patch=32, count=2),
            RunFolder(tmp_path),
            [Box((1, 0, 0), (2, 32, 32))],
        )
    )
    with torch.no_grad():
        maps = network.encode(torch.from_numpy(target.image[:, None]))[-1].flatten(2)
    both = torch.cat([maps.mean(2), maps.amax(2)], dim=1)
    expected = (both / both.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(kept["pool"].embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(kept["pool"].annotated, expected[1:2], atol=1e-5)


def looked_at(model, strategy, target, folder, patch=24):
    """What the strategy finds in its pool: candidates, uncertainty, embeddings."""
    kept = {}
    strategy.begin = lambda pool: kept.setdefault("pool", pool)
    list(
        suggest(model, target, strategy, QuerySettings(patch=patch, count=2), RunFolder(folder), [])
    )
    return kept["pool"]


@pytest.mark.parametrize("binning", [1, 2])
def test_embeddings_are_of_the_cells_whose_centres_lie_in_the_patch(binning, tmp_path):
    network, target = unet(), volume((2, 96, 80), (50.0, 4.0 / binning, 4.0 / binning))
    pool = looked_at(predictor(network), made("core_set"), target, tmp_path, patch=32)
    small = target.image.reshape(2, 96 // binning, binning, 80 // binning, binning).mean((2, 4))
    with torch.no_grad():
        maps = network.encode(torch.from_numpy(small[:, None]))[-1].numpy()
    rows, columns = ((np.arange(n) + 0.5) * network.stride * binning for n in maps.shape[2:])
    for index in range(len(pool.candidates)):
        z, y, x = pool.candidates.starts[index]
        inside = np.ix_((rows >= y) & (rows < y + 32), (columns >= x) & (columns < x + 32))
        cells = maps[z][(slice(None), *inside)].reshape(maps.shape[1], -1)
        both = np.concatenate([cells.mean(1), cells.max(1)])
        np.testing.assert_allclose(pool.embeddings[index], both / np.linalg.norm(both), atol=1e-4)


def test_blocks_make_no_difference(monkeypatch, tmp_path):
    model, target = predictor(unet()), volume((3, 90, 75))

    def in_blocks(view, network, settings):
        return plan(view, network, settings.model_copy(update={"block": 32}))

    pools = [looked_at(model, made("least_confidence"), target, tmp_path / "a")]
    pools += [looked_at(model, made("core_set"), target, tmp_path / "a")]
    monkeypatch.setattr("napari_emda.active_learning.patch_features.plan", in_blocks)
    pools += [looked_at(model, made("least_confidence"), target, tmp_path / "b")]
    pools += [looked_at(model, made("core_set"), target, tmp_path / "b")]
    np.testing.assert_allclose(pools[0].uncertainty, pools[2].uncertainty, atol=1e-5)
    np.testing.assert_allclose(pools[1].embeddings, pools[3].embeddings, atol=1e-4)


def test_windows_of_candidates_and_boxes_are_their_bounds():
    candidates, box = Candidates.of((2, 20, 24), 16), Box((0, 1, 2), (2, 9, 8))
    bounds = windows_of(candidates, [box])
    assert [tuple(row) for row in bounds.tolist()] == [
        *(candidates.box(i).bounds for i in range(len(candidates))),
        box.bounds,
    ]


def test_entropy_asks_again_when_its_map_was_overwritten(tmp_path):
    model, target = predictor(unet()), volume((2, 48, 48))

    def run(name):
        settings = QuerySettings.parse({"patch": 16, "strategy": name, "device": "cpu"})
        *events, last = suggest(model, target, made(name), settings, RunFolder(tmp_path), [])
        return len(events), last.regions

    first = run("entropy")
    assert first[0] > 0
    assert run("entropy") == (0, first[1])  # nothing was computed again
    run("least_confidence")
    assert run("entropy") == first


def test_between_rounds_needs_a_run_that_was_trained_on_from_another(project):
    folder, small = (
        str(project.folder),
        {"steps": 1, "patch": 32, "batch": 2, "device": "cpu"},
    )
    settings = TrainSettings.parse({**small, "validations": 0})
    query = QuerySettings.parse(
        {"strategy": "disagreement", "patch": 32, "count": 2, "device": "cpu"}
    )

    def ask(run):
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
        match="was not trained on from another, with which it could be compared: retrain first",
    ):
        ask(runs[0])
    runs.append(list(execute(first.model_copy(update={"start_from": runs[0]})))[-1].result["run"])
    regions = ask(runs[1])
    assert [region["strategy"] for region in regions] == ["disagreement"] * 2
    assert regions[0]["score"] > 0
