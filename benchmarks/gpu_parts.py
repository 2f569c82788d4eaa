"""The parts of `gpu.py`: each function runs in a process of its own and returns plain numbers."""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import gpu_meters as meters
from benchmarks.adaptation import FILES, GUARD
from napari_emda.data.prefetch import prefetched
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Event, Finished, Stepped, result_of
from napari_emda.inference import section_window
from napari_emda.inference.device import Compute, configure_process, io_threads
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.recorded import Recorded
from napari_emda.inference.tiles import BlockReader, read_tile
from napari_emda.inference.tiling import plan
from napari_emda.io.read import open_image
from napari_emda.jobs import train as train_job
from napari_emda.jobs.execute import execute
from napari_emda.jobs.prepare_training import prepare
from napari_emda.nn.losses import segmentation
from napari_emda.nn.network import networks
from napari_emda.project.job_files import PredictJob, ScoreJob, SuggestJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.sampling.patches import Patches
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.phantom import SPACING, phantom
from napari_emda.training import between_steps, loop
from napari_emda.training.prior_matching import WEIGHT
from napari_emda.training.trainer import Training

CLASSES = ("background", "mitochondria")
CHUNK = 512
_RECORDINGS = 2
"""Of a block: the network, and what packs its answer for the disk."""
PHANTOM_GUARD = 16
"""Rows of the phantom between what is learnt from and what is scored, as in the demo."""
Say = Callable[[str], None]
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        phantom: shape of the volumes of whole runs.
        trained: sections and side of the volumes from which training speed is measured.
        predicted: the same of the volume that is predicted.
        settings: of every training, on top of the profile's.
        network: settings of the network, likewise.
        seconds: to measure for, at least.
        warm: steps before a measurement.
        inside: steps that the profiler looks at.
        few: steps of the model with which prediction is measured.
        steps: of a whole run on the phantom.
        round: steps (as many as the dock proposes), patches and side of a patch of a round of
            annotation.
    """

    phantom: tuple[int, int, int] = (20, 512, 512)
    trained: tuple[int, int] = (8, 1024)
    predicted: tuple[int, int] = (64, 2048)
    settings: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    seconds: float = 1.5
    warm: int = 20
    inside: int = 20
    few: int = 60
    steps: int = 1000
    round: tuple[int, int, int] = (100, 20, 128)


TINY = Size(
    phantom=(4, 96, 96),
    trained=(4, 96),
    predicted=(4, 128),
    settings={
        "patch": 32,
        "batch": 2,
        "save_every": 4,
        "report_every": 1,
    },
    network={"base_channels": 8, "depth": 3},
    seconds=0.1,
    warm=2,
    inside=2,
    few=2,
    steps=12,
    round=(4, 3, 32),
)


@dataclass(frozen=True)
class Setting:
    """What all parts share.

    Attributes:
        work: a folder for data, projects and results.
        device: as in the product's settings.
        seed: of the phantom and of all training.
        size: how much of everything.
        data: the folder with real volumes, if there is one.
        whole_source: whether the real pairs train on all of the source, as in docs/benchmarks.md.
    """

    work: Path
    device: str
    seed: int
    size: Size
    data: Path | None
    whole_source: bool

    def job(self, project: Path, method: str, profile: str, **values: Any) -> TrainJob:
        """A training by the profile's settings, with those of the size and ``values`` on top."""
        shared = {"seed": self.seed, "device": self.device}
        settings = TrainSettings.for_profile(profile, **{**shared, **self.size.settings, **values})
        network = networks[settings.network].settings_for(profile, self.size.network)
        return TrainJob(
            project=str(project),
            method=method,
            settings=settings,
            network_settings=network.model_dump(),
        )


# -- the machine and the data --------------------------------------------------------------------


