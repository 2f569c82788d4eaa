"""Which engine predicts a volume: torch, or OpenVINO where it is faster and finds the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.context import Context
from napari_emda.data.resampled import Resampled
from napari_emda.errors import JobError, SettingsError
from napari_emda.inference.openvino_engine import CannotConvertError, OpenVino, installed
from napari_emda.inference.origin import averaging
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.section_window import images
from napari_emda.inference.tiles import BlockReader, Tile
from napari_emda.io.atomic import write_text
from napari_emda.io.cache import cache_folder
from napari_emda.io.safe_files import read_file
from napari_emda.json_text import parse_json
from napari_emda.settings.prediction import PredictSettings

# Working pixels that the network computes of a volume, the flipped copies included, above which
# `auto` tries OpenVINO: torch takes 10 to 30 seconds for so many, and a trial takes 3.
_WORTH = 2**25
# Share of the voxels of a block whose class may differ from that of torch in the same number
# format. Between bfloat16 and float32 in torch alone, 0.1 to 0.4 % do.
_MOST_DIFFERING = 0.002
# So much faster OpenVINO must be: less is within the noise of a measurement, and each size of block
# is converted first, which takes 1 to 2.5 seconds.
_GAIN = 1.2
# Turns of a measurement, and seconds after which no further one begins.
_TURNS = 3
_PATIENCE = 4.0
# Tiles among which one is looked for that is not empty.
_CANDIDATES = 8
# Measurements that are remembered.
_MOST = 500


def choose(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    settings: PredictSettings,
    context: Context,
    begun: str = "",
) -> tuple[OpenVino | None, str]:
    """The engine for a volume.

    Measurements are remembered on this computer (``engines.json`` in the cache folder): how much
    faster OpenVINO is, by processor, network, size of block and versions; and in how many voxels
    the classes differ, by model.

    Args:
        predictor: the model.
        view: the volume at the network's pixel size.
        tiles: all of the volume.
        settings: of the prediction.
        context: the sections that are seen with each one.
        begun: the engine that has begun the prediction, if it goes on.

    Returns:
        OpenVINO, or None for torch; and why it is not what one may expect, in a sentence, or
        nothing.

    Raises:
        SettingsError: OpenVINO was asked for, or has begun, and cannot be used.
    """
    wanted = begun or "auto" if settings.engine == "auto" else settings.engine
    if wanted == "torch" or (
        wanted == "auto" and not _is_worth_it(predictor, view, tiles, settings)
    ):
        return None, ""
    if obstacle := _obstacle(predictor):
        if wanted == "auto":
            return None, ""
        what, remedy = obstacle
        anew = ", which begins anew" if begun else ""
        asked = f"the prediction of '{view.volume.name}' was begun with it" if begun else ""
        reason = f"{what}, and {asked}" if asked else what
        raise SettingsError(f"{reason}: {remedy}, or choose engine=torch{anew}.")
    # What the trial has converted is used again.
    engine = OpenVino(bf16=predictor.compute.bf16)
    if begun:
        return engine, ""
    try:
        ratio, differing = _measured(predictor, view, tiles, context, engine)
    except CannotConvertError as error:
        if wanted == "openvino":
            raise
        return None, f"torch is used: OpenVINO cannot compute the network ({error.reason})."
    differs = differing > _MOST_DIFFERING
    share = f"{differing:.2%} of the voxels of a block"
    if wanted == "openvino":
        text = f"With OpenVINO, {share} have another class than with torch." if differs else ""
        return engine, text
    if differs:
        return None, f"torch is used: with OpenVINO, {share} would have another class."
    return (engine if ratio > _GAIN else None), ""


def _is_worth_it(
    predictor: Predictor, view: Resampled, tiles: list[Tile], settings: PredictSettings
) -> bool:
    """Whether a volume is so large, and predicted by a model of a file."""
    flips = averaging(predictor.header, view.volume, settings)["flips"]
    pixels = sum(tile.seen.size for tile in tiles) * (4 if flips else 1)
    return bool(predictor.model_file) and pixels >= _WORTH


def _obstacle(predictor: Predictor) -> tuple[str, str] | None:
    """Why OpenVINO cannot be used, and the remedy; None if it can."""
    if not installed():
        return (
            "OpenVINO is not installed",
            "install it with pip install 'napari-emda[openvino]'",
        )
    if predictor.network.foreign:
        return "OpenVINO does not compute models of other programs", "choose engine=auto"
    if predictor.compute.device.type != "cpu":
        return "OpenVINO computes on processors alone", "choose device=cpu"
    if predictor.workers is not None and not predictor.workers.openvino:
        return (
            "Not all workers compute on processors with this version of OpenVINO",
            f"install openvino=={installed()} for all of them and choose device=cpu",
        )
    return None


def _measured(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    context: Context,
    engine: OpenVino,
) -> tuple[float, float]:
    """How many times as fast OpenVINO is, and the share of voxels that get another class."""
    network = predictor.network
    machine = [_processor(), predictor.compute.bf16, torch.__version__, installed()]
    block = tiles[len(tiles) // 2].seen.shape[1:]
    threads = torch.get_num_threads()
    # The names are of this version: another one may fold or convert otherwise.
    speed = _key("speed", *machine, threads, network.config.model_dump(mode="json"), block)
    check = _key("check", *machine, predictor.model_file)
    known = _remembered()
    if speed in known and (check in known or known[speed] == 0):
        return known[speed], known.get(check, 0.0)
    image = _example(predictor, view, tiles, context)
    try:
        ratio, differing = _compared(predictor, view, image, engine)
    except CannotConvertError:
        # So the next job does not try in vain; nothing is faster than what cannot be had.
        _remember({speed: 0.0})
        raise
    _remember({speed: ratio, check: differing})
    return ratio, differing


def _example(predictor: Predictor, view: Resampled, tiles: list[Tile], context: Context) -> Tensor:
    """What the network sees of a tile that is not empty, if there is one among some."""
    reader = BlockReader(view, predictor.statistics_of(view.volume), predictor.compute.device)
    deep = predictor.stacks_of(view.volume).deep
    middle = len(tiles) // 2
    step = max(1, len(tiles) // _CANDIDATES)
    # The first one has the block of `speed`.
    for index in range(middle, middle + _CANDIDATES * step, step):
        tile = tiles[index % len(tiles)]
        first, stop = tile.native.bounds[:2]
        if not deep:
            # One image in each thread.
            stop = min(stop, first + torch.get_num_threads())
            tile = Tile(tile.native.in_sections(first, stop), tile.seen.in_sections(first, stop))
        (seen,) = images(reader, [tile], context)
        if not seen.empty.all():
            break
    return seen.image


def _compared(
    predictor: Predictor, view: Resampled, image: Tensor, engine: OpenVino
) -> tuple[float, float]:
    """See `_measured`; the engines compute in turns."""
    domain = predictor.domain_of(view.volume)
    stacks = predictor.stacks_of(view.volume)
    engines = (None, engine)
    fastest = [np.inf, np.inf]
    classes: list[Tensor] = []
    began = time.perf_counter()
    try:
        for turn in range(_TURNS + 1):
            for number, predictor.engine in enumerate(engines):
                # Processor time: other programs make the clock's seconds those of chance.
                start = time.process_time()
                with torch.no_grad():
                    probabilities = predictor.probabilities(image, domain, stacks)
                if turn:
                    fastest[number] = min(fastest[number], time.process_time() - start)
                else:
                    # The first turn also converts.
                    classes.append(probabilities.argmax(1))
            if turn and time.perf_counter() - began > _PATIENCE:
                break
    finally:
        predictor.engine = None
    differing = (classes[0] != classes[1]).float().mean()
    return fastest[0] / fastest[1], float(differing)


# -- what is remembered ----------------------------------------------------------------------------


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _path() -> Path:
    return cache_folder() / "engines.json"


def _remembered() -> dict[str, float]:
    # Whatever else is in the file was changed by hand, or is damaged.
    try:
        known = parse_json(read_file(_path()).decode("utf-8"))
    except (OSError, ValueError, JobError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if type(value) is float and value >= 0}


def _remember(values: dict[str, float]) -> None:
    known = {key: value for key, value in _remembered().items() if key not in values} | values
    # The latest come last.
    latest = dict(list(known.items())[-_MOST:])
    # It is measured again if it cannot be kept.
    with contextlib.suppress(OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_text(_path(), json.dumps(latest, indent=1))
