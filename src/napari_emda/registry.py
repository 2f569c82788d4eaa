"""Classes by name: methods, strategies, networks. A decorator registers, entry points extend."""

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


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The closest choice as ``Did you mean 'x'?``, or the list of all."""
    names = sorted(choices)
    # Names in the program have underscores; on the command line people write hyphens.
    close = difflib.get_close_matches(name.replace("-", "_").lower(), names, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Choose one of: {', '.join(names)}."


T = TypeVar("T", bound=type[Any])


class Registry(Generic[T]):
    """Maps names to classes.

    Args:
        kind: what is registered, for error messages (``"method"``).
        package: whose modules register their classes when they are imported.
        group: entry points by which other packages add classes.
        base: class from which all of them derive.
    """

    def __init__(self, kind: str, package: str, group: str, base: type = object) -> None:
        self._kind = kind
        self._package = package
        self._group = group
        self._base = base
        self._entries: dict[str, T] = {}
        self._unlisted: set[str] = set()
        self._complete = False

    def register(self, name: str, *, listed: bool = True) -> Callable[[T], T]:
        """Register a class: ``@methods.register("ynet")``.

        Args:
            name: of the class.
            listed: whether users may choose it; files may name it in any case.

        Raises:
            SettingsError: the name is taken, or the class cannot be used.
        """

        def add(entry: T) -> T:
            registered = self._entries.get(name, entry)
            # A module that is reloaded registers its class again: same place, another object.
            same_place = (registered.__module__, registered.__qualname__) == (
                entry.__module__,
                entry.__qualname__,
            )
            if not same_place:
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
                    f"The {self._kind} '{name}' cannot be used: write a class that derives from "
                    f"{self._base.__name__} and has all its methods."
                )
            self._entries[name] = entry
            if not listed:
                self._unlisted.add(name)
            entry.name = name
            return entry

        return add

    def _load(self) -> None:
        # On first use and not at import: methods import the registry that lists them.
        if self._complete:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
        for entry in entry_points(group=self._group):
            try:
                entry.load()
            # A broken package must not take the other methods along; SystemExit is no Exception.
            except (Exception, SystemExit) as error:  # noqa: BLE001
                warnings.warn(
                    f"The {self._kind} '{entry.name}' of {entry.value} cannot be loaded: {error}",
                    stacklevel=2,
                )
        self._complete = True

    def names(self) -> list[str]:
        """All names from which users may choose, sorted."""
        self._load()
        return sorted(self._entries.keys() - self._unlisted)

    def __getitem__(self, name: str) -> T:
        """The class of that name.

        Raises:
            SettingsError: there is none; names the closest one.
        """
        self._load()
        if name not in self._entries:
            raise SettingsError(
                f"There is no {self._kind} '{name}'. {did_you_mean(name, self.names())}"
            )
        return self._entries[name]
