"""The project that is attacked, the commands, and what must be true afterwards.

What is checked is read without napari-emda: lines of JSON, arrays of zarr, tensors of safetensors.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from safetensors.numpy import load_file

from napari_emda.data.box import Box
from tests.cli.calling import listing
from tests.faults.scenarios import diary_of
from tests.faults.server import Outcome, Request, Server
from tests.faults.shim import Fault

SHAPE = (2, 64, 64)
RUN = "001-source_only"
CUT_OFF = "002-source_only"
"""A run that was stopped in the middle, and can be continued."""
TRAINING = ("--profile", "test", "--device", "cpu", "--method", "source_only", "--steps", "4")
SETTINGS = ("patch=32", "batch=1", "precision=32", "validations=2", "save_every=1")
STATES = ("accepted", "partial")

INPUTS = ("image.zarr", "ome.zarr", "sections", "one.png", "one.jpg", "lzw.tif", "ome.ome.tif")
"""Images in the formats that are read, besides TIFF; see `_write_inputs`."""

# Of a command that is attacked: seconds of the processor, and MiB.
MOST_SECONDS = 20.0
MOST_MEMORY = 2048.0
# Lines that a command prints before the sentence at the end: progress.
MOST_LINES = 12


def labels() -> Any:
    """The true classes of the target, uint8."""
    values = np.zeros(SHAPE, np.uint8)
    values[:, 8:40, 16:48] = 1
    return values


@dataclass(frozen=True)
class Case:
    """A folder with a copy of the project, its images, and what must not be touched.

    Attributes:
        folder: of all.
    """

    folder: Path

    @property
    def here(self) -> Path:
        """The folder whose changes are counted."""
        return self.folder / "here"

    @property
    def project(self) -> Path:
        return self.here / "project"

    @property
    def diary(self) -> Path:
        return self.folder / "diary"

    def path(self, name: str) -> str:
        """The path of something beside the project."""
        return str(self.here / name)

    def run(self, server: Server, name: str, fault: Fault | None = None, **more: Any) -> Outcome:
        """Run one of `COMMANDS`."""
        return server.run(self.request(name, fault, **more))[0]

    def request(self, name: str, fault: Fault | None = None, **more: Any) -> Request:
        """To run one of `COMMANDS`."""
        arguments = [str(each) for each in COMMANDS[name].arguments(self)]
        values = (fault or Fault()).values()
        return Request(arguments, str(self.here), fault=values, **more)

    def untouchable(self) -> dict[str, str]:
        """What no command may change: everything outside, and the images."""
        found = listing(self.folder / "outside")
        for name in ("source.tif", "target.tif", "labels.tif", *map("inputs/{}".format, INPUTS)):
            path = self.here / name
            paths = sorted(path.rglob("*")) if path.is_dir() else [path]
            found |= {str(path): _digest_of(path) for path in paths}
        return found

    def regions(self) -> dict[str, dict[str, Any]]:
        """The last line of each region."""
        path = self.project / "regions.jsonl"
        found = {}
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                region = json.loads(line)
                found[region["id"]] = region
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def annotations(self) -> Any:
        """uint8 (z, y, x); zeros before the first."""
        path = self.project / "annotations" / "target.zarr"
        return np.asarray(zarr.open_array(path, mode="r")[:]) if path.exists() else np.zeros(SHAPE)

    def accepted(self) -> dict[str, Any]:
        """The annotations of each region that is accepted."""
        array = self.annotations()
        return {
            name: array[Box.parse(region["box"], SHAPE).slices]
            for name, region in self.regions().items()
            if region["state"] in STATES
        }

    def lost(self, before: dict[str, Any]) -> list[str]:
        """Accepted patches that are gone, or that are not as they were painted."""
        try:
            now = self.accepted()
        except Exception as error:  # noqa: BLE001 - whatever zarr raises, the annotations are lost
            return [f"the annotations cannot be read ({type(error).__name__}: {error})"]
        decided = diary_of(self.diary)
        wrong = []
        for name, painted in before.items():
            if name not in now:
                wrong.append(f"patch {name} is no longer accepted")
            elif not np.array_equal(now[name], painted):
                wrong.append(f"patch {name} holds other annotations")
        truth = labels() + 1
        for name, painted in now.items():
            box = Box.parse(self.regions()[name]["box"], SHAPE)
            if name not in before and name not in decided and not _fits(painted, truth[box.slices]):
                wrong.append(f"patch {name} is accepted without its annotations")
        for name, entries in decided.items():
            wrong += _against_diary(name, entries, now)
        return wrong


def _digest_of(path: Path) -> str:
    """Of a file or link; what is neither is told by its kind."""
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path.exists())


def _fits(painted: Any, truth: Any) -> bool:
    # A whole import leaves what was painted before as it was.
    return bool((painted > 0).all()) and bool((painted == truth).mean() > 0.4)


def _against_diary(name: str, entries: list[dict[str, Any]], now: dict[str, Any]) -> list[str]:
    """What a project lacks of what was decided on a patch."""
    done = [entry for entry in entries if entry["done"]]
    if not done or entries[-1] is not done[-1]:
        return []  # under way: before or after are right
    last = done[-1]
    if last["state"] == "accepted" and name not in now:
        return [f"patch {name} was accepted, and is not"]
    if last["state"] == "accepted" and not (now[name] == last["value"]).all():
        return [f"patch {name} was accepted, and lacks annotations"]
    return [] if last["state"] == "accepted" or name not in now else [f"undo of {name} is lost"]


def wrong_with(outcome: Outcome, *, allowed: tuple[int, ...] = (0, 2, 3)) -> list[str]:
    """What is wrong with how a command ended; empty if it ended as it should."""
    wrong = []
    if outcome.hung:
        wrong.append("it hung")
    elif outcome.status not in allowed:
        last = (outcome.err.strip().splitlines() or [""])[-1]
        wrong.append(f"exit status {outcome.status}: {last[:300]}")
    event = _last_event(outcome.out)
    # Where events are printed, standard error is the log, which has the origin of an error.
    printed = outcome.out if event else outcome.out + outcome.err
    if "Traceback" in printed:
        wrong.append("a traceback: " + printed.strip()[-300:].replace("\n", " | "))
    elif outcome.status == 2 and not wrong:
        lines = [event] if event else outcome.err.splitlines() or [""]
        if len(lines) > MOST_LINES or lines[-1].rstrip()[-1:] not in (".", "?"):
            wrong.append(f"not one sentence: {outcome.err[-300:]!r}")
        elif not lines[-1].isprintable():
            wrong.append(f"characters that cannot be printed: {lines[-1][:300]!r}")
    if outcome.cpu > MOST_SECONDS:
        wrong.append(f"{outcome.cpu:.0f} s of the processor")
    if outcome.memory > MOST_MEMORY:
        wrong.append(f"{outcome.memory:.0f} MiB")
    return wrong


def _last_event(out: str) -> str:
    """What the last event of a job says; empty where sentences are printed in place of events."""
    try:
        return str(json.loads(out.splitlines()[-1])["text"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


# -- commands --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command line, and the result by which two runs of it are compared.

    Attributes:
        arguments: of a case.
        result: of a case; equal for equal results.
    """

    arguments: Callable[[Case], tuple[Any, ...]]
    result: Callable[[Case], Any]


