"""One declaration, many readers: JSON, schema, command line and defaults of every settings model agree."""

from __future__ import annotations

import json
import re

import pytest

from napari_emda.active_learning.strategy import strategies
from napari_emda.errors import SettingsError
from napari_emda.methods.base import methods
from napari_emda.nn.network import networks
from napari_emda.settings.base import Settings, distribute, parse_assignments
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import PROFILES, TrainSettings

OWN = {
    f"{kind}-{name}": registry[name].Settings
    for kind, registry in (("method", methods), ("strategy", strategies), ("network", networks))
    for name in registry.names()
}
MODELS = {"train": TrainSettings, "predict": PredictSettings, "query": QuerySettings, **OWN}
FIELDS = [
    pytest.param(model, key, schema, id=f"{name}-{key}")
    for name, model in MODELS.items()
    for key, schema in model.model_json_schema().get("properties", {}).items()
]
NUMBERS = [field for field in FIELDS if field.values[2].get("type") in ("integer", "number")]


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def model(request):
    return request.param


def low(schema):
    return schema.get("minimum", schema.get("exclusiveMinimum"))


def high(schema):
    return schema.get("maximum", schema.get("exclusiveMaximum"))


def refused(model, values, *parts):
    with pytest.raises(SettingsError) as error:
        model.parse(values)
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text
    return text


def test_it_has_a_default_for_everything_and_survives_json(model):
    default = model()
    assert issubclass(model, Settings)
    assert model.model_validate_json(default.model_dump_json()) == default
    assert model.parse(json.loads(default.model_dump_json())) == default


def test_it_is_frozen_and_knows_its_names(model):
    refused(model, {"stepz_of_nobody": 1}, "There is no setting 'stepz_of_nobody'")
    for key in model.model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(model(), key, getattr(model(), key))
        if len(key) > 4 and key[:-1] not in model.model_fields:
            refused(model, {key[:-1]: 1}, "Did you mean")


@pytest.mark.parametrize(("model", "key", "schema"), FIELDS)
def test_every_field_says_what_it_is_and_what_it_starts_with(model, key, schema):
    assert schema["description"].endswith(".")
    assert len(schema["description"]) > 10
    assert "default" in schema


def another(default, schema):
    """A valid value that is not the default."""
    if "enum" in schema:
        return next(value for value in schema["enum"] if value != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return "0:1,:,:"
    middle = type(default)((schema.get("minimum", 0) + high(schema)) / 2)
    middle -= middle % schema["multipleOf"] if "multipleOf" in schema else 0
    return middle if middle != default else high(schema)


@pytest.mark.parametrize(("model", "key", "schema"), FIELDS)
def test_json_and_the_command_line_give_the_value_that_was_meant(model, key, schema):
    value = another(getattr(model(), key), schema)
    meant = model.parse({key: value})
    assert getattr(meant, key) == value != getattr(model(), key)
    assert model.model_validate_json(meant.model_dump_json()) == meant
    for text in {json.dumps(value), value if isinstance(value, str) else json.dumps(value)}:
        (own,) = distribute(parse_assignments([f"{key}={text}"]), model)
        assert model.parse(own) == meant


@pytest.mark.parametrize(("model", "key", "schema"), NUMBERS)
def test_every_number_has_limits_and_they_hold(model, key, schema):
    assert low(schema) is not None
    assert high(schema) is not None
    step = schema.get("multipleOf", 1 if schema["type"] == "integer" else 1e-6)
    for limit, beyond in ((low(schema), low(schema) - step), (high(schema), high(schema) + step)):
        if limit in (schema.get("minimum"), schema.get("maximum")):
            assert getattr(model.parse({key: limit}), key) == limit
        text = refused(model, {key: beyond}, key)
        assert limit in [
            float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)
        ]


@pytest.mark.parametrize(("model", "key", "schema"), NUMBERS)
def test_what_is_no_number_is_refused(model, key, schema):
    for value in (float("nan"), float("inf"), "many", None, [1]):
        refused(model, {key: value}, key)


@pytest.mark.parametrize("name", OWN)
def test_no_field_of_a_method_network_or_strategy_hides_a_shared_one(name):
    shared = QuerySettings if name.startswith("strategy") else TrainSettings
    assert not OWN[name].model_fields.keys() & shared.model_fields.keys()


@pytest.mark.parametrize("network", networks.names())
def test_a_setting_given_on_the_command_line_is_the_methods_or_the_networks_never_both(network):
    of_network = networks[network].Settings.model_fields.keys()
    for method in methods.names():
        assert not methods[method].Settings.model_fields.keys() & of_network, method


@pytest.mark.parametrize("network", networks.names())
@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_network_makes_of_a_profile_is_valid_and_what_is_given_wins(network, profile):
    cls = networks[network]
    assert cls.profiles.keys() <= PROFILES.keys()
    of_profile = cls.profiles.get(profile, {})
    made = cls.settings_for(profile, {})
    assert {key: getattr(made, key) for key in of_profile} == of_profile
    assert cls.settings_for(profile, {"dropout": 0.125}).dropout == 0.125


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_valid_and_what_is_given_wins(profile):
    made = TrainSettings.for_profile(profile)
    assert made.profile == profile
    assert {key: getattr(made, key) for key in PROFILES[profile]} == PROFILES[profile]
    assert TrainSettings.for_profile(profile, steps=3).steps == 3


def test_an_unknown_profile_gets_a_suggestion():
    with pytest.raises(SettingsError, match=r"no profile 'fats'\. Did you mean 'fast'\?"):
        TrainSettings.for_profile("fats")


def test_assignments_are_json_where_they_can_be():
    parsed = parse_assignments(
        ["a=1", "b=1e-3", "c=true", "d=text", 'e="5"', "f=", "g=x=y", "h=0:1,:,:"]
    )
    assert parsed == {
        "a": 1,
        "b": 1e-3,
        "c": True,
        "d": "text",
        "e": "5",
        "f": "",
        "g": "x=y",
        "h": "0:1,:,:",
    }


@pytest.mark.parametrize("text", ["steps", "=5", ""])
def test_what_is_no_assignment_is_refused(text):
    with pytest.raises(SettingsError, match="is not KEY=VALUE: write for example --set steps=500"):
        parse_assignments([text])


def test_settings_go_to_the_models_that_know_them():
    own = methods["ynet"].Settings
    assert distribute({"steps": 5, "reconstruction": 0.2}, own, TrainSettings) == [
        {"reconstruction": 0.2},
        {"steps": 5},
    ]
    with pytest.raises(
        SettingsError, match=r"no setting 'reconstructoin'\. Did you mean 'reconstruction'\?"
    ):
        distribute({"reconstructoin": 0.2}, own, TrainSettings)
