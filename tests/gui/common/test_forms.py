"""A form returns what it was given; it never changes a setting by itself."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from napari_emda._gui.common.forms import Field, SettingsForm, fields, make_widget
from napari_emda.errors import SettingsError
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import PROFILES, TrainSettings

MODELS = (TrainSettings, PredictSettings, QuerySettings)


@pytest.fixture(scope="module")
def schemas():
    done = subprocess.run(
        [sys.executable, "-m", "napari_emda", "methods", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    values = json.loads(done.stdout.splitlines()[-1])
    return [
        entry["schema"] for kind in ("methods", "strategies", "networks") for entry in values[kind]
    ]


@pytest.mark.parametrize("model", MODELS)
def test_a_form_returns_the_defaults_unchanged(qapp, model):
    values = SettingsForm(model.model_json_schema()).values()
    assert values == model().model_dump()
    assert model.parse(values) == model()


def test_the_forms_of_all_methods_and_strategies_return_the_defaults_unchanged(qapp, schemas):
    assert len(schemas) >= 6
    for schema in schemas:
        form = SettingsForm(schema)
        assert form.values() == {
            name: entry["default"] for name, entry in schema["properties"].items()
        }
        assert form.changed_values() == {}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_goes_through_the_form_unchanged(qapp, profile):
    wanted = TrainSettings.for_profile(profile)
    form = SettingsForm(TrainSettings.model_json_schema())
    form.set_values(wanted.model_dump())
    assert TrainSettings.parse(form.values()) == wanted


def test_a_unit_stands_beside_the_name(qapp):
    form = SettingsForm(QuerySettings.model_json_schema())
    assert [form[name].label for name in ("count", "patch")] == ["count", "patch (pixels)"]


@pytest.mark.parametrize("model", MODELS)
def test_every_field_has_a_tooltip_and_every_number_limits(qapp, model):
    for field in fields(model.model_json_schema()):
        widget = make_widget(field)
        assert widget.tooltip.startswith(field.description) and field.description
        assert f"--set {field.name}=" in widget.tooltip
        if field.kind in (int, float) and not field.choices:
            assert (widget.min, widget.max) == (field.minimum, field.maximum)


@given(
    default=st.floats(1e-6, 1e3).map(lambda value: float(f"{value:.3g}")),
    step=st.sampled_from([1e-4, 0.01, 0.5]),
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_small_numbers_survive(qapp, default, step):
    field = Field("rate", float, default, minimum=0.0, maximum=1e3, step=step)
    assert make_widget(field).value == pytest.approx(default, rel=1e-9)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"type": "array", "default": []}, "plain type"),
        ({"type": "integer", "default": 3}, "no limits"),
        ({"anyOf": [], "default": 1}, "plain type"),
        ({"type": "string"}, "default"),
    ],
)
def test_settings_that_a_form_cannot_show_are_refused(entry, words):
    with pytest.raises(SettingsError, match=words):
        fields({"properties": {"thing": entry}})


def test_steps_and_whole_numbers_beyond_999(qapp):
    form = SettingsForm(TrainSettings.model_json_schema())
    form.set_values({"steps": 250_000, "learning_rate": 3e-4, "unknown": 1})
    assert form.values()["steps"] == 250_000
    assert form.values()["learning_rate"] == 3e-4
    assert set(form.changed_values()) == {"steps", "learning_rate"}
    form.reset(["steps"])
    assert set(form.changed_values()) == {"learning_rate"}


# Words of machine learning that no label may hold; tooltips explain them in brackets.
JARGON = (
    "adversarial|alignment|batch|channel|checkpoint|confidence|consistency|critic rate|decay|"
    "embedding|encoder|epoch|learning rate|loss|momentum|normalisation|optimi|overcluster|prior|"
    "pseudo|regulari|seed$|statistics|validation"
)


def test_labels_of_advanced_settings_are_words_that_a_biologist_reads(schemas):
    models = (TrainSettings, QuerySettings, PredictSettings)
    for schema in [*(model.model_json_schema() for model in models), *schemas]:
        labels = [field.label for field in fields(schema)]
        assert len(set(labels)) == len(labels)
        for label in labels:
            assert label == "random seed" or not re.search(JARGON, label), label
            assert len(label) <= 34, label


def test_lengths_and_amounts_carry_their_unit():
    shown = {
        field.name: field.label
        for model in (TrainSettings, PredictSettings)
        for field in fields(model.model_json_schema())
    }
    assert [shown[name] for name in ("patch", "pixel_size", "memory")] == [
        "side of a patch (pixels)",
        "pixel size (nm)",
        "memory for a block (GiB)",
    ]
