"""The TorchScript of a model that a user names, without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_emda.errors import JobError
from napari_emda.io.tensor_file import read_tensor_header
from napari_emda.project.foreign_package import is_foreign, read_package
from napari_emda.project.model_file import SUFFIX, ModelFile
from napari_emda.project.run_folder import RunFolder

# Of `nn.networks.fixed`, in the file of a method with that network.
_TENSOR = "network.content"


def code_in(path: Path) -> bytes | None:
    """The content of a TorchScript model; None for a project and for what is something else.

    Args:
        path: the folder of a project or of a run, a model's file, or a package.

    Raises:
        JobError: it is a model without TorchScript, or a damaged one.
        OSError: it cannot be read.
    """
    path = path.expanduser().resolve()
    if is_foreign(path):
        package = read_package(path)
        if package.kind == "torchscript":
            return package.weights
        raise _nothing(path)
    if path.is_dir() and not (path / "project.json").exists():
        run = RunFolder(path)
        path = run.selected if run.selected.exists() else run.checkpoint
    if path.suffix != SUFFIX or not path.is_file():
        return None
    model = ModelFile.read(path).model
    settings: dict[str, Any] = model.network.settings
    header = read_tensor_header(path)
    if not model.is_fixed or settings.get("kind") != "torchscript":
        raise _nothing(path)
    if _TENSOR not in header.entries:
        raise _nothing(path)
    first, stop = header.entries[_TENSOR]["data_offsets"]
    with path.open("rb") as file:
        file.seek(header.start + first)
        return file.read(stop - first)


def _nothing(path: Path) -> JobError:
    return JobError(
        f"'{path.name}' holds no TorchScript: there is nothing to allow, because nothing else of a "
        "model can run a program."
    )
