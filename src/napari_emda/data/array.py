"""Protocols of arrays, in memory or on disk."""

from __future__ import annotations

from typing import Any, Protocol


class Array(Protocol):
    """Anything with shape, dtype and slicing: NumPy, memmap, zarr, dask."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the entries."""
        ...

    def __getitem__(self, key: Any, /) -> Any: ...


class WritableArray(Array, Protocol):
    """An array whose boxes can be written: NumPy, memmap, zarr."""

    def __setitem__(self, key: Any, value: Any, /) -> None: ...
