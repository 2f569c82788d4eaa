"""Arrays that tensorstore reads: N5 and Neuroglancer's precomputed volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class TensorStoreArray:
    """An array on a disk that is read where it is sliced; it begins at 0 along all axes.

    Args:
        driver: tensorstore's name of the format.
        folder: of the array.
        options: of the driver.

    Raises:
        ValueError: it cannot be opened.
    """

    def __init__(self, driver: str, folder: Path, **options: Any) -> None:
        # Here, because nobody else needs it.
        import tensorstore

        spec = {
            "driver": driver,
            "kvstore": {"driver": "file", "path": f"{folder.absolute()}/"},
            **options,
        }
        opened: Any = tensorstore.open(spec, open=True, read=True).result()
        self._array = opened[tensorstore.d[:].translate_to[0]]
        self.origin = tuple(int(start) for start in opened.domain.inclusive_min)
        self.shape = tuple(int(length) for length in self._array.shape)
        self.dtype = np.dtype(self._array.dtype.numpy_dtype)
        self.chunks = tuple(int(length) for length in self._array.chunk_layout.read_chunk.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._array[key].read().result())
