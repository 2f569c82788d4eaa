"""An animated picture of a story, small enough for a page."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

# Bytes of an animated picture; a page should not take longer to load than to read.
LIMIT = 2_000_000
# Widths in pixels that are tried, the largest first: below the last one, words cannot be read.
WIDTHS = (960, 880, 800, 720, 640)
# Colours of a frame: greys of the image, and those of classes and buttons.
COLOURS = 96


class Film:
    """Frames of a window, each with the time for which it is seen."""

    def __init__(self) -> None:
        self._frames: list[Image.Image] = []
        self._seconds: list[float] = []

    def add(self, picture: Path, seconds: float) -> None:
        """Add a picture of the window, to be seen for a time."""
        with Image.open(picture) as image:
            self._frames.append(image.convert("RGB"))
        self._seconds.append(seconds)

    def save(self, path: Path) -> None:
        """Write a GIF, as wide as its limit of bytes allows.

        Raises:
            SystemExit: the narrowest one is too large as well.
        """
        for width in WIDTHS:
            data = self._encoded(width)
            if len(data) <= LIMIT:
                path.write_bytes(data)
                print(f"{path.name}: {len(self._frames)} frames, {width} wide, {len(data)} bytes")
                return
        raise SystemExit(f"{path.name} would be larger than {LIMIT} bytes: take fewer frames.")

    def _small(self, frame: Image.Image, width: int) -> Image.Image:
        height = round(width * frame.height / frame.width)
        small = frame.resize((width, height), Image.Resampling.LANCZOS)
        # Without dithering, which would be noise that no frame shares with the one before it.
        return small.quantize(COLOURS, dither=Image.Dither.NONE)

    def _encoded(self, width: int) -> bytes:
        first, *others = (self._small(frame, width) for frame in self._frames)
        data = io.BytesIO()
        first.save(
            data,
            "GIF",
            save_all=True,
            append_images=others,
            duration=[round(1000 * seconds) for seconds in self._seconds],
            loop=0,
            optimize=True,
        )
        return data.getvalue()
