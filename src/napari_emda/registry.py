"""Names for methods and strategies: a decorator fills a registry, entry points extend it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from napari_emda.errors import SettingsError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The closest known name as ``Did you mean 'x'?``, else the list of all."""
    names = sorted(known)
    close = difflib.get_close_matches(name.replace("-", "_").lower(), names, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Known are: {', '.join(names)}."


T = TypeVar("T", bound=type[Any])


class Registry(Generic[T]):
    """Maps names to classes.

    Args:
        kind: what is registered, as said in error messages (``"method"``).
        package: the package whose modules register themselves when imported.
        group: the entry-point group through which other packages add theirs.
        base: the class that all of them derive from.
    """

    def __init__(self, kind: str, package: str, group: str, base: type = object) -> None:
        self._kind, self._package, self._group, self._base = kind, package, group, base
        self._entries: dict[str, T] = {}
        self._complete = False

    def register(self, name: str) -> Callable[[T], T]:
        """A class decorator: ``@methods.register("ynet")``.

        Raises:
            SettingsError: the name is taken, or the class is none that can be used.
        """

        def add(entry: T) -> T:
            known = self._entries.get(name, entry)
            if (known.__module__, known.__qualname__) != (entry.__module__, entry.__qualname__):
                raise SettingsError(
                    f"Another {self._kind} is called '{name}' already: rename one of them."
                )
            usable = (
                isinstance(entry, type)
                and issubclass(entry, self._base)
                and not inspect.isabstract(entry)
            )
            if not usable:
                raise SettingsError(
                    f"The {self._kind} '{name}' is not a class that derives from {self._base.__name__} and has all its "
                    "methods: write one."
                )
            self._entries[name] = entry
            entry.name = name
            return entry

        return add

    def _load(self) -> None:
        if self._complete:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
        for entry in entry_points(group=self._group):
            try:
                entry.load()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - another package's fault must not take ours along
                warnings.warn(
                    f"The {self._kind} '{entry.name}' of {entry.value} cannot be loaded: {error}",
                    stacklevel=2,
                )
        self._complete = True

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._entries)

    def __getitem__(self, name: str) -> T:
        """The class of that name; SettingsError with the closest name when there is none."""
        self._load()
        if name not in self._entries:
            raise SettingsError(
                f"There is no {self._kind} '{name}'. {did_you_mean(name, self._entries)}"
            )
        return self._entries[name]
