"""A model and all that is needed to use or continue it, in one safetensors file; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_emda.data.intensity import Statistics, measure
from napari_emda.data.volume import Domain, Resampled
from napari_emda.errors import JobError
from napari_emda.io.atomic import replacing_file
from napari_emda.methods.base import DataSummary, Method, methods
from napari_emda.nn.network import Network, NetworkConfig
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.base import with_new_names
from napari_emda.settings.training import TrainSettings, split_network

FORMAT = 3
"""Format 3 has other names for some settings (`_migrated`). Models of format 1 have seen stacks of independent images
as one volume, with grey values standardised alike."""
PER_IMAGE_RANGE = 2
"""From this format on, each image of a stack of independent images is brought to its own grey range."""
_OPTIMISER = "optimiser."


class Header(BaseModel):
    """What a checkpoint says of itself.

    Attributes:
        method, method_settings, settings: what was trained, and how.
        classes: names of what is predicted, background first; see `methods.base.Method.predicted_classes`.
        network: with which it is built again.
        pixel_size, unit: at which the network works.
        statistics: grey values by volume name.
        prediction_domain: whose normalisation statistics to predict the target with.
        flips: whether to average the target's prediction over flipped copies.
        z_smoothing: weight of the sections before and after each of the target's.
        step: optimiser steps done.
        validations: label-free scores on the target by step, so far.
        scores: those of this very model; empty where it was not validated.
        losses: means of the ``supervised`` loss and of the ``total`` over the steps up to each look, since the one
            before, by step; empty for methods that learn from labels alone.
        pending: sums of the same since the last look.
        selected: the validated steps of whose weights this model is made; none in a checkpoint.
        features_only: whether nothing was labelled, so that it predicts nothing and is there to start from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    method: str
    method_settings: dict[str, Any] = {}
    settings: TrainSettings
    classes: tuple[str, ...]
    network: NetworkConfig
    pixel_size: float
    unit: str = "nm"
    statistics: dict[str, Statistics] = {}
    prediction_domain: Domain = "source"
    flips: bool = False
    z_smoothing: float = 0.0
    step: int = 0
    validations: dict[int, dict[str, float]] = {}
    scores: dict[str, float] = {}
    losses: dict[int, dict[str, float]] = {}
    pending: dict[str, float] = {}
    selected: tuple[int, ...] = ()
    features_only: bool = False

    @property
    def model(self) -> str:
        """Tells the models of a run apart: ``400``, or ``selected 300 400 500``."""
        return " ".join(["selected", *map(str, self.selected)]) if self.selected else str(self.step)

    def statistics_of(self, view: Resampled) -> Statistics:
        """Grey values of a volume at ``pixel_size``: those seen in training, else measured now, in the same way."""
        known = self.statistics.get(view.volume.name)
        independent = view.volume.grid.sections_are_independent
        apart = independent and self.format >= PER_IMAGE_RANGE
        return known or measure(view, seed=self.settings.seed, apart=apart)

    def build(self, summary: DataSummary | None = None) -> Method:
        """The method with a fresh network, by default without knowledge of data (its tables come with the weights)."""
        cls = methods[self.method]
        settings = cls.Settings.parse(self.method_settings)
        return cls(settings, self.network.build(), summary or DataSummary())


def save(
    path: Path, header: Header, method: Method, optimiser: torch.optim.Optimizer | None = None
) -> None:
    """Write a checkpoint; a crash leaves the old or the new one, whole."""
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
    with replacing_file(path) as partial:
        save_file(tensors, partial, {"napari_emda": header.model_dump_json()})


def read_header(path: Path) -> Header:
    """The header alone; JobError when the file is no checkpoint of ours or is newer than this program."""
    try:
        with safe_open(path, "pt") as file:
            values = json.loads((file.metadata() or {})["napari_emda"])
        if values["format"] > FORMAT:
            raise JobError(
                f"The model '{path}' has format {values['format']}: update napari-emda to use it."
            )
        return Header.model_validate(_migrated(values))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ValidationError):
        raise JobError(
            f"'{path}' is not a model of napari-emda, or is damaged: name another run."
        ) from None


def _migrated(values: dict[str, Any]) -> dict[str, Any]:
    """A header of an earlier format by today's names; format 1 stays, for it says how grey values were standardised."""
    if values["format"] >= FORMAT:
        return values
    values = with_new_names(values, {"neighbours": "z_smoothing"})
    settings, _ = split_network(values["settings"])  # again in ``network``
    values["settings"] = settings
    return values | {"format": FORMAT if values["format"] >= PER_IMAGE_RANGE else values["format"]}


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
    """Fill a method, and an optimiser, with a checkpoint's tensors; JobError when they belong to another network."""
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
        # fused optimisers walk parameter and moments side by side in memory: they must be laid out alike
        moment = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[name] = moment
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )


def load_average(paths: Sequence[Path], method: Method) -> None:
    """Fill a method with the mean of several models' weights and statistics; what is no fraction comes from the last.

    Izmailov et al. 2018: a mean of weights that lie close together generalises better than each of them.
    """
    states = [_state(path) for path in paths]
    mean = {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in states[-1].items()
    }
    method.load_state_dict(mean)


# -- the models of a run -----------------------------------------------------------------------------------------


def find(run: RunFolder, which: str = "selected") -> Path:
    """A model of a run: ``selected``, ``last`` or one of the steps that are kept; JobError when it is not there."""
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


def load_method(path: Path) -> tuple[Header, Method]:
    """The method of a checkpoint, filled."""
    header = read_header(path)
    method = header.build()
    load(path, method)
    return header, method


def start_from(path: Path, network: Network, classes: Sequence[str]) -> None:
    """Let a network begin with what another run's predictor learnt; JobError when it has another shape.

    Args:
        path: of a model.
        network: its weights and statistics are replaced.
        classes: what it is to predict. A run that predicts others (clusters) hands on its features; the last layer,
            which makes classes of them, is learnt anew.
    """
    header, method = load_method(path)
    network.adopt(method.trained, classes=header.classes == tuple(classes))
