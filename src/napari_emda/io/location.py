"""Where an image is: a file, an image in it, and a channel or time of that image.

    stack.tif
    sample.h5:/volumes/raw
    stack.tif?channel=1&time=0
    https://example.org/stack.zarr

A project stores these texts in place of a path. A file that has such a name itself is that file.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_emda.errors import DataError

# Addresses on the web and in the stores of clouds. Two letters at least, because one is a drive of
# Windows, and no dot, which belongs to a file with a path in it. A Path has joined the slashes.
_ADDRESS = re.compile(r"([a-z][a-z0-9+-]+):[/\\]+(.+)", re.IGNORECASE)
_CHOICE = re.compile(r"\?((?:[a-z]\w*=\d{1,9}&?)+)$", re.IGNORECASE)

# What users write for the axes that files call by one letter.
AXES = {"channel": "c", "time": "t"}
_WORDS = {letter: word for word, letter in AXES.items()}
# Images along axes that are named to those who may open all of them.
_MOST = 16


@dataclass(frozen=True)
class Part:
    """Which of the images in a file is meant.

    Attributes:
        inside: path of the image in the file, without a slash in front; empty if nothing is said.
        at: position along the axes that a volume does not have, by the name of the axis in lower
            case; channels are ``c``, times ``t``. The first one has the number 0.
    """

    inside: str = ""
    at: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inside or self.at)

    def __str__(self) -> str:
        choice = "&".join(f"{axis_word(axis)}={number}" for axis, number in self.at.items())
        return (f":/{self.inside}" if self.inside else "") + (f"?{choice}" if choice else "")

    def only(self, *names: str, file: str) -> None:
        """Check that nothing is chosen but along the axes of these names.

        Raises:
            DataError: there is no such axis in the file.
        """
        for axis in self.at:
            if axis not in names:
                choices = ", ".join(f"?{axis_word(name)}=0" for name in names)
                raise DataError(
                    f"{file} has no '{axis_word(axis)}' to choose: "
                    f"{f'use {choices}' if choices else 'leave it out'}."
                )


WHOLE = Part()


class SeveralImages(DataError):
    """A file or array holds several images, and none of them was chosen.

    Attributes:
        parts: the images, or the first of many.
        axes: length of the axes along which a position has to be chosen, by their names; empty
            where one of ``parts`` is meant.
        shape: of the array that has these axes.
        titles: what the file calls ``parts``; without names of its own, how they are chosen.
    """

    def __init__(
        self,
        text: str,
        parts: Sequence[Part],
        axes: Mapping[str, int] | None = None,
        shape: Sequence[int] = (),
        titles: Sequence[str] = (),
    ) -> None:
        super().__init__(text)
        self.parts = tuple(parts)
        self.titles = tuple(titles) or tuple(str(part).lstrip(":/?") for part in parts)
        self.axes = dict(axes or {})
        self.shape = tuple(shape)

    @classmethod
    def along(
        cls, text: str, part: Part, axes: Mapping[str, int], shape: Sequence[int]
    ) -> SeveralImages:
        """Those at all positions along some axes, besides what is chosen already."""
        positions = itertools.product(*(range(length) for length in axes.values()))
        parts = [
            Part(part.inside, {**part.at, **dict(zip(axes, position, strict=True))})
            for position in itertools.islice(positions, _MOST)
        ]
        return cls(text, parts, axes, shape)

    @property
    def count(self) -> int:
        """Number of images."""
        return math.prod(self.axes.values()) if self.axes else len(self.parts)


@dataclass(frozen=True)
class Location:
    """A file or folder, and the part of it that is meant.

    Attributes:
        file: on a disk; of an address, only its name means something.
        part: of the file.
        address: if the image is not on a disk, such as ``https://example.org/stack.zarr``.
    """

    file: Path
    part: Part = WHOLE
    address: str = ""

    def is_same_as(self, other: Location) -> bool:
        """Whether both are the same image; links make no difference."""
        if self.part != other.part or self.address != other.address:
            return False
        return bool(self.address) or self.file.samefile(other.file)


def axis_word(axis: str) -> str:
    """The word by which an axis is chosen.

    >>> axis_word("c"), axis_word("axis0")
    ('channel', 'axis0')
    """
    return _WORDS.get(axis, axis)


def address_of(path: Path | str) -> str:
    """The address that a path is, with both slashes; empty for what is on a disk."""
    found = _ADDRESS.match(str(path))
    if found is None:
        return ""
    rest = found[2].replace("\\", "/")
    return f"{found[1].lower()}://{rest}"


def chosen_scene(part: Part, count: int, name: str) -> int:
    """Which of the images of a file is meant, by its number; the first one if none is chosen.

    Raises:
        DataError: the file, of this name, has fewer.
    """
    scene = part.at.get("scene", 0)
    if scene >= count:
        raise DataError(
            f"{name} has the scenes 0 to {count - 1}, and {scene} is none of them: choose another "
            "one."
        )
    return scene


def located(path: Path) -> Location:
    """Tell the file from what stands behind its name.

    Args:
        path: of a file or folder, perhaps with ``:/PATH`` and ``?channel=1``.

    Returns:
        The whole path as the file if there is none, for the message that it does not exist.

    Raises:
        DataError: one axis is chosen twice.
    """
    if path.exists():
        return Location(path)
    text = str(path)
    if address := address_of(path):
        text = address
    at: dict[str, int] = {}
    if choice := _CHOICE.search(text):
        text = text[: choice.start()]
        for entry in choice[1].strip("&").split("&"):
            word, _, number = entry.lower().partition("=")
            axis = AXES.get(word, word)
            if axis in at:
                raise DataError(
                    f"'{path.name}' chooses '{axis_word(axis)}' twice: leave one of them out."
                )
            at[axis] = int(number)
    if address:
        return Location(Path(text), Part(at=at), text)
    if Path(text).exists():
        return Location(Path(text), Part(at=at))
    # From the right, because a drive of Windows and folders have colons, too.
    end = text.rfind(":")
    while end > 0:
        if Path(text[:end]).is_file():
            # On Windows, a Path has turned the slashes.
            inside = text[end + 1 :].replace("\\", "/").strip("/")
            return Location(Path(text[:end]), Part(inside, at))
        end = text.rfind(":", 0, end)
    return Location(path)
