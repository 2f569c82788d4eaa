"""A model and all that is needed to use it or to continue its training, in one safetensors file.

Nothing is ever unpickled, so a model from elsewhere cannot run code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from napari_emda.errors import JobError, is_out_of_memory, naming, refusal, system_error
from napari_emda.inference.model_header import ModelHeader
from napari_emda.io.atomic import sync, workspace
from napari_emda.io.tensor_file import TensorHeader, read_tensor_header
from napari_emda.json_text import parse_json
from napari_emda.methods.base import Method
from napari_emda.nn.network import Network
from napari_emda.project.model_file import FORMAT, METADATA, MOMENTS
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.base import with_new_names
from napari_emda.settings.training import split_network

Part = TypeVar("Part", bound=BaseModel)


def save(
    path: Path,
    header: ModelHeader,
    method: Method,
    *,
    training: BaseModel,
    optimiser: torch.optim.Optimizer | None = None,
) -> None:
    """Write a checkpoint. After a crash, the old or the new file is there, never half of one.

    Args:
        path: of the file, which is replaced if it exists.
        header: what is needed to use the model.
        method: its parameters and buffers are stored.
        training: what is needed to continue, see `training.state.TrainingState`.
        optimiser: its moments are stored, too, if a training is to continue from the file.
    """
    # Cloned, because safetensors refuses tensors that share memory, as tied weights do.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in method.state_dict().items()
    }
    if optimiser is not None:
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"{MOMENTS}{index}.{key}"] = (
                    torch.as_tensor(value).detach().cpu().contiguous().clone()
                )
    metadata = {
        "format": FORMAT,
        "model": header.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    # In a folder, because the library writes to a file of its own first, which a kill would leave
    # behind for good.
    with workspace(path) as folder, naming(path):
        written = folder / path.name
        try:
            save_file(tensors, written, {METADATA: json.dumps(metadata)})
        except SafetensorError as error:
            # The library has a class of its own for a full disk.
            raise system_error(error) or error from None
        sync(written)
        written.replace(path)
    sync(path.parent)


def read_header(path: Path) -> ModelHeader:
    """Read the header of a model without its weights; errors as of `read_part`."""
    return read_part(path, "model", ModelHeader)


def read_part(path: Path, name: str, kind: type[Part]) -> Part:
    """Read one part of a checkpoint's metadata, without the weights.

    Args:
        path: of the file.
        name: ``model`` or ``training``.
        kind: class that validates the part.

    Raises:
        JobError: the file is not a checkpoint of napari-emda, is damaged, or is newer than this
            version.
    """
    try:
        values = parse_json(_header(path).metadata[METADATA])
        if type(values["format"]) is not int or values["format"] < 1:
            raise ValueError
        if values["format"] > FORMAT:
            raise JobError(
                f"The model '{path}' has format {values['format']}: update napari-emda to use it."
            )
        return kind.model_validate(_migrated(values)[name])
    except FileNotFoundError:
        raise JobError(f"The model '{path}' does not exist: name another run.") from None
    except OSError as error:
        if (refused := refusal(error, path)) is not None:
            raise refused from None
        raise _damaged(path) from None
    except (KeyError, TypeError, ValueError):
        raise _damaged(path) from None


def _header(path: Path) -> TensorHeader:
    """The header of a file that is whole; ValueError for any other one."""
    header = read_tensor_header(path)
    if not header.whole:
        raise ValueError
    return header


def _damaged(path: Path) -> JobError:
    return JobError(f"'{path}' is not a model of napari-emda, or is damaged: name another run.")


def _migrated(values: dict[str, Any]) -> dict[str, Any]:
    """The metadata of an earlier format as that of today's."""
    if values["format"] >= 3:
        return values
    values = with_new_names(values, {"neighbours": "z_smoothing"})
    # Before format 3, the settings of the training repeated those of the network.
    settings, _ = split_network(values["settings"])
    model = {key: value for key, value in values.items() if key in ModelHeader.model_fields}
    model["seed"] = settings["seed"]
    model["range_per_section"] = values["format"] >= 2
    training = {key: values[key] for key in values if key not in (*model, "format")}
    return {"format": 3, "model": model, "training": training | {"settings": settings}}


def _tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    try:
        # Read as a whole: what the library maps into memory would end the process if the file is
        # cut short, or its disk fails, meanwhile.
        tensors = load_tensors(path.read_bytes())
    except SafetensorError:
        raise _damaged(path) from None
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _state(path: Path) -> dict[str, Tensor]:
    return {key: value for key, value in _tensors(path).items() if not key.startswith(MOMENTS)}


def load(path: Path, method: Method, optimiser: torch.optim.Optimizer | None = None) -> None:
    """Load a checkpoint's tensors into a method, and into an optimiser.

    Raises:
        JobError: the tensors belong to another network.
    """
    try:
        method.load_state_dict(_state(path))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise JobError(
            f"'{path}' holds another network than the settings ask for: use that run's settings."
        ) from None
    if optimiser is None:
        return
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _tensors(path, MOMENTS).items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        # Fused optimisers walk through parameter and moments in the order of memory, so they must
        # have the same layout (channels last). Step counts are scalars.
        same_shape = value.shape == parameter.shape
        moment = torch.empty_like(parameter).copy_(value) if same_shape else value
        state.setdefault(int(index), {})[name] = moment
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )


def load_average(paths: Sequence[Path], method: Method) -> None:
    """Load the mean of several models' weights and normalisation statistics into a method.

    Integers, such as counters, are those of the last model. The mean of weights that lie close
    together generalises better than each of them (Izmailov et al. 2018).
    """
    # Averaged in float64: the mean of equal weights is then exactly that weight.
    states = [_state(path) for path in paths]
    mean = {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in states[-1].items()
    }
    method.load_state_dict(mean)


# -- the models of a run ---------------------------------------------------------------------------


def find(run: RunFolder, which: str = "selected") -> Path:
    """Path of a model of a run.

    Args:
        run: its folder.
        which: ``selected``, ``last``, or the number of a step whose model is kept.

    Raises:
        JobError: there is no such model.
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
        f"The run '{run.name}' has no model '{which}': choose selected, last"
        + (f" or {steps}." if kept else ".")
    )


def load_method(path: Path) -> tuple[ModelHeader, Method]:
    """Build the method of a checkpoint and load its tensors."""
    header = read_header(path)
    _check_parameters(path, header)
    method = header.build()
    load(path, method)
    return header, method


def _check_parameters(path: Path, header: ModelHeader) -> None:
    """JobError if a header asks for a larger network than the file holds, before it is built."""
    # On this device, tensors have a shape and take no memory.
    with torch.device("meta"):
        network = header.network.build()
    tensors = [*network.parameters(), *network.buffers()]
    needed = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
    stored = _header(path).size
    if needed > stored:
        raise JobError(
            f"'{path}' describes a network of {needed} bytes and holds {stored}: name another run."
        )


def start_from(path: Path, network: Network, classes: Sequence[str]) -> None:
    """Initialise a network with the weights of another run.

    Args:
        path: of the other run's model.
        network: its weights and statistics are replaced.
        classes: that the network will predict. From a run of other classes, or of clusters, it
            takes all weights but those of the last layer, which is trained anew.

    Raises:
        JobError: the networks differ in architecture or size.
    """
    header, method = load_method(path)
    network.adopt(method.trained, classes=header.classes == tuple(classes))
