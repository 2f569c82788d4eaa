"""Names, and what is said when one is misspelt."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from napari_emda import registry
from napari_emda.errors import DataError, EmdaError, JobError, SettingsError
from napari_emda.registry import Registry, did_you_mean


@pytest.fixture
def shapes(monkeypatch):
    """A registry over an empty package, without entry points."""
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    return Registry("shape", "importlib.resources", "nobody.shapes")


def test_what_is_registered_is_found_and_knows_its_name(shapes):
    @shapes.register("square")
    class Square:
        pass

    shapes.register("disc")(type("Disc", (), {}))
    assert shapes["square"] is Square
    assert Square.name == "square"
    assert shapes.names() == ["disc", "square"]


def test_two_things_of_one_name_are_refused_but_a_reload_is_not(shapes):
    shapes.register("a")(type("A", (), {}))
    shapes.register("a")(type("A", (), {}))
    with pytest.raises(SettingsError, match="Another shape is called 'a' already: rename one"):
        shapes.register("a")(type("B", (), {}))


@pytest.mark.parametrize("name", ["squar", "SQUARE", "squares"])
def test_a_misspelt_name_gets_the_closest_one(shapes, name):
    shapes.register("square")(type("Square", (), {}))
    shapes.register("disc")(type("Disc", (), {}))
    with pytest.raises(
        SettingsError, match=rf"There is no shape '{name}'\. Did you mean 'square'\?"
    ):
        shapes[name]


def test_a_strange_name_gets_all_of_them(shapes):
    shapes.register("square")(type("Square", (), {}))
    shapes.register("disc")(type("Disc", (), {}))
    with pytest.raises(SettingsError, match=r"Known are: disc, square\."):
        shapes["xyz"]


def test_a_hyphen_is_as_good_as_an_underscore():
    assert did_you_mean("source-only", ["source_only", "ynet"]) == "Did you mean 'source_only'?"


def test_another_package_cannot_take_a_name_with_a_class_that_is_called_alike(shapes):
    shapes.register("a")(type("A", (), {"__module__": "ours"}))
    with pytest.raises(SettingsError, match="rename one"):
        shapes.register("a")(type("A", (), {"__module__": "theirs"}))
    assert shapes["a"].__module__ == "ours"


def fails(*_):
    raise SystemExit(3)


def alien(others):
    others.register("alien")(type("Alien", (), {}))


def function(others):
    others.register("function")(len)


def unfinished(others):
    others.register("unfinished")(type("Unfinished", (Figure,), {}))


class Figure(ABC):
    """What all of a registry derive from."""

    @abstractmethod
    def area(self):
        """To be written."""


@pytest.mark.parametrize("broken", [fails, alien, function, unfinished])
def test_what_is_broken_is_told_and_takes_nothing_else_along(broken, monkeypatch):
    class Entry:
        name, value = "broken", "theirs"

        def __init__(self, load):
            self._load = load

        def load(self):
            self._load(others)

    def sound(others):
        others.register("disc")(type("Disc", (Figure,), {"area": lambda self: 3}))

    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry(broken), Entry(sound)])
    others = Registry("shape", "importlib.resources", "other.shapes", Figure)
    with pytest.warns(UserWarning, match="The shape 'broken' of theirs cannot be loaded"):
        assert others.names() == ["disc"]


def test_other_packages_add_theirs_through_an_entry_point(monkeypatch):
    class Entry:
        def load(self):
            others.register("hexagon")(type("Hexagon", (), {}))

    monkeypatch.setattr(
        registry, "entry_points", lambda group: [Entry()] if group == "other.shapes" else []
    )
    others = Registry("shape", "importlib.resources", "other.shapes")
    assert others.names() == ["hexagon"]


@pytest.mark.parametrize("error", [SettingsError, DataError, JobError])
def test_no_error_of_ours_is_one_that_napari_swallows(error):
    assert issubclass(error, EmdaError)
    assert not issubclass(error, RuntimeError)
