"""A model and all that is needed to use or continue it, in one safetensors file.

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_emda.errors import JobError
from napari_emda.inference.model_header import ModelHeader
from napari_emda.io.atomic import replacing_file
from napari_emda.methods.base import Method
from napari_emda.nn.network import Network
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.base import with_new_names
from napari_emda.settings.training import split_network

FORMAT = 3
"""Format 3 tells the model from its training and has other names for some settings.

Models of format 1 have seen stacks of independent images as one volume, in one grey range
(`_migrated`).
"""
_OPTIMISER = "optimiser."


Part = TypeVar("Part", bound=BaseModel)


def save(
    path: Path,
    header: ModelHeader,
    method: Method,
    *,
    training: BaseModel,
    optimiser: torch.optim.Optimizer | None = None,
) -> None:
    """Write a checkpoint; a crash leaves the old or the new one, whole.

    Args:
        path: where to; an older file is replaced.
        header: of the model.
        method: whose tensors are kept.
        training: what the training needs to go on, see `training.state.TrainingState`.
        optimiser: whose moments are kept, in a file from which a training is to go on.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in method.state_dict().items()
    }
    if optimiser is not None:
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"{_OPTIMISER}{index}.{key}"] = (
                    torch.as_tensor(value).detach().cpu().contiguous().clone()
                )
    parts = {
        "format": FORMAT,
        "model": header.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    with replacing_file(path) as partial:
        save_file(tensors, partial, {"napari_emda": json.dumps(parts)})


def read_header(path: Path) -> ModelHeader:
    """What is needed to use a model, without its weights; errors as of `read_part`."""
    return read_part(path, "model", ModelHeader)


def read_part(path: Path, name: str, kind: type[Part]) -> Part:
    """One part of what a model's file says of itself.

    Args:
        path: of the file.
        name: ``model`` or ``training``.
        kind: what the part is read as.

    Raises:
        JobError: the file is no checkpoint of ours, is damaged, or newer than this program.
    """
    try:
        with safe_open(path, "pt") as file:
            values = json.loads((file.metadata() or {})["napari_emda"])
        if values["format"] > FORMAT:
            raise JobError(
                f"The model '{path}' has format {values['format']}: update napari-emda to use it."
            )
        return kind.model_validate(_migrated(values)[name])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ValidationError):
        raise JobError(
            f"'{path}' is not a model of napari-emda, or is damaged: name another run."
        ) from None


def _migrated(values: dict[str, Any]) -> dict[str, Any]:
    """What a file of an earlier format says, in today's words."""
    if values["format"] >= 3:
        return values
    values = with_new_names(values, {"neighbours": "z_smoothing"})
    settings, _ = split_network(values["settings"])  # again in ``network``
    model = {key: value for key, value in values.items() if key in ModelHeader.model_fields}
    model["seed"] = settings["seed"]
    model["range_per_section"] = values["format"] >= 2
    training = {key: values[key] for key in values if key not in (*model, "format")}
    return {"format": 3, "model": model, "training": training | {"settings": settings}}


def _tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return {
            name.removeprefix(prefix): file.get_tensor(name)
            for name in names
            if name.startswith(prefix)
        }


def _state(path: Path) -> dict[str, Tensor]:
    return {key: value for key, value in _tensors(path).items() if not key.startswith(_OPTIMISER)}


def load(path: Path, method: Method, optimiser: torch.optim.Optimizer | None = None) -> None:
    """Fill a method, and an optimiser, with a checkpoint's tensors.

    Raises:
        JobError: they belong to another network.
    """
    try:
        method.load_state_dict(_state(path))
    except RuntimeError:
        raise JobError(
            f"'{path}' holds another network than the one asked for: use its own settings."
        ) from None
    if optimiser is None:
        return
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _tensors(path, _OPTIMISER).items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        # fused optimisers walk parameter and moments side by side in memory: lay them out alike
        moment = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[name] = moment
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )


def load_average(paths: Sequence[Path], method: Method) -> None:
    """Fill a method with the mean of several models' weights and statistics.

    What is no fraction comes from the last. Izmailov et al. 2018: a mean of weights that lie close
    together generalises better than each of them.
    """
    states = [_state(path) for path in paths]
    mean = {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in states[-1].items()
    }
    method.load_state_dict(mean)


# -- the models of a run ----------------------------------------------------------------------------


def find(run: RunFolder, which: str = "selected") -> Path:
    """A model of a run: ``selected``, ``last`` or one of the steps that are kept.

    Raises:
        JobError: it is not there.
    """
    if which == "selected":
        return run.selected if run.selected.exists() else run.checkpoint
    if which == "last":
        return run.checkpoint
    kept = run.candidates()
    if which.isdecimal():
        step = int(which)
        if run.checkpoint.exists() and read_header(run.checkpoint).step == step:
            return run.checkpoint
        if step in kept:
            return run.candidate(step)
    steps = ", ".join(map(str, kept))
    raise JobError(
        f"The run '{run.name}' has kept no model '{which}': choose selected, last"
        + (f" or {steps}." if kept else ".")
    )


def load_method(path: Path) -> tuple[ModelHeader, Method]:
    """The method of a checkpoint, filled."""
    header = read_header(path)
    method = header.build()
    load(path, method)
    return header, method


def start_from(path: Path, network: Network, classes: Sequence[str]) -> None:
    """Let a network begin with what another run's predictor learnt.

    Args:
        path: of a model.
        network: its weights and statistics are replaced.
        classes: what it is to predict. A run that predicts others (clusters) hands on its
            features; the last layer, which makes classes of them, is learnt anew.

    Raises:
        JobError: the network has another shape.
    """
    header, method = load_method(path)
    network.adopt(method.trained, classes=header.classes == tuple(classes))
