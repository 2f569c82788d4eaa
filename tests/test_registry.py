"""Registries: names, entry points, and what happens to a misspelt name."""

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
    return Registry("shape", "importlib.resources", "no.such.group")


def test_a_registered_class_is_found_and_has_its_name(shapes):
    @shapes.register("square")
    class Square:
        pass

    shapes.register("disc")(type("Disc", (), {}))
    assert shapes["square"] is Square
    assert Square.name == "square"
    assert shapes.names() == ["disc", "square"]


def test_a_second_class_of_one_name_is_refused_but_a_reload_is_not(shapes):
    shapes.register("a")(type("A", (), {}))
    shapes.register("a")(type("A", (), {}))
    with pytest.raises(SettingsError, match="Another shape is called 'a' already: rename one"):
        shapes.register("a")(type("B", (), {}))


@pytest.mark.parametrize("name", ["squar", "SQUARE", "squares"])
def test_a_misspelt_name_suggests_the_closest_one(shapes, name):
    shapes.register("square")(type("Square", (), {}))
    shapes.register("disc")(type("Disc", (), {}))
    with pytest.raises(
        SettingsError, match=rf"There is no shape '{name}'\. Did you mean 'square'\?"
    ):
        shapes[name]


def test_a_name_unlike_all_others_lists_them(shapes):
    shapes.register("square")(type("Square", (), {}))
    shapes.register("disc")(type("Disc", (), {}))
    with pytest.raises(SettingsError, match=r"Choose one of: disc, square\."):
        shapes["xyz"]


def test_a_hyphen_counts_as_an_underscore():
    assert did_you_mean("source-only", ["source_only", "ynet"]) == "Did you mean 'source_only'?"


def test_a_class_of_the_same_name_in_another_package_is_refused(shapes):
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
    """The base class of a registry."""

    @abstractmethod
    def area(self):
        """Every figure has one."""


@pytest.mark.parametrize("broken", [fails, alien, function, unfinished])
def test_a_broken_entry_point_warns_and_the_others_are_loaded(broken, monkeypatch):
    class Entry:
        name = "broken"
        value = "other_package"

        def __init__(self, load):
            self._load = load

        def load(self):
            self._load(others)

    def sound(others):
        others.register("disc")(type("Disc", (Figure,), {"area": lambda self: 3}))

    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry(broken), Entry(sound)])
    others = Registry("shape", "importlib.resources", "other.shapes", Figure)
    with pytest.warns(UserWarning, match="The shape 'broken' of other_package cannot be loaded"):
        assert others.names() == ["disc"]


def test_other_packages_add_classes_by_entry_points(monkeypatch):
    class Entry:
        def load(self):
            others.register("hexagon")(type("Hexagon", (), {}))

    monkeypatch.setattr(
        registry, "entry_points", lambda group: [Entry()] if group == "other.shapes" else []
    )
    others = Registry("shape", "importlib.resources", "other.shapes")
    assert others.names() == ["hexagon"]


@pytest.mark.parametrize("error", [SettingsError, DataError, JobError])
def test_napari_swallows_none_of_our_errors(error):
    assert issubclass(error, EmdaError)
    assert not issubclass(error, RuntimeError)
