"""The network that the dock trains: one of several, each with its own form and profiles."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from napari_emda._gui.process import catalogue
from napari_emda._gui.train.network_form import NetworkForm
from tests.gui.fake import CATALOGUE


def size(name, default):
    entry = {"default": default, "minimum": 1, "maximum": 64, "type": "integer"}
    return {"properties": {name: {**entry, "description": "A size."}}}


@pytest.fixture
def form(session, qtbot):
    """A form of two networks."""
    networks = {
        "unet": catalogue.Choice(
            "unet", schema=size("base_channels", 16), profiles={"test": {"base_channels": 8}}
        ),
        "deep": catalogue.Choice("deep", schema=size("layers", 50), profiles={}),
    }
    new_form = NetworkForm(session)
    qtbot.addWidget(new_form)
    session.set_catalogue(replace(catalogue.parse(json.dumps(CATALOGUE)), networks=networks))
    return new_form


def test_before_the_list_is_read_the_network_is_the_default(session, qtbot):
    form = NetworkForm(session)
    qtbot.addWidget(form)
    assert (form.name, form.values()) == ("unet", {})


def test_the_form_is_that_of_the_chosen_network(form):
    assert (form.name, form.values()) == ("unet", {"base_channels": 16})
    form.box.setCurrentText("deep")
    assert (form.name, form.values()) == ("deep", {"layers": 50})
    hidden = [name for name, other in form.forms.items() if other.native.isHidden()]
    assert hidden == ["unet"]


def test_a_profile_sets_every_network_as_it_says(form):
    form.box.setCurrentText("deep")
    form.form.set_values({"layers": 7})
    form.set_profile("test")
    assert form.values() == {"layers": 50}
    form.box.setCurrentText("unet")
    assert form.values() == {"base_channels": 8}
    form.set_profile("fast")
    assert form.values() == {"base_channels": 16}


def test_the_network_of_another_run_cannot_be_changed_until_a_new_one_is_wanted(form):
    form.fix("deep", {"layers": 12})
    assert (form.name, form.values()) == ("deep", {"layers": 12})
    assert not form.box.isEnabled()
    assert not form.form["layers"].enabled
    form.set_profile("test")
    assert form.box.isEnabled()
    assert (form.name, form.values()) == ("deep", {"layers": 50})
    assert form.form["layers"].enabled
