"""Pretrained encoders: a file that the user names, whose origin the model carries on.

The file is safetensors, so nothing in it can run; it is compared with a SHA-256 if one is given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from napari_emda.data.names import in_one_line, in_print
from napari_emda.errors import DataError, JobError, SettingsError
from napari_emda.inference.model_header import ModelHeader
from napari_emda.io.tensor_file import TensorHeader, read_tensor_header
from napari_emda.nn.network import Network, networks
from napari_emda.project.model_file import LARGEST_MODEL, SUFFIX

_FIRST = "patch_embed.proj.weight"
_BLOCK = re.compile(r"blocks\.([0-9]{1,4})\.norm1\.weight")
_REGISTERS = ("register_tokens", "reg_token")
# Where files of others say what they are.
_SOURCES = ("source", "url", "repo", "model_id")
_LICENCES = ("licence", "license")
_LONGEST = 100
_STEP = 2**22


def encoder_file(network: str, values: Mapping[str, Any]) -> Path | None:
    """The file of the pretrained encoder that settings of a network name; None without one."""
    weights = values.get("weights")
    has_weights = "weights" in networks[network].Settings.model_fields
    return Path(weights).expanduser() if has_weights and weights else None


def settings_of_file(network: str, path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a network with a pretrained encoder: what its file says wins.

    Args:
        network: name of the network.
        path: of the file.
        values: settings that the user gives.

    Raises:
        SettingsError: a setting contradicts the file.
        JobError: the file holds no encoder that can be used.
        DataError: it cannot be read.
    """
    header = _header(path)
    prefix = _prefix(path, header)
    shape = header.entries[f"{prefix}{_FIRST}"]["shape"]
    layers = [
        int(match[1])
        for name in header.entries
        if (match := _BLOCK.fullmatch(name.removeprefix(prefix)))
    ]
    if any("rel_pos" in name for name in header.entries):
        raise JobError(
            f"'{in_print(path.name)}' is an encoder with relative positions, as that of SAM, which "
            "is not read: choose a plain vision transformer (timm, DINOv2)."
        )
    if len(shape) != 4 or not layers or shape[0] % 16:
        raise _no_encoder(path)
    registers = [
        header.entries[f"{prefix}{name}"]["shape"][1]
        for name in _REGISTERS
        if f"{prefix}{name}" in header.entries
    ]
    digest = _sha256(path)
    expected = str(values.get("weights_sha256") or "").lower()
    if expected not in ("", digest):
        raise SettingsError(
            f"'{in_print(path.name)}' has the SHA-256 {digest}, and weights_sha256 is another one: "
            "download the file again, or correct it."
        )
    said = {
        "weights_licence": _said(header, _LICENCES),
        "weights_source": _said(header, _SOURCES),
    }
    return {
        **values,
        **{key: values.get(key) or text for key, text in said.items()},
        "weights": path.name,
        "weights_sha256": digest,
        "width": shape[0],
        "layers": max(layers) + 1,
        "registers": registers[0] if registers else 0,
    }


def load_encoder(path: Path, network: Network) -> str:
    """Give a network the weights of a pretrained encoder.

    Args:
        path: of its file, which `settings_of_file` has read.
        network: with those settings.

    Returns:
        A sentence on the encoder, its licence and its source.

    Raises:
        JobError: the weights are those of another architecture.
    """
    prefix = _prefix(path, _header(path))
    try:
        # As a whole: what is mapped into memory ends the process if the file changes meanwhile.
        tensors = load_tensors(path.read_bytes())
    except SafetensorError:
        raise _no_encoder(path) from None
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if _REGISTERS[1] in own:
        own[_REGISTERS[0]] = own.pop(_REGISTERS[1])
    network.take_weights(own)
    return in_words(network.settings)


def in_words(settings: Any) -> str:
    """What is known of the pretrained encoder of a network, in a sentence; or nothing."""
    if not getattr(settings, "weights", ""):
        return ""
    licence = settings.weights_licence or "not stated, so ask its makers before you share models"
    source = f", from {settings.weights_source}" if settings.weights_source else ""
    return (
        f"The encoder is '{in_print(settings.weights)}'{source} (SHA-256 "
        f"{settings.weights_sha256[:12]}…); its licence: {licence}."
    )


def encoder_of(header: ModelHeader) -> str:
    """`in_words` of a model."""
    return in_words(networks[header.network.name].Settings.parse(header.network.settings))


def _header(path: Path) -> TensorHeader:
    shown = in_print(str(path))
    try:
        if path.suffix != SUFFIX or path.stat().st_size > LARGEST_MODEL:
            raise DataError(
                f"The encoder '{shown}' must be a {SUFFIX} file of at most "
                f"{LARGEST_MODEL // 2**30} GiB: choose another file, or convert it."
            )
        header = read_tensor_header(path)
    except FileNotFoundError:
        raise DataError(f"The encoder '{shown}' does not exist: check its path.") from None
    except ValueError:
        raise _no_encoder(path) from None
    if not header.whole:
        raise _no_encoder(path)
    return header


def _prefix(path: Path, header: TensorHeader) -> str:
    """What stands before the names of the encoder, such as ``backbone.``."""
    found = [name.removesuffix(_FIRST) for name in header.entries if name.endswith(_FIRST)]
    if len(found) != 1:
        raise _no_encoder(path)
    return found[0]


def _no_encoder(path: Path) -> JobError:
    return JobError(
        f"'{in_print(path.name)}' holds no plain vision transformer as timm and DINOv2 name it, or "
        "is damaged: choose another file."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _said(header: TensorHeader, keys: tuple[str, ...]) -> str:
    texts = (header.metadata.get(key) for key in keys)
    text = next((text for text in texts if isinstance(text, str)), "")
    return in_print(in_one_line(text))[:_LONGEST]
