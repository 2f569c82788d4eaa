"""Damage in the runs: their models, and their predictions, which can be computed again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import zarr

from napari_emda.errors import EmdaError, JobError
from napari_emda.io.atomic import replacing_file
from napari_emda.io.checked_store import CheckedStore
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.safe_files import inside
from napari_emda.io.tensor_file import read_tensor_header
from napari_emda.json_text import parse_json
from napari_emda.project.checking.annotations import UNREADABLE, box_of, chunk_indices
from napari_emda.project.checking.damage import Damage, Finding, Reading, Rescue
from napari_emda.project.run_folder import RUNS, RunFolder

_PREDICTIONS = {"probabilities.zarr": 4, "uncertainty.zarr": 3, "object_maps.zarr": 4}
"""The arrays of a run, by their axes."""


def damaged_runs(project: Path) -> Iterator[Finding]:
    """Damage in the runs of a project."""
    folder = inside(project, RUNS)
    names = sorted(
        path.name for path in folder.glob("*") if path.is_dir() and not path.is_symlink()
    )
    for name in names:
        yield Reading(f"{RUNS}/{name}")
        run = RunFolder(folder / name)
        yield from _models(run)
        yield from _texts(run)
        yield from _predictions(run)


# -- models ----------------------------------------------------------------------------------------


def _models(run: RunFolder) -> Iterator[Finding]:
    for step in run.candidates():
        problem = _problem_of(run.candidate(step))
        if problem:
            yield Damage(
                f"{RUNS}/{run.name}/candidates/{step}.safetensors",
                f"The model of step {step} of the run '{run.name}' {problem}",
                "it can be put aside; the run keeps its other models",
                partial(_put_aside, run, f"the model of step {step}", run.candidate(step)),
            )
    if run.selected.exists() and (problem := _problem_of(run.selected)):
        yield Damage(
            f"{RUNS}/{run.name}/selected.safetensors",
            f"The model that the run '{run.name}' uses {problem}",
            "it can be put aside, so that the model of the last step is used",
            partial(_put_aside, run, "the selected model", run.selected),
        )
    if run.checkpoint.exists() and (problem := _problem_of(run.checkpoint)):
        yield Damage(
            f"{RUNS}/{run.name}/checkpoint.safetensors",
            f"The model of the last step of the run '{run.name}' {problem}",
            "another model of the run can take its place, if there is one",
            partial(_replace_last, run),
        )


def _problem_of(path: Path) -> str:
    """What is wrong with a model; empty if its header fits the file."""
    try:
        header = read_tensor_header(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)
    try:
        parse_json(header.metadata["napari_emda"])["format"]
    except (KeyError, TypeError, AttributeError, ValueError):
        return "is damaged"
    return "" if header.whole else "is cut short"


def _put_aside(run: RunFolder, what: str, path: Path, rescue: Rescue) -> str:
    rescue.take(RUNS, run.name, *path.relative_to(run.path).parts)
    return f"Of the run '{run.name}', {what} was put aside, and is lost."


def _replace_last(run: RunFolder, rescue: Rescue) -> str:
    """Put the selected model, or the latest one that is kept, in place of that of the last step."""
    others = [run.selected, *(run.candidate(step) for step in reversed(run.candidates()))]
    model = next((path for path in others if path.exists() and not _problem_of(path)), None)
    rescue.take(RUNS, run.name, "checkpoint.safetensors")
    if model is None:
        return f"The run '{run.name}' has no other model, and is lost: train it again."
    with replacing_file(run.checkpoint) as file:
        shutil.copyfile(model, file)
    return (
        f"The run '{run.name}' goes on with '{model.name}'; the model of its last step is lost, "
        "and its training cannot be resumed from there."
    )


# -- small files -----------------------------------------------------------------------------------


def _texts(run: RunFolder) -> Iterator[Finding]:
    place = f"{RUNS}/{run.name}"
    try:
        run.cluster_names()
    except JobError:
        yield Damage(
            f"{place}/names.json",
            f"The names of the clusters of the run '{run.name}' cannot be read",
            "they can be put aside, and the clusters named again",
            partial(_put_aside, run, "the names of the clusters", run.path / "names.json"),
        )
    if not run.job_file.exists():
        return
    try:
        run.job()
    except EmdaError:
        yield Damage(
            f"{place}/job.json",
            f"The settings of the run '{run.name}' cannot be read, so that it cannot be resumed",
            "its model can be used, and the file be put aside",
            partial(_put_aside, run, "the file of its settings", run.job_file),
        )


# -- predictions -----------------------------------------------------------------------------------


def _predictions(run: RunFolder) -> Iterator[Finding]:
    volumes = {
        path.name
        for kind in _PREDICTIONS
        for path in (run.path / kind).glob("*")
        if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
    }
    for volume in sorted(volumes):
        for kind, axes in _PREDICTIONS.items():
            folder = run.path / kind / volume
            if folder.is_dir() and not _is_whole(folder, axes):
                yield Damage(
                    f"{RUNS}/{run.name}/{kind}/{volume}",
                    f"The prediction of '{volume}' by the run '{run.name}' is damaged",
                    "it can be put aside, and is then computed again where it is needed",
                    partial(_forget_prediction, run, volume),
                )
                break


def _is_whole(folder: Path, axes: int) -> bool:
    """Whether every chunk of an array can be decoded."""
    try:
        array = zarr.open_array(CheckedStore(folder), mode="r")
        if array.ndim != axes or array.dtype != "uint8":
            return False
        files = ChunkFiles(array)
        for index in chunk_indices(folder, axes):
            if all(
                i * side < n for i, side, n in zip(index, array.chunks, array.shape, strict=True)
            ):
                files[box_of(array, index)]
    except UNREADABLE:
        return False
    return True


def _forget_prediction(run: RunFolder, volume: str, rescue: Rescue) -> str:
    # The journal first: without it nobody takes the arrays for whole.
    rescue.take(RUNS, run.name, run.journal(volume).name)
    for kind in _PREDICTIONS:
        rescue.take(RUNS, run.name, kind, volume)
    return (
        f"The prediction of '{volume}' by the run '{run.name}' was put aside; predict it again "
        "when you need it."
    )