def _digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _weights(case: Case, run: str | None = None) -> Any:
    """The tensors of a run, by default the latest: with those of the optimiser."""
    folders = [path.parent for path in case.project.glob("runs/*/checkpoint.safetensors")]
    if run is None and not folders:
        return None
    folder = case.project / "runs" / run if run else max(folders)
    tensors = load_file(folder / "checkpoint.safetensors")
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def _prediction(case: Case) -> Any:
    found = {}
    for path in sorted(case.project.glob("runs/*/probabilities.zarr/target")):
        found[path.parts[-3]] = _digest(zarr.open_array(path, mode="r")[:])
    return found


def _suggested(case: Case) -> Any:
    """Number of the patches that are open: where they are depends on the round."""
    return sum(region["state"] == "suggested" for region in case.regions().values())


def _annotated(case: Case) -> Any:
    states = [region["state"] for region in case.regions().values()]
    return states.count("accepted") > 0, _digest(case.annotations())


def _decided(case: Case) -> Any:
    return _digest(case.annotations())


def _written(name: str, case: Case) -> Any:
    path = case.here / name
    if path.suffix == ".tif":
        return _digest(tifffile.imread(path))
    if path.suffix == ".zarr":
        return _digest(zarr.open_array(path / "0", mode="r")[:])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as file:
            return file.testzip(), sorted(file.namelist())
    if path.suffix == ".safetensors":
        return {name: _digest(tensor) for name, tensor in load_file(path).items()}
    return path.read_text()


def _made(case: Case) -> Any:
    values = json.loads((case.here / "made" / "project.json").read_text())
    return [volume["name"] for volume in values["volumes"]]


def _pack(*more: Any) -> Command:
    return Command(
        lambda case: ("pack", case.project, "--to", case.path("packed.zip"), *more),
        partial(_written, "packed.zip"),
    )


