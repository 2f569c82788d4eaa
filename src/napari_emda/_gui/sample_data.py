"""Samples of *File > Open Sample > napari-emda*: the phantom, and real volumes by download."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pooch

from napari_emda.errors import DataError
from napari_emda.io.cache import CACHE_VARIABLE
from napari_emda.io.read import open_image, open_labels
from napari_emda.synthetic.sample_pair import RECORDINGS, sample_volume

LayerData = tuple[Any, dict[str, Any], str]

# Between the phantom's two volumes, which lie side by side: a tenth of their width.
_GAP_NM = 200.0

# Percentiles of a section that are shown as black and white: few pixels are cut off.
_CONTRAST = (0.5, 99.5)

# Serial-section TEM of a fly larva's ventral nerve cord, CC BY-NC-SA 3.0.
# Gerhard et al. 2013, figshare 856713.
VNC_URL = (
    "https://raw.githubusercontent.com/unidesigner/groundtruth-drosophila-vnc/"
    "4a5f051466d24d8dc1e855ab55658bb1b1dcd6bf/"
)

# nm along z, y, x, as the data set states it.
VNC_SPACING = (50.0, 4.6, 4.6)

# Environment variable with another place to download from, e.g. a mirror in an institute.
URL_VARIABLE = "NAPARI_EMDA_VNC_URL"


def phantom_pair(seed: int = 0) -> list[LayerData]:
    """The synthetic pair, computed when it is opened: source, its mitochondria, and target.

    The source lies to the left of the target, so that both are seen at once.

    Args:
        seed: of the phantom.
    """
    source, labels = sample_volume("source", seed)
    target, _ = sample_volume("target", seed)
    spacing = RECORDINGS["source"].spacing
    left = -(spacing[2] * source.shape[2] + _GAP_NM)
    return [
        _layer(source, "phantom source", spacing, "image", left),
        _layer(labels, "phantom source mitochondria", spacing, "labels", left),
        _layer(target, "phantom target", RECORDINGS["target"].spacing, "image"),
    ]


def vnc() -> list[LayerData]:
    """A stack of the fly's nerve cord with its mitochondria (20 x 1024 x 1024).

    Raises:
        DataError: the download failed, or a file differs from the published one.
    """
    folder = download_vnc(("stack1/raw", "stack1/mitochondria"))
    image = np.asarray(open_image(folder / "stack1" / "raw").array)
    # The masks have soft edges: a pixel that is covered by half or more belongs to them.
    mitochondria = np.asarray(open_labels(folder / "stack1" / "mitochondria").array) > 127
    return [
        _layer(image, "VNC", VNC_SPACING, "image"),
        _layer(mitochondria.astype(np.uint8), "VNC mitochondria", VNC_SPACING, "labels"),
    ]


def vnc_unlabelled() -> list[LayerData]:
    """Another stack of the fly's nerve cord, without labels (20 x 1024 x 1024).

    Raises:
        DataError: the download failed, or a file differs from the published one.
    """
    folder = download_vnc(("stack2/raw",))
    return [
        _layer(
            np.asarray(open_image(folder / "stack2" / "raw").array), "VNC 2", VNC_SPACING, "image"
        )
    ]


def vnc_hashes() -> dict[str, str]:
    """The sha256 of each file of the VNC stacks, by its path below ``VNC_URL``."""
    lines = files("napari_emda").joinpath("vnc.sha256").read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#"))
    return {path: sha256 for sha256, path in pairs}


def download_vnc(folders: Sequence[str]) -> Path:
    """Download folders of the VNC data, unless they are on this machine already and intact.

    Args:
        folders: paths below ``VNC_URL``, such as ``stack1/raw``.

    Returns:
        The folder that holds them.

    Raises:
        DataError: the server cannot be reached, or a file differs from the published one.
    """
    hashes = vnc_hashes()
    store = pooch.create(
        path=pooch.os_cache("napari-emda") / "vnc",
        base_url=os.environ.get(URL_VARIABLE, VNC_URL),
        registry={path: hashes[path] for path in hashes if path.rpartition("/")[0] in folders},
        env=CACHE_VARIABLE,
        # Two more tries per file: a single failure among many small files is common.
        retry_if_failed=2,
    )
    try:
        # Created here, because pooch fails when two threads create the same folder.
        for folder in folders:
            (Path(store.path) / folder).mkdir(parents=True, exist_ok=True)
        # Small files: the time is spent waiting for the server, so several are fetched at once.
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(store.fetch, store.registry))
    except ValueError as error:
        # pooch raises it if a hash does not match.
        raise DataError(
            f"A downloaded file is damaged or has changed ({error}): try again later."
        ) from None
    except OSError as error:
        # No network, no such file on the server, or no space on the disk.
        raise DataError(
            f"The VNC data cannot be downloaded ({error}): check the network, or set "
            f"{URL_VARIABLE}."
        ) from None
    return Path(store.path)


def _layer(
    data: Any, name: str, spacing: tuple[float, float, float], kind: str, left: float = 0.0
) -> LayerData:
    """A layer in nm whose left edge is at ``left``."""
    arguments: dict[str, Any] = {
        "name": name,
        "scale": spacing,
        "translate": (0.0, 0.0, left),
        "units": ("nm",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    if kind == "image":
        # By the extreme values, as napari does it, a noisy volume is one grey.
        low, high = np.percentile(data[len(data) // 2], _CONTRAST)
        arguments["contrast_limits"] = (float(low), float(max(high, low + 1)))
    return data, arguments, kind