def machine(setting: Setting, say: Say) -> Numbers:
    """What this runs on, in words."""
    compute = Compute.choose(setting.device)
    torch.zeros(1, device=compute.device)  # fails in a process that was forked too late
    on_card = compute.device.type == "cuda"
    return {
        "card": torch.cuda.get_device_name(compute.device) if on_card else "none",
        "driver": _driver() if on_card else "none",
        "precision": "bfloat16" if compute.bf16 else "float32",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
    }


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip() or "unknown"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def make_data(setting: Setting, say: Say) -> Numbers:
    """The phantom, larger volumes made from it, and the real volumes if given, as zarr on disk."""
    began = time.perf_counter()
    size, work = setting.size, setting.work
    drawn: dict[str, NDArray[np.uint8]] = {}
    for domain in ("source", "target"):
        image, labels = phantom(size.phantom, domain, setting.seed)
        drawn |= {domain: image, f"{domain}_labels": labels}
    for name, array in drawn.items():
        _store(work / "phantom" / f"{name}.zarr", array, array.shape)
    sections, side = size.trained
    for name in ("source", "source_labels", "target"):
        _store(work / "trained" / f"{name}.zarr", drawn[name], (sections, side, side))
    with Project.create(work / "rates", CLASSES) as project:
        _add(project, work / "trained", "source", "target", SPACING, SPACING)
    sections, side = size.predicted
    _store(work / "predicted.zarr", drawn["target"], (sections, side, side))
    if setting.data is not None:
        for name, (image, labels, _) in FILES.items():
            if name in ("vnc", "lucchi"):
                for end, file in (("", image), ("_labels", labels)):
                    array = tifffile.imread(setting.data / file)
                    _store(work / "real" / f"{name}{end}.zarr", array, array.shape)
    return {"seconds": time.perf_counter() - began}