def _unpacked(case: Case) -> Any:
    """Nothing before all is there."""
    return listing(case.here / "brain") if (case.here / "brain").exists() else None


def _started(case: Case) -> tuple[Any, ...]:
    given = ("--model", case.path("given.safetensors"))
    return ("new", case.path("made"), *given, "--target", case.path("target.tif"))


def _started_project(case: Case) -> Any:
    tensors = load_file(case.here / "made" / "runs" / "001-imported" / "checkpoint.safetensors")
    return _made(case), {name: _digest(tensor) for name, tensor in tensors.items()}


def _export(what: str, name: str, *more: Any) -> Command:
    def arguments(case: Case) -> tuple[Any, ...]:
        target = ("--what", what, "--to", case.path(name), "--run", RUN)
        return ("export", case.project, *target, *more)

    return Command(arguments, partial(_written, name))


def _new(case: Case) -> tuple[Any, ...]:
    pair = ("--source", case.path("source.tif"), case.path("labels.tif"))
    return ("new", case.path("made"), *pair, "--target", case.path("target.tif"))


def _new_of(name: str) -> Command:
    """A project of an image in another format."""

    def arguments(case: Case) -> tuple[Any, ...]:
        spacing = ("--target-spacing", 50, 8, 8)
        return ("new", case.path("made"), "--target", case.path(f"inputs/{name}"), *spacing)

    return Command(arguments, _made)


def _training(case: Case) -> tuple[Any, ...]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return ("train", case.project, *TRAINING, *settings)


def _suggestion(*more: Any) -> Callable[[Case], tuple[Any, ...]]:
    size = ("--count", 2, "--patch", 32, "--run", RUN)
    return lambda case: ("suggest", case.project, *size, *more)


def _annotation(*more: Any) -> Callable[[Case], tuple[Any, ...]]:
    return lambda case: ("annotate", case.project, "--from", case.path("labels.tif"), *more)


def _scenario(name: str) -> Callable[[Case], tuple[Any, ...]]:
    return lambda case: (f"scenario:{name}", case.project, case.diary)


COMMANDS = {
    "new": Command(_new, _made),
    "train": Command(_training, _weights),
    "resume": Command(
        lambda case: ("train", case.project, "--resume", CUT_OFF),
        partial(_weights, run=CUT_OFF),
    ),
    "predict": Command(lambda case: ("predict", case.project, "--run", CUT_OFF), _prediction),
    "predict last": Command(
        lambda case: ("predict", case.project, "--run", CUT_OFF, "--checkpoint", "last"),
        _prediction,
    ),
    "predict again": Command(
        lambda case: ("predict", case.project, "--run", RUN, "--set", "flips=on"), _prediction
    ),
    "predict to": Command(
        lambda case: ("predict", case.project, "--run", RUN, "--out", case.path("p.tif")),
        partial(_written, "p.tif"),
    ),
    "suggest": Command(_suggestion(), _suggested),
    "audit": Command(_suggestion("--audit"), _suggested),
    "annotate": Command(_annotation(), _annotated),
    "annotate all": Command(_annotation("--regions", "all"), _annotated),
    "score": Command(
        lambda case: ("score", case.project, "--against", case.path("labels.tif"), "--run", RUN),
        _prediction,
    ),
    "export tif": _export("mask", "out.tif"),
    "export zarr": _export("mask", "out.zarr"),
    "replace tif": _export("mask", "old.tif", "--overwrite"),
    "replace zarr": _export("mask", "old.zarr", "--overwrite"),
    "objects": _export("objects", "objects.zarr"),
    "probabilities": _export("probabilities", "probabilities.zarr"),
    "table": _export("table", "objects.csv"),
    "model": _export("model", "model.zip"),
    "model file": _export("model_file", "model.safetensors"),
    "pack": _pack(),
    "pack whole": _pack("--images", "whole", "--overwrite"),
    "unpack": Command(lambda case: ("unpack", case.path("brain.zip")), _unpacked),
    "start": Command(_started, _started_project),
    "report": Command(
        lambda case: ("report", case.project, "--to", case.path("report.html"), "--overwrite"),
        partial(_written, "report.html"),
    ),
    "decide": Command(_scenario("decide"), _decided),
    "careless": Command(_scenario("careless"), _decided),
    "take back": Command(_scenario("take_back"), _decided),
    "run": Command(lambda case: ("run", case.path("predict.json"), "--json"), _prediction),
    "read": Command(_scenario("read"), _suggested),
    "mend": Command(_scenario("mend"), _suggested),
    **{f"new {name}": _new_of(name) for name in INPUTS},
}
