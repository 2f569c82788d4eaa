"""Read the chunks of an HDF5 dataset without HDF5's own decompression, where that is possible.

HDF5 unpacks a chunk to whatever size it has, and lets one thread of a program work at a time. Here
a chunk unpacks to its size or not at all, and threads wait for each other only while its bytes are
read, for the filters that are used most: gzip, shuffle and a checksum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs import Fletcher32, Shuffle
from numpy.typing import NDArray

from napari_emda.io.chunks import Chunks
from napari_emda.io.unfolding import check_packed_size

if TYPE_CHECKING:
    import h5py

# Numbers of HDF5's filters.
_GZIP = 1
_SHUFFLE = 2
_CHECKSUM = 3
_CHECKSUM_BYTES = 4


class Hdf5Chunks(Chunks):
    """A dataset as an array that is read where it is sliced.

    Args:
        dataset: of an open file.
        dtype: of the same size as the dataset's, as which its values are taken.
    """

    def __init__(self, dataset: h5py.Dataset, dtype: np.dtype[Any]) -> None:
        super().__init__(dataset.shape, dtype, dataset.chunks or ())
        self._dataset = dataset
        properties = dataset.id.get_create_plist()
        self._filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        unpacked_here = {_GZIP, _SHUFFLE, _CHECKSUM}
        # Without compression, HDF5 reads parts of chunks, and there is nothing to unpack.
        self._is_plain = _GZIP in self._filters and set(self._filters) <= unpacked_here

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if not self._is_plain or self._spans(key) is None:
            # HDF5 knows no steps backwards, and no reader asks for them.
            return np.asarray(self._dataset[key]).view(self.dtype)
        return super().__getitem__(key)

    def _read_chunk(self, index: tuple[int, ...]) -> NDArray[Any]:
        start = tuple(i * n for i, n in zip(index, self.chunks, strict=True))
        found = self._dataset.id.get_chunk_info_by_coord(start)
        if found.byte_offset is None:
            # HDF5 stores no chunk to which nothing was written.
            return np.full(self.chunks, self._dataset.fillvalue, self._dataset.dtype).view(
                self.dtype
            )
        expected = math.prod(self.chunks) * self.dtype.itemsize
        check_packed_size(found.size, expected)
        skipped, content = self._dataset.id.read_direct_chunk(start)
        values = self._unpacked(content, expected, skipped)
        return np.frombuffer(values, self._dataset.dtype).view(self.dtype).reshape(self.chunks)

    def _unpacked(
        self, content: bytes | bytearray, expected: int, skipped: int
    ) -> bytes | bytearray:
        """The bytes of a chunk; bits of ``skipped`` say which filters it did not pass."""
        has_checksum = _CHECKSUM in self._filters
        for number, name in reversed(list(enumerate(self._filters))):
            if skipped >> number & 1:
                continue
            if name == _GZIP:
                # It takes a while to load.
                from imagecodecs import deflate_decode

                # It fails if there is more than that, before it is unpacked.
                content = deflate_decode(content, out=expected + _CHECKSUM_BYTES * has_checksum)
            elif name == _CHECKSUM:
                content = Fletcher32().decode(content)
            # Shuffled bytes of one byte each stay where they are.
            elif self.dtype.itemsize > 1:
                content = Shuffle(self.dtype.itemsize).decode(content)
        if len(content) != expected:
            raise ValueError(f"a chunk holds {len(content)} bytes instead of {expected}")
        return content
