"""What the names of the files in a folder say about them: order, gaps, masks, several series."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import gcd
from pathlib import Path

from napari_emda.errors import DataError, listed

# What programs and people add to the name of an image to name its labels, and the images of
# Cellpose that are none ("flows", "outlines"). Words, not endings: "mask_001" is as common as
# "001_mask".
_LABEL_WORDS = re.compile(
    "masks?|labels?|label+ed|segs?|segmentations?|segmented|gt|groundtruth|truth|annotations?|"
    "annotated|objects|flows|outlines|overlay|predictions?|probabilities"
)
# Words that name the image where both have one: "001_image" and "001_mask". "cp" is Cellpose, and
# "ground" and "simple" belong to "ground truth" and to ilastik's "Simple Segmentation".
_OTHER_WORDS = re.compile("images?|img|im|raw|em|cp|ground|simple|output")

# Of more gaps than sections, ten for one, the numbers are no counters but times or positions.
_MOST_GAPS = 10

# Numbers or names that a message lists, before "and 7 more".
_LISTED = 5

# What file systems, Windows and macOS leave in folders. Nobody needs to read of them.
_SYSTEM_FILES = frozenset(("thumbs.db", "desktop.ini", "icon\r", "__macosx"))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by their value: s2.png before s10.png."""
    # Every part is an (int, str) pair, because Python does not compare numbers with strings. -1
    # sorts text before numbers.
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def is_junk(name: str) -> bool:
    """Whether a system has made a file: hidden, or the thumbnails of Windows."""
    # Hidden files include the "._name.png" that macOS leaves on foreign disks.
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def check_each_once(folder: str, names: Sequence[str]) -> None:
    """Check that no section is there twice, and that no masks lie among the images.

    Args:
        folder: name of the folder, for the messages.
        names: of the files.

    Raises:
        DataError: images with masks, or two files of one name.
    """
    masks = masks_beside_images(names)
    if masks:
        raise DataError(
            f"The folder {folder} holds {len(names) - len(masks)} images and {len(masks)} masks or "
            f"labels of them (such as {masks[0]}): move those to a folder of their own."
        )
    first_of: dict[object, str] = {}
    twice = []
    for name in names:
        # "s1 (1)", "s1 - Copy" and "s1 copy 2" are copies that a system has made.
        stem = re.sub(r"( \(\d+\)|( -)? copy( \(?\d+\)?)?)$", "", Path(name).stem.lower())
        # "s1" and "s01" are the same number.
        first = first_of.setdefault(tuple(natural(stem)), name)
        if first != name:
            twice.append((first, name))
    if twice:
        every = "every section" if 2 * len(twice) == len(names) else f"{len(twice)} sections"
        raise DataError(
            f"The folder {folder} holds {every} twice (such as {listed(twice[0])}): move one of "
            "the two to another folder."
        )


def masks_beside_images(names: Sequence[str]) -> list[str]:
    """The files that are masks or labels of other files in the list, by their names."""
    words_of = {name: _words(name) for name in names}
    masks = [name for name in names if any(map(_LABEL_WORDS.fullmatch, words_of[name]))]
    # What is left of "001_mask" and of "image_001" is the same, and so they belong together.
    images = {_subject(words_of[name]) for name in set(names).difference(masks)}
    return [name for name in masks if _subject(words_of[name]) in images]


