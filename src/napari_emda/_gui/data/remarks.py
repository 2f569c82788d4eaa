"""Sentences on the chosen layers: what is missing, unknown or unusual. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari.layers import Layer

from napari_emda._gui.common.label_placement import labels_on
from napari_emda._gui.common.layer_volumes import Triple
from napari_emda.data.box import Box
from napari_emda.errors import DataError

# Pixel sizes that differ by more than this factor are pointed out: a wrong unit or a forgotten
# binning is a common mistake.
FACTOR = 2
WITHOUT_LABELS = (
    "An older volume with labels, as the source, helps most, or a model that has learnt from one. "
    "Without them, a model finds clusters of similar structures, and you name them."
)
MASK_AS_IMAGE = (
    "Labels that are listed as an image only: right-click the layer > Convert to Labels."
)
MODEL = "a model"
"""What is needed in place of a source; it is no layer."""
ONE_VOLUME = (
    "Only one volume, labelled in part? Choose it as the target and no source. You can take its "
    "labels in Annotate later."
)


def sizes_needed(missing: Mapping[str, Sequence[str]]) -> str:
    """Which voxel sizes the user has to type; empty if none.

    Args:
        missing: the axes along which the size is unknown, by the volume, such as ``the source``.
    """
    unknown = [_unknown(volume, axes) for volume, axes in missing.items() if axes]
    if not unknown:
        return ""
    verb, them = ("is", "it") if len(unknown) == 1 else ("are", "them")
    boxes = "box" if sum(map(len, missing.values())) == 1 else "boxes"
    return (
        f"{' and '.join(unknown).capitalize()} {verb} not known: type {them} into the marked "
        f"{boxes}, in nm."
    )


def size_remark(source: Triple | None, target: Triple | None) -> str:
    """A remark on very different voxel sizes; empty if there is none.

    Args:
        source: voxel size (z, y, x) in nm; None if unknown.
        target: likewise.
    """
    if source is None or target is None:
        return ""
    # Networks see sections, so only the pixel size matters, and of y and x the smaller one.
    source_pixel = min(source[1:])
    target_pixel = min(target[1:])
    coarser = max(source_pixel, target_pixel)
    factor = coarser / min(source_pixel, target_pixel)
    if factor > FACTOR:
        return (
            f"The source has {source_pixel:g} nm pixels, the target {target_pixel:g} nm: a factor "
            f"of {factor:.2g}. Check both numbers; if they are right, training resamples both to "
            f"{coarser:g} nm."
        )
    return ""


def _unknown(volume: str, axes: Sequence[str]) -> str:
    """Which part of a voxel size is unknown."""
    if list(axes) == ["z"]:
        return f"the distance of the sections of {volume} (z)"
    along = f" along {axes[0]}" if len(axes) == 1 else ""
    return f"the voxel size of {volume}{along}"


def mask_remark(masks: Mapping[str, str]) -> str:
    """A remark on masks that were chosen where an image is needed; empty if there are none.

    Args:
        masks: names of the layers, by what they were chosen as (source or target).
    """
    return " ".join(
        f"'{name}' is a mask, not an image: choose it under source labels, and the image itself as "
        f"{domain}."
        for domain, name in masks.items()
    )


def misplacement(image: Layer | None, labels: Layer | None) -> str:
    """Why labels cannot be brought onto the voxels of their image; empty if they can."""
    try:
        if image is not None and labels is not None:
            labels_on(image, labels)
    except DataError as error:
        return str(error)
    return ""


def placement_remark(image: Layer | None, labels: Layer | None) -> str:
    """A remark on labels that lie on other voxels than their image; empty if they do not."""
    if image is None or labels is None or misplacement(image, labels):
        return ""
    moved = labels_on(image, labels)
    if moved is None:
        return ""
    text = f"'{labels.name}' lies on other voxels than '{image.name}' and is resampled to them"
    if moved.covered != Box.whole(moved.shape):
        text += "; what it does not cover counts as not labelled"
    return f"{text}."


def what_is_needed(
    missing: Sequence[str], wrong: str, *, asks: bool, one_image: bool, unlabelled: bool
) -> str:
    """What the user has to do before a project can be created, and advice where users get stuck.

    Args:
        missing: the layers that have to be chosen.
        wrong: what `sizes_needed` and `misplacement` say.
        asks: whether a question about the labels is open.
        one_image: whether there is a single image, so that source and target cannot be two.
        unlabelled: whether neither a source nor labels were chosen.
    """
    sentences = []
    if missing:
        sentences.append(f"Still needed: {', '.join(missing)}.")
        layers = [what for what in missing if what != MODEL]
        them = "it" if len(missing) == 1 else "the layer" if len(layers) == 1 else "them"
        if len(layers) < len(missing):
            sentences.append("Choose the model in its list, or its file by the button beside it.")
        if layers:
            sentences.append(f"Open {them} in napari, or try File > Open Sample.")
    elif asks:
        sentences.append("Still needed: an answer to the question about the labels.")
    if wrong and not missing:
        sentences.append(wrong)
    if list(missing) == ["a target image"] and one_image:
        sentences.append(ONE_VOLUME)
    if "labels of the source" in missing:
        sentences.append(MASK_AS_IMAGE)
    if unlabelled:
        sentences.append(WITHOUT_LABELS)
    return " ".join(sentences)
