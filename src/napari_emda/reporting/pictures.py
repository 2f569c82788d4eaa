"""Pictures of a section before and after, as they stand in the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_emda.data.box import Box
from napari_emda.data.class_colours import class_colour, class_rgb
from napari_emda.data.volume import IGNORE, Volume
from napari_emda.project import comparison
from napari_emda.project.project import Project
from napari_emda.project.region import Region

# Side in pixels of what is shown: a few objects are seen whole, and the page stays below 1 MB.
SIDE = 384
# Share of the colour over the section, whose texture stays in sight.
_OPACITY = 0.45


@dataclass(frozen=True)
class Picture:
    """A picture of a section.

    Attributes:
        caption: what it shows.
        data: the PNG as an address.
    """

    caption: str
    data: str


@dataclass(frozen=True)
class Comparison:
    """Pictures of the same place.

    Attributes:
        volume: its name.
        place: where it is, in words.
        pictures: the image, what models found, and what was annotated.
        classes: names of the classes that may be seen, and their colours.
    """

    volume: str
    place: str
    pictures: tuple[Picture, ...]
    classes: tuple[tuple[str, str], ...]


def compare(project: Project, name: str, regions: Sequence[Region]) -> Comparison | None:
    """What the first and the last model found at a place of a volume; None without a prediction.

    The place is that of the largest annotated patch, or the middle of the volume.

    Raises:
        EmdaError: the image cannot be read.
    """
    runs = _runs(project, name)
    if not runs:
        return None
    volume = project.volumes.open(name)
    box = _place(volume, [r for r in regions if r.annotated and r.is_patch and r.volume == name])
    grey = _grey(np.asarray(volume.image[box.slices][0]))
    pictures = [Picture("as recorded", _png(grey))]
    for run, caption in runs:
        prediction = project.predictions.of(run, name)
        found = None if prediction is None else prediction.class_ids(box)
        if found is not None:
            pictures.append(Picture(f"{caption}, run {run}", _png(_tinted(grey, found[0]))))
    annotated = volume.without_labels().read_labels(box)[0]
    if (annotated != IGNORE).any():
        shown = np.where(annotated == IGNORE, 0, annotated)
        pictures.append(Picture("annotated", _png(_tinted(grey, shown))))
    z, _, y0, y1, x0, x1 = box.bounds
    return Comparison(
        volume=name,
        place=f"section {z}, rows {y0} to {y1 - 1}, columns {x0} to {x1 - 1}",
        pictures=tuple(pictures),
        classes=tuple((c, class_colour(k)) for k, c in enumerate(project.classes) if k),
    )


def _runs(project: Project, volume: str) -> list[tuple[str, str]]:
    """The runs to be shown, and what they are: one to compare with, if there is one, and the last.

    A run without adaptation is one to compare with, even if it was trained last.
    """
    predicted = [run for run in project.runs.names() if project.predictions.of(run, volume)]
    plain = [run for run in predicted if comparison.without_adaptation(project, run)]
    others = [run for run in predicted if run not in plain]
    if plain and others:
        return [(plain[-1], "without adaptation"), (others[-1], "last model")]
    if len(predicted) > 1:
        return [(predicted[0], "first model"), (predicted[-1], "last model")]
    return [(run, "model") for run in predicted]


def _place(volume: Volume, patches: Sequence[Region]) -> Box:
    depth, height, width = volume.shape
    z, y, x = depth // 2, height // 2, width // 2
    patches = [patch for patch in patches if patch.lies_in(volume.shape)]
    if patches:
        box = max(patches, key=lambda patch: patch.voxels.size).voxels
        z, y, x = ((low + high) // 2 for low, high in zip(box.start, box.stop, strict=True))
    y0 = min(max(0, y - SIDE // 2), max(0, height - SIDE))
    x0 = min(max(0, x - SIDE // 2), max(0, width - SIDE))
    return Box((z, y0, x0), (z + 1, min(height, y0 + SIDE), min(width, x0 + SIDE)))


def _grey(section: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = np.nan_to_num(section.astype(np.float64), posinf=0.0, neginf=0.0)
    # From the first to the ninety-ninth percentile: a pale recording would be one grey.
    low, high = np.percentile(values, (1, 99))
    # Zeros where all is one grey.
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _tinted(grey: NDArray[np.uint8], class_ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colour = np.repeat(grey[..., None], 3, axis=2).astype(float)
    for k in np.unique(class_ids[class_ids > 0]):
        mask = class_ids == k
        colour[mask] += _OPACITY * (np.array(class_rgb(int(k))) - colour[mask])
    return colour.astype(np.uint8)


def _png(picture: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