def _subject(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a name that say neither image nor mask."""
    return tuple(
        word
        for word in words
        if not _LABEL_WORDS.fullmatch(word) and not _OTHER_WORDS.fullmatch(word)
    )


def _words(name: str) -> list[str]:
    """Words and numbers in a name, without the ending: "IM01_Mask.tif" is im, 1, mask."""
    parts = re.findall(r"\d+|[^\W\d_]+", Path(name).stem.lower())
    return [str(int(part)) if part.isdecimal() else part for part in parts]


def several_series(folder: str, names: Sequence[str]) -> str:
    """Why the names are not those of one series of sections; empty if they may be.

    Tiles, channels and time points need two numbers, or a word and a number, to be told apart.
    """
    numbers = [_numbers(name) for name in names]
    texts = Counter(map(_without_numbers, names))
    remedy = "put each series in a folder of its own"
    if len(set(numbers)) < len(names) and len(texts) > 1 and min(texts.values()) > 1:
        kinds = [f"{text} ({count} files)" for text, count in texts.most_common(_LISTED)]
        return (
            f"The folder {folder} holds {len(texts)} series of files ({listed(kinds)}), not one "
            f"stack of sections: {remedy}."
        )
    columns = _columns(numbers)
    varying = [column for column in columns if len(set(column)) > 1]
    if len(varying) > 1 and all(len(set(column)) < len(names) for column in varying):
        ordered = sorted(names, key=natural)
        return (
            f"The folder {folder} holds {len(names)} files with two numbers each ({ordered[0]} to "
            f"{ordered[-1]}), as tiles, channels or time points have, not sections: stitch the "
            f"tiles, or {remedy}."
        )
    return ""


def unlike_the_others(folder: str, names: Sequence[str]) -> str:
    """Which files may be no sections, such as an overview, as a sentence; empty if none is."""
    texts = Counter(map(_without_numbers, names))
    ((common, count),) = texts.most_common(1)
    others = [name for name in names if _without_numbers(name) != common]
    # Of names that are mostly different, none is odd.
    if not others or count <= len(names) / 2:
        return ""
    if len(others) == 1:
        are, move = "is", "move it to another folder if it is no section"
    else:
        are, move = "are", "move them to another folder if they are no sections"
    return (
        f"In the folder {folder}, {_some(others)} {are} read like the other {count} files, though "
        f"named in another way: {move}."
    )


def gaps(folder: str, names: Sequence[str]) -> str:
    """Which numbers are missing in the names, as a sentence; empty if none is."""
    best: tuple[int, list[int], list[int]] | None = None
    for column in _columns([_numbers(name) for name in names]):
        # A number of its own for each section: others are dates, or the same in all names.
        if len(set(column)) < len(names) or len(names) < 3:
            continue
        values = sorted(column)
        # Every tenth section is no gap.
        step = gcd(*(after - before for before, after in pairwise(values)))
        count = (values[-1] - values[0]) // step + 1 - len(values)
        if count > _MOST_GAPS * len(values):
            continue
        missing = sorted(set(range(values[0], values[-1], step)) - set(values))
        if best is None or len(missing) < best[0]:
            best = (len(missing), missing, values)
    if best is None or not best[0]:
        return ""
    count, missing, values = best
    are = "is" if count == 1 else "are"
    return (
        f"The folder {folder} holds {len(names)} sections numbered {values[0]} to {values[-1]}, "
        f"and {count} {are} missing ({in_ranges(missing)}): the sections before and after a gap "
        "are taken for neighbours, so put the missing ones back if you have them."
    )


def passed_over(folder: str, names: Iterable[str]) -> str:
    """Which files of a folder are not read, as a sentence; empty if only junk is not."""
    others = sorted((name for name in names if not is_junk(name)), key=natural)
    if not others:
        return ""
    are = "is" if len(others) == 1 else "are"
    return f"In the folder {folder}, {_some(others)} {are} not read."


def _some(names: Sequence[str]) -> str:
    """Names in a row, of which a message shows the first ones."""
    if len(names) > _LISTED:
        return listed([*names[: _LISTED - 1], f"{len(names) - _LISTED + 1} more"])
    return listed(names)


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "#", Path(name).stem.lower())


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", Path(name).stem))


def _columns(numbers: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The first numbers of all names, the second ones, ...; none if they differ in how many."""
    if len({len(row) for row in numbers}) != 1:
        return []
    return list(zip(*numbers, strict=True))


def in_ranges(values: Sequence[int]) -> str:
    """Numbers as "3, 5 to 7 and 9"."""
    # Numbers that follow each other keep their distance to their position.
    step = min((after - before for before, after in pairwise(values)), default=1)
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + step:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [
        f"{run[0]} to {run[-1]}" if len(run) > 2 else listed([str(value) for value in run])
        for run in runs
    ]
    if len(texts) > _LISTED:
        texts[_LISTED - 1 :] = ["more"]
    return listed(texts)