def _store(path: Path, array: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Write a volume of some shape, continued by its mirror images where the array is smaller."""
    chunks = (1, min(CHUNK, shape[1]), min(CHUNK, shape[2]))
    stored = zarr.create_array(path, shape=shape, dtype="uint8", chunks=chunks)
    _, height, width = array.shape
    beyond = [(0, max(0, shape[1] - height)), (0, max(0, shape[2] - width))]
    for z in range(shape[0]):
        section = np.pad(array[z % len(array)], beyond, mode="symmetric")
        stored[z] = section[: shape[1], : shape[2]]


def _add(
    project: Project,
    folder: Path,
    source: str,
    target: str,
    spacing: tuple[float, float, float],
    target_spacing: tuple[float, float, float],
) -> None:
    labels = folder / f"{source}_labels.zarr"
    project.volumes.add(
        folder / f"{source}.zarr", "source", labels=labels, name="source", spacing=spacing
    )
    project.volumes.add(folder / f"{target}.zarr", "target", name="target", spacing=target_spacing)


# -- training ------------------------------------------------------------------------------------


def training_rate(
    setting: Setting,
    say: Say,
    method: str,
    profile: str,
    lazy: bool = False,
    recorded: bool = True,
) -> Numbers:
    """Steps per second of `fit` from a zarr on disk, and of the bare step on one batch.

    Args:
        setting: what all parts share.
        say: tells how far it is.
        method: by name.
        profile: by name.
        lazy: whether each patch is read from the disk, as of volumes that do not fit the memory.
        recorded: whether steps are replayed from a recording, as in the product.
    """
    configure_process(polite=False)
    size = setting.size
    # Looks at the target are left out: they belong to a run of a certain length, see `whole_run`.
    job = setting.job(setting.work / "rates", method, profile, steps=1_000_000, validations=0)
    settings = job.settings
    with _nothing_in_memory() if lazy else contextlib.nullcontext():
        training, _ = prepare(Project.open(job.project), job, None)
    training.folder = RunFolder(setting.work / "runs" / f"{method}-{profile}-{lazy}-{recorded}")
    training.folder.path.mkdir(parents=True)
    device = training.compute.device
    drawn = training.batch(0)
    batch = training.on_device(drawn, 0)
    numbers: Numbers = {
        "device": str(training.compute),
        "batch": sum(len(patches.image) for patches in batch.values()),
        "patch": settings.patch,
        "bare": meters.per_second(_bare_step(training, batch["source"]), device, size.seconds / 2),
        "fixed": meters.per_second(lambda: training.step(batch, 0), device, size.seconds / 2),
        "draw_alone": 1 / meters.per_second(lambda: training.batch(0), device, size.seconds / 4),
        "to_device": None,
    }
    if device.type != "cpu":
        numbers["to_device"] = 1 / meters.per_second(
            lambda: training.on_device(drawn, 0), device, size.seconds / 4
        )
    meters.forget_device_memory(device)
    if not recorded:
        training.recorded = None
    numbers |= _fitted(training, size, numbers["bare"])
    numbers["recorded"] = training.recorded is not None and training.recorded.recorded
    return numbers


@contextlib.contextmanager
def _nothing_in_memory() -> Iterator[None]:
    """Let the sampler hold no volume in memory, however small."""
    options = PatchSampler.__init__.__kwdefaults__
    with patch.dict(options, {"memory": 0}):
        yield


def _bare_step(training: Training, patches: Patches) -> Callable[[], None]:
    """Forward, loss, backward and update of a copy of the network, and nothing else."""
    network = copy.deepcopy(training.method.network)
    settings = training.settings
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )

    def step() -> None:
        optimiser.zero_grad()
        with training.compute.autocast():
            loss = segmentation(network(patches.image), patches.labels)
        loss.backward()
        optimiser.step()

    return step


def _fitted(training: Training, size: Size, bare: float) -> Numbers:
    """The rate of `fit`, and where the time of its thread goes."""
    clock, device, settings = meters.Clock(), training.compute.device, training.settings
    with contextlib.ExitStack() as patched:
        for name, method in (("draw", "batch"), ("to_device", "on_device"), ("step", "step")):
            counted = clock.timed(name, getattr(training, method))
            patched.enter_context(patch.object(training, method, counted))
        waited = clock.waited_for("wait", prefetched)
        patched.enter_context(patch.object(loop, "prefetched", waited))
        with contextlib.closing(loop.fit(training)) as events:
            first = _advance(events, size.warm)
            meters.wait(device)
            clock.reset()
            # Whole periods between two checkpoints: writing these counts as often as in a real run.
            periods = max(1, round(bare * size.seconds / settings.save_every))
            began = time.perf_counter()
            with meters.Busy(device) as busy:
                last = _advance(
                    events, first + periods * settings.save_every, began + 5 * size.seconds
                )
                meters.wait(device)
            wall = time.perf_counter() - began
            parts = {name: clock.seconds[name] / wall for name in ("wait", "to_device", "step")}
            numbers = {
                "steps": last - first,
                "fit": (last - first) / wall,
                "busy": busy.share,
                "draw_in_loop": clock.mean("draw"),
                "loop": {**parts, "rest": 1 - sum(parts.values())},
                "device_memory": meters.device_memory(device),
                "host_memory": meters.host_memory(),
            }
            if settings.save_every - last % settings.save_every <= 2 * size.inside:
                last = _advance(events, last + 2 * size.inside)  # past the checkpoint
            found = meters.kernels(lambda: _advance(events, last + size.inside), device)
            numbers["kernels"] = {key: value / size.inside for key, value in found.items()}
            sites = meters.synchronisations(
                lambda: _advance(events, last + 2 * size.inside), device
            )
            numbers["synchronisations"] = {k: n / size.inside for k, n in sites.most_common()}
    return numbers


def _advance(events: Iterator[Event], step: int, end: float = float("inf")) -> int:
    """Let a training go on to a step or past a moment; returns the step that it has reached."""
    for event in events:
        if isinstance(event, Stepped) and (event.step >= step or time.perf_counter() > end):
            return event.step
    raise RuntimeError(f"The training ended before step {step}.")


# -- prediction ----------------------------------------------------------------------------------


def prediction_rate(setting: Setting, say: Say, profile: str, averaged: bool = False) -> Numbers:
    """Voxels per second of `predict` from zarr to zarr, and of the bare network on one block of it.

    Args:
        setting: what all parts share.
        say: tells how far it is.
        profile: by name.
        averaged: over flips and neighbouring sections, as `auto` predicts.
    """
    configure_process(polite=False)
    size = setting.size
    predictor = _predictor(setting, profile, averaged)
    device = predictor.compute.device
    image = open_image(setting.work / "predicted.zarr").array
    # Under the name of a volume that training has seen: its grey values need not be measured again.
    volume = Volume("target", image, "target", VoxelGrid(SPACING))
    few = Volume("target", np.asarray(image[:2]), "target", VoxelGrid(SPACING))
    settings = PredictSettings(device=setting.device)
    voxels = float(np.prod(volume.shape))
    block = _block(predictor, volume, settings)
    numbers: Numbers = {
        "device": str(predictor.compute),
        "block": list(block.shape),
        "voxels": voxels,
        "bare": _bare_rate(predictor, block, size.seconds / 2),
        "bare_4": _bare_rate(predictor, torch.cat([block] * 4), size.seconds / 4),
    }
    folder = setting.work / "predictions" / f"{profile}-{averaged}"
    _predict(predictor, few, settings, folder)
    meters.forget_device_memory(device)
    threads = io_threads(device)
    clock, seconds, times = meters.Clock(), 0.0, 0
    with _watched_prediction(clock), meters.Busy(device) as busy:
        while seconds < size.seconds:
            seconds += _predict(predictor, volume, settings, folder)
            times += 1
    numbers |= {
        "predict": times * voxels / seconds,
        "times": times,
        "busy": busy.share,
        "wait": clock.seconds["wait"] / seconds,
        "replayed": clock.calls["replay"] / _RECORDINGS / max(1, clock.calls["read"]),
        # of all threads together, if the lock of Python did not hold them up
        "read": threads * times * voxels / clock.seconds["read"],
        "write": threads * times * voxels / clock.seconds["write"],
        "device_memory": meters.device_memory(device),
        "host_memory": meters.host_memory(),
    }
    tiles = len(plan(Resampled(few, predictor.header.pixel_size), predictor.network, settings))

    def once() -> None:
        _predict(predictor, few, settings, folder)

    found = meters.kernels(once, device)
    numbers["kernels"] = {key: value / tiles for key, value in found.items()}
    sites = meters.synchronisations(once, device)
    numbers["synchronisations"] = {site: n / tiles for site, n in sites.most_common()}
    return numbers


def _predictor(setting: Setting, profile: str, averaged: bool) -> Predictor:
    """A model that was trained for a moment: the answers of an untrained one hardly compress."""
    method = "auto" if averaged else "source_only"
    job = setting.job(setting.work / "rates", method, profile, validations=0)
    training, _ = prepare(Project.open(job.project), job, None)
    end = time.perf_counter() + 5 * setting.size.seconds
    for step in range(setting.size.few):
        training.step(training.on_device(training.batch(step), step), step)
        if time.perf_counter() > end:
            break
    header = training.header
    if averaged:
        result_of(training.adapt_statistics())
        header = header.model_copy(update={"z_smoothing": WEIGHT})
    return Predictor(training.method.predictor, header, training.compute)


def _block(predictor: Predictor, volume: Volume, settings: PredictSettings) -> Tensor:
    """The first block that `predict` reads, on the device."""
    view = Resampled(volume, predictor.header.pixel_size)
    tile = plan(view, predictor.network, settings)[0]
    return read_tile(view, tile, predictor.statistics_of(volume)).to(predictor.compute.device)


def _bare_rate(predictor: Predictor, block: Tensor, seconds: float) -> float:
    """Voxels per second of the network and its softmax; flips take four passes a voxel."""
    network, passes = predictor.network.eval(), 4 if predictor.header.flips else 1
    block = block.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward() -> Tensor:
        with predictor.compute.autocast():
            return network(block).float().softmax(1)

    rate = meters.per_second(forward, block.device, seconds)
    return rate * block.numel() / passes


def _predict(
    predictor: Predictor, volume: Volume, settings: PredictSettings, folder: Path
) -> float:
    """Seconds that it takes to predict a volume into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    for _ in predict(predictor, volume, settings, RunFolder(folder)):
        pass
    return time.perf_counter() - began


@contextlib.contextmanager
def _watched_prediction(clock: meters.Clock) -> Iterator[None]:
    """Count what reading and writing take in their threads, and the wait for the next block."""
    writer = StoredPrediction.writer

    def counted(self: StoredPrediction, **options: Any) -> Callable[..., Any]:
        return clock.timed("write", writer(self, **options))

    read = clock.timed("read", BlockReader.read)
    replayed = clock.timed("replay", Recorded._replayed)
    waited = clock.waited_for("wait", prefetched)
    with (
        patch.object(BlockReader, "read", read),
        patch.object(Recorded, "_replayed", staticmethod(replayed)),
        patch.object(section_window, "prefetched", waited),
        patch.object(StoredPrediction, "writer", counted),
    ):
        yield


# -- whole runs ----------------------------------------------------------------------------------


def real_run(
    setting: Setting, say: Say, source: str, target: str, method: str, steps: int
) -> Numbers:
    """One volume adapted to the other at native resolution, scored on the target's lower half.

    The target's upper half is seen without labels, `adaptation.GUARD` rows lie between.
    """
    folder = setting.work / "projects" / f"{source}-{target}-{method}"
    files = setting.work / "real"
    with Project.create(folder, CLASSES) as project:
        _add(project, files, source, target, FILES[source][2], FILES[target][2])
    upper, lower = _halves(files / f"{target}.zarr", GUARD)
    boxes = {"target_box": upper}
    if not setting.whole_source:
        boxes["source_box"], _ = _halves(files / f"{source}.zarr", GUARD)
    job = setting.job(folder, method, "standard", **{"steps": steps, **boxes})
    return _whole_run(setting, say, job, files / f"{target}_labels.zarr", lower)


def phantom_run(setting: Setting, say: Say) -> Numbers:
    """`auto` from the phantom's source to its target; `annotation_round` goes on from there."""
    folder, files = setting.work / "projects" / "phantom", setting.work / "phantom"
    with Project.create(folder, CLASSES) as project:
        _add(project, files, "source", "target", SPACING, SPACING)
    upper, lower = _halves(files / "target.zarr", PHANTOM_GUARD)
    job = setting.job(folder, "auto", "fast", steps=setting.size.steps, target_box=upper)
    return _whole_run(setting, say, job, files / "target_labels.zarr", lower)


def annotation_round(setting: Setting, say: Say) -> Numbers:
    """Suggest patches, take them from the truth, retrain from the last model, predict and score."""
    steps, count, side = setting.size.round
    folder, files = setting.work / "projects" / "phantom", setting.work / "phantom"
    truth = files / "target_labels.zarr"
    upper, lower = _halves(files / "target.zarr", PHANTOM_GUARD)
    configure_process(polite=False)
    began = time.perf_counter()
    query = QuerySettings(
        count=count, patch=side, box=upper, seed=setting.seed, device=setting.device
    )
    found = _finish(execute(SuggestJob(project=str(folder), settings=query)))
    suggesting = time.perf_counter() - began
    with Project.open(folder, exclusive=True) as project:
        project.regions.suggest(found["regions"], found["strategy"], found["run"])
        taken = project.annotations.take(truth, "target")
        job = project.runs.retrain_job("finetune", steps)
    numbers = _whole_run(setting, say, job, truth, lower)
    numbers["phases"] = {"suggest": suggesting, **numbers["phases"]}
    numbers["minutes"] += suggesting / 60
    numbers["patches"] = len(taken)
    return numbers


def _halves(image: Path, guard: int) -> tuple[str, str]:
    """The upper half of a volume's rows, and the lower half without the rows next to it."""
    rows = zarr.open_array(image, mode="r").shape[1]
    return f":,0:{rows // 2},:", f":,{rows // 2 + guard}:{rows},:"


def _whole_run(setting: Setting, say: Say, job: TrainJob, truth: Path, box: str) -> Numbers:
    """Train, predict and score as the product's jobs; seconds by phase, and the IoU."""
    configure_process(polite=False)
    clock, device = meters.Clock(), _device(job.settings)
    began = time.perf_counter()
    with meters.Busy(device) as busy, _watched_training(clock):
        result = _finish(_told(execute(job), say))
        trained = time.perf_counter()
        say("trained, predicting")
        asked = {"project": job.project, "run": result["run"], "volume": "target"}
        settings = PredictSettings(device=setting.device)
        _finish(execute(PredictJob(settings=settings, **asked)))
        predicted = time.perf_counter()
        say("predicted, scoring")
        scores = _finish(execute(ScoreJob(against=str(truth), box=box, **asked)))
    ended = time.perf_counter()
    names = ("prepare", "looks", "saves", "choosing")
    phases = {name: clock.seconds[name] for name in names}
    phases["steps"] = trained - began - sum(phases.values())
    phases |= {"predict": predicted - trained, "score": ended - predicted}
    return {
        "device": result["device"],
        "run": result["run"],
        "steps": job.settings.steps,
        "profile": job.settings.profile,
        "minutes": (ended - began) / 60,
        "iou": scores["iou"],
        "phases": phases,
        "busy": busy.share,
        "device_memory": meters.device_memory(device),
        "host_memory": meters.host_memory(),
    }


@contextlib.contextmanager
def _watched_training(clock: meters.Clock) -> Iterator[None]:
    """Count what a training spends on other things than steps."""
    with (
        patch.object(train_job, "prepare", clock.timed("prepare", prepare)),
        patch.object(loop, "validate", clock.waited_for("looks", between_steps.validate)),
        patch.object(loop, "save", clock.timed("saves", between_steps.save)),
        patch.object(loop, "select", clock.waited_for("choosing", between_steps.select)),
    ):
        yield


def _device(settings: TrainSettings) -> torch.device:
    return Compute.choose(settings.device).device


def _told(events: Generator[Event], say: Say) -> Iterator[Event]:
    for event in events:
        if isinstance(event, Stepped):
            say(f"step {event.step} of {event.steps}")
        yield event


def _finish(events: Iterator[Event]) -> Numbers:
    """The result of a job that is carried out to its end."""
    result: Numbers = {}
    for event in events:
        if isinstance(event, Finished):
            result = event.result
    return result
