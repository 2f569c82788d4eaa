"""What fraction of the bare forward pass remains when a volume is read, predicted and written.

* *bare*: the network and its softmax on one block in device memory, for as many voxels;
* *predict*: from the image file's array to probabilities and uncertainty in zarr.

Peak memory is that of a fresh process for one volume, and for one with twice the sections.

    python benchmarks/predict.py --profile fast
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr

from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.inference.device import Compute, configure_process
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.tiles import plan, read_tile
from napari_emda.nn.network import networks
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.training import TrainSettings


def predictor(profile: str) -> Predictor:
    settings = TrainSettings.for_profile(profile)
    header = ModelHeader(
        method="source_only",
        classes=("background", "mitochondria"),
        network={
            "name": settings.network,
            "classes": 2,
            "settings": networks[settings.network].settings_for(settings.profile, {}).model_dump(),
        },
        pixel_size=5.0,
    )
    return Predictor(header.build().predictor, header, Compute.choose())


def volume(folder: Path, sections: int, side: int) -> Volume:
    """A compressed zarr volume, drawn section by section."""
    rng = np.random.default_rng(0)
    path = folder / "image.zarr"
    image = zarr.create_array(
        path, shape=(sections, side, side), dtype="uint8", chunks=(1, 512, 512)
    )
    for z in range(sections):
        image[z] = rng.integers(0, 255, (side, side), dtype=np.uint8)
    return Volume("image", zarr.open_array(path, mode="r"), "target", VoxelGrid((20.0, 5.0, 5.0)))


def bare(model: Predictor, data: Volume, settings: PredictSettings) -> float:
    """Voxels per second."""
    view = data.at(model.header.pixel_size)
    tile = plan(view, model.network, settings)[0]
    image = read_tile(view, tile, model.statistics_of(data)).to(model.compute.device)
    model.probabilities(image, "source")
    repeats = max(2, round(np.prod(data.shape) / image.numel()))
    began = time.perf_counter()
    for _ in range(repeats):
        result = model.probabilities(image, "source")
    if model.compute.device.type == "cuda":
        torch.cuda.synchronize()
    del result
    return repeats * image.numel() / (time.perf_counter() - began)


def whole(model: Predictor, data: Volume, settings: PredictSettings, folder: Path) -> float:
    """Voxels per second."""
    began = time.perf_counter()
    for _ in predict(model, data, settings, RunFolder(folder)):
        pass
    return float(np.prod(data.shape)) / (time.perf_counter() - began)


def peak(profile: str, sections: int, side: int) -> float:
    """Peak resident memory in MiB of a fresh process that predicts a volume."""
    command = [
        sys.executable,
        __file__,
        "--profile",
        profile,
        "--only-peak",
        str(sections),
        "--side",
        str(side),
    ]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--sections", type=int, default=16)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only-peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_process(arguments.threads, polite=False)
    model, settings = predictor(arguments.profile), PredictSettings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = volume(folder, arguments.only_peak or arguments.sections, arguments.side)
        if arguments.only_peak:
            whole(model, data, settings, folder)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return
        whole(model, volume(folder / "warm", 2, arguments.side), settings, folder / "warm")
        ratios = []
        for number in range(arguments.rounds):
            a, b = bare(model, data, settings), whole(model, data, settings, folder / str(number))
            ratios.append(b / a)
            print(
                f"round {number}: bare {a / 1e6:.2f} Mvoxel/s, predict {b / 1e6:.2f} Mvoxel/s, ratio {b / a:.2f}"
            )
    print(f"{arguments.profile}, {model.compute}: ratio median {statistics.median(ratios):.2f}")
    once, twice = (peak(arguments.profile, n * arguments.sections, arguments.side) for n in (1, 2))
    print(
        f"peak memory {once:.0f} MiB; volume of twice the size {twice:.0f} MiB ({100 * (twice / once - 1):+.1f} %)"
    )


if __name__ == "__main__":
    main()
