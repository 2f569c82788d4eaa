"""Chunks that unfold to more than they should: a few KB can hold many GB of zeros."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import Blosc, GZip, Zstd

# Compression makes what it cannot compress longer, by far less than this.
_OVERHEAD = 2**16

# The beginning of a Zstandard frame (RFC 8878, section 3.1.1).
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Bytes of its field Frame_Content_Size and of Dictionary_ID, by the bits that say so.
_SIZE_BYTES = (0, 2, 4, 8)
_DICTIONARY_BYTES = (0, 1, 2, 4)
# A gzip stream (RFC 1952), as zlib's parameter ``wbits`` says it.
_GZIP = 16 + zlib.MAX_WBITS


def read_chunk(path: Path, expected: int) -> bytes:
    """Read a file that unfolds to ``expected`` bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than what it should unfold to.
    """
    with path.open("rb") as file:
        check_packed_size(os.fstat(file.fileno()).st_size, expected)
        return file.read()


def check_packed_size(size: int, expected: int) -> None:
    """ValueError if a chunk of a size in bytes is larger than what it should unfold to."""
    if size > 2 * expected + _OVERHEAD:
        raise ValueError(f"a chunk of {size} bytes should hold {expected}")


def unfolded(encoded: bytes, codec: Any, expected: int) -> Any:
    """Decode a chunk of the size that its array says; no more is ever unfolded.

    Args:
        encoded: content of the chunk's file.
        codec: of numcodecs.
        expected: bytes.

    Returns:
        That many bytes, as a buffer.

    Raises:
        ValueError: it has another size.
        RuntimeError: it is damaged.
    """
    if isinstance(codec, Zstd) and _zstd_size(encoded) is None:
        # Programs that compress a stream state no size. The codec fails unless the content fills
        # the buffer; without one, it would unfold whatever there is.
        return codec.decode(encoded, np.empty(expected, np.uint8))
    _check_size(encoded, codec, expected)
    return codec.decode(encoded)


def _check_size(encoded: bytes, codec: Any, expected: int) -> None:
    """ValueError if a chunk has another size, found before it is unfolded."""
    size: int | None = None
    if isinstance(codec, Zstd):
        size = _zstd_size(encoded)
    elif isinstance(codec, Blosc) and len(encoded) >= 8:
        # Blosc's header: the size of the content, in bytes 4 to 8.
        size = int.from_bytes(encoded[4:8], "little")
    elif isinstance(codec, GZip):
        # gzip states its size modulo 4 GiB only, and of its last part: unfolded here, bounded.
        unfolder = zlib.decompressobj(_GZIP)
        size = len(unfolder.decompress(encoded, expected + 1))
        if not unfolder.eof or unfolder.unused_data:
            raise ValueError(f"a chunk holds more than {expected} bytes")
    if size is not None and size != expected:
        raise ValueError(f"a chunk holds {size} bytes instead of {expected}")


def _zstd_size(encoded: bytes) -> int | None:
    """The size that a Zstandard frame states; None if it states none."""
    if encoded[:4] != _ZSTD_MAGIC or len(encoded) < 5:
        return None
    descriptor = encoded[4]
    single_segment = bool(descriptor & 0b100000)
    length = _SIZE_BYTES[descriptor >> 6] or int(single_segment)
    if not length:
        return None
    start = 5 + (not single_segment) + _DICTIONARY_BYTES[descriptor & 0b11]
    size = int.from_bytes(encoded[start : start + length], "little")
    # Two bytes count from 256, because smaller sizes fit into one.
    return size + 256 if length == 2 else size
