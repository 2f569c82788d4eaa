"""What fraction of the bare forward pass remains when a volume is read, predicted and written.

* *bare*: the network and its softmax on one block in device memory, for as many voxels;
* *batch*: the same, with all sections of the block in one call, as a GPU computes them;
* *predict*: from the image file's array to probabilities and uncertainty in zarr.

Peak memory is that of a fresh process for one volume, and for one with twice the sections.

    python -m benchmarks.predict --profile fast
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import parser_of
from benchmarks.common import noise_volume, peak, predictor, print_peak, wait
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.inference.device import configure_process
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.tiles import read_tile
from napari_emda.inference.tiling import plan
from napari_emda.nn.folding import folded
from napari_emda.nn.normalisation import evaluating
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.prediction import PredictSettings


def bare(model: Predictor, data: Volume, settings: PredictSettings) -> float:
    """Voxels per second."""
    view = Resampled(data, model.header.pixel_size)
    tile = plan(view, model.network, settings)[0]
    image = read_tile(view, tile, model.statistics_of(data)).to(model.compute.device)
    model.probabilities(image, "source")
    repeats = max(2, round(np.prod(data.shape) / image.numel()))
    began = time.perf_counter()
    for _ in range(repeats):
        result = model.probabilities(image, "source")
    wait(model.compute)
    del result
    return repeats * image.numel() / (time.perf_counter() - began)


def batch(model: Predictor, data: Volume, settings: PredictSettings) -> float:
    """Voxels per second."""
    view = Resampled(data, model.header.pixel_size)
    tile = plan(view, model.network, settings)[0]
    image = read_tile(view, tile, model.statistics_of(data)).to(model.compute.device)
    network = folded(model.network, "source")
    with evaluating(network), model.compute.autocast():
        began = time.perf_counter()
        network(image.contiguous(memory_format=torch.channels_last)).float().softmax(1)
        wait(model.compute)
    return image.numel() / (time.perf_counter() - began)


def whole(model: Predictor, data: Volume, settings: PredictSettings, folder: Path) -> float:
    """Voxels per second."""
    began = time.perf_counter()
    for _ in predict(model, data, settings, RunFolder(folder)):
        pass
    return float(np.prod(data.shape)) / (time.perf_counter() - began)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--sections", type=int, default=16)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only-peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_process(arguments.threads, polite=False)
    settings = PredictSettings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = predictor(arguments.profile, folder)
        data = noise_volume(folder, arguments.only_peak or arguments.sections, arguments.side)
        if arguments.only_peak:
            whole(model, data, settings, folder)
            print_peak()
            return
        whole(model, noise_volume(folder / "warm", 2, arguments.side), settings, folder / "warm")
        ratios = []
        for number in range(arguments.rounds):
            a, b = bare(model, data, settings), whole(model, data, settings, folder / str(number))
            c = batch(model, data, settings)
            ratios.append(b / a)
            print(
                f"round {number}: bare {a / 1e6:.2f} Mvoxel/s, batch {c / 1e6:.2f} Mvoxel/s, "
                f"predict {b / 1e6:.2f} Mvoxel/s, ratio {b / a:.2f}"
            )
    print(f"{arguments.profile}, {model.compute}: ratio median {statistics.median(ratios):.2f}")
    given = ["--profile", arguments.profile, "--side", str(arguments.side)]
    once, twice = (
        peak("benchmarks.predict", *given, "--only-peak", str(n * arguments.sections))
        for n in (1, 2)
    )
    print(
        f"peak memory {once:.0f} MiB; volume of twice the size {twice:.0f} MiB "
        f"({100 * (twice / once - 1):+.1f} %)"
    )


if __name__ == "__main__":
    main()
