"""How fast patches are ranked, as fractions of the bare forward pass over the same voxels.

* *entropy*: predict, write, and rank every patch position; at least 0.7 of the bare pass;
* *bald* with ten samples: at most 10.5 times as long as entropy;
* *core-set* over 20 000 embeddings, 100 of them annotated, 20 picks: under 5 s.

Peak memory is that of a fresh process for one volume, and for one with twice the sections.

    python -m benchmarks.ranking --profile fast
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import parser_of
from benchmarks.common import noise_volume, peak, predictor, print_peak
from benchmarks.predict import bare
from napari_emda.active_learning.candidates import Candidates, Pool
from napari_emda.active_learning.strategy import strategies
from napari_emda.active_learning.suggest import choose, suggest
from napari_emda.data.volume import Volume
from napari_emda.inference.device import configure_process
from napari_emda.inference.predictor import Predictor
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings

STRATEGIES = (
    "entropy",
    "least_confidence",
    "disagreement",
    "mc_entropy",
    "bald",
    "k_means",
    "core_set",
    "hybrid",
    "coverage",
)
PICKS = 20


def ranked(model: Predictor, data: Volume, name: str, folder: Path) -> float:
    """Seconds from the image to suggestions."""
    strategy = strategies[name](strategies[name].Settings())
    settings = QuerySettings(strategy=name, count=PICKS, patch=128)
    began = time.perf_counter()
    for _ in suggest(model, data, strategy, settings, RunFolder(folder), []):
        pass
    return time.perf_counter() - began


def core_set(patches: int = 20_000, dimensions: int = 256, annotated: int = 100) -> float:
    """Seconds for a greedy choice among so many embeddings."""
    points = (
        np.random.default_rng(0).normal(size=(patches + annotated, dimensions)).astype(np.float32)
    )
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    starts = np.stack([np.arange(patches), np.zeros(patches), np.zeros(patches)], axis=1).astype(
        np.int64
    )
    strategy = strategies["core_set"](strategies["core_set"].Settings())
    candidates = Candidates(starts, 128, patches)
    began = time.perf_counter()
    pool = Pool(candidates, PICKS, embeddings=points[:patches], annotated=points[patches:])
    choose(strategy, pool)
    return time.perf_counter() - began


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--sections", type=int, default=8)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, help="beside entropy")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only-peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_process(arguments.threads, polite=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = predictor(arguments.profile, folder)
        data = noise_volume(folder, arguments.sections, arguments.side)
        if arguments.only_peak:
            ranked(model, data, arguments.only_peak, folder)
            print_peak()
            return
        report(model, data, folder, arguments.rounds, arguments.strategies)
    for strategy in {"entropy", "bald", "core_set", "coverage"} & {
        "entropy",
        *arguments.strategies,
    }:
        given = ["--profile", arguments.profile, "--side", str(arguments.side)]
        once, twice = (
            peak(
                "benchmarks.ranking",
                *given,
                *("--only-peak", strategy, "--sections", str(n * arguments.sections)),
            )
            for n in (1, 2)
        )
        print(
            f"peak memory of {strategy}: {once:.0f} MiB; "
            f"of twice the sections {twice:.0f} ({twice / once - 1:+.1%})"
        )


def report(
    model: Predictor, data: Volume, folder: Path, rounds: int, chosen: Sequence[str]
) -> None:
    """Print a table: each strategy beside the bare pass, medians over rounds."""
    voxels = float(np.prod(data.shape))
    positions = len(Candidates.of(data.shape, 128))
    ranked(model, noise_volume(folder / "warm", 1, data.shape[1]), "entropy", folder / "warm")
    seconds: dict[str, list[float]] = {name: [] for name in ("bare", "entropy", *chosen)}
    for number in range(rounds):
        seconds["bare"].append(voxels / bare(model, data, PredictSettings()))
        for strategy in seconds.keys() - {"bare"}:
            seconds[strategy].append(ranked(model, data, strategy, folder / f"{strategy}{number}"))
    print(f"\n{model.compute}, {positions} patch positions\n")
    print(
        "| strategy | positions a second | share of the bare pass | time, entropy = 1 |\n"
        + "|---" * 4
        + "|"
    )
    for name, values in seconds.items():
        share = statistics.median(b / a for a, b in zip(values, seconds["bare"], strict=True))
        times = statistics.median(a / b for a, b in zip(values, seconds["entropy"], strict=True))
        print(
            f"| {name} | {positions / statistics.median(values):.0f} | {share:.2f} | {times:.2f} |"
        )
    print(f"\ncore-set over 20 000 embeddings, {PICKS} picks: {core_set():.2f} s")


if __name__ == "__main__":
    main()
