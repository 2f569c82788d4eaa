"""JSON, schema, command line and defaults of every settings model agree."""

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

REGISTERED = {
    f"{kind}-{name}": registry[name].Settings
    for kind, registry in (("method", methods), ("strategy", strategies), ("network", networks))
    for name in registry.names()
}
MODELS = {"train": TrainSettings, "predict": PredictSettings, "query": QuerySettings, **REGISTERED}
FIELDS = [
    pytest.param(model, key, schema, id=f"{name}-{key}")
    for name, model in MODELS.items()
    for key, schema in model.model_json_schema().get("properties", {}).items()
]
NUMBERS = [field for field in FIELDS if field.values[2].get("type") in ("integer", "number")]


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def model(request):
    return request.param


def minimum(schema):
    return schema.get("minimum", schema.get("exclusiveMinimum"))


def maximum(schema):
    return schema.get("maximum", schema.get("exclusiveMaximum"))


def message_of_refusal(model, values, *expected):
    """The message with which values are refused; it contains the expected texts."""
    with pytest.raises(SettingsError) as error:
        model.parse(values)
    message = str(error.value)
    assert "\n" not in message
    for text in expected:
        assert str(text) in message
    return message


def test_all_settings_have_defaults_and_survive_json(model):
    default = model()
    assert issubclass(model, Settings)
    assert model.model_validate_json(default.model_dump_json()) == default
    assert model.parse(json.loads(default.model_dump_json())) == default


def test_settings_are_frozen_and_unknown_names_are_refused(model):
    message_of_refusal(model, {"no_such_setting": 1}, "There is no setting 'no_such_setting'")
    for key in model.model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(model(), key, getattr(model(), key))
        if len(key) > 4 and key[:-1] not in model.model_fields:
            message_of_refusal(model, {key[:-1]: 1}, "Did you mean")


@pytest.mark.parametrize(("model", "key", "schema"), FIELDS)
def test_every_field_has_a_description_and_a_default(model, key, schema):
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
        return schema.get("examples", ["0:1,:,:"])[0]
    middle = type(default)((schema.get("minimum", 0) + maximum(schema)) / 2)
    middle -= middle % schema["multipleOf"] if "multipleOf" in schema else 0
    return middle if middle != default else maximum(schema)


@pytest.mark.parametrize(("model", "key", "schema"), FIELDS)
def test_json_and_the_command_line_set_the_same_value(model, key, schema):
    value = another(getattr(model(), key), schema)
    expected = model.parse({key: value})
    assert getattr(expected, key) == value != getattr(model(), key)
    assert model.model_validate_json(expected.model_dump_json()) == expected
    for text in {json.dumps(value), value if isinstance(value, str) else json.dumps(value)}:
        (values,) = distribute(parse_assignments([f"{key}={text}"]), model)
        assert model.parse(values) == expected


@pytest.mark.parametrize(("model", "key", "schema"), NUMBERS)
def test_every_number_has_limits_that_are_enforced(model, key, schema):
    assert minimum(schema) is not None
    assert maximum(schema) is not None
    step = schema.get("multipleOf", 1 if schema["type"] == "integer" else 1e-6)
    limits = {
        minimum(schema): minimum(schema) - step,
        maximum(schema): maximum(schema) + step,
    }
    for limit, beyond in limits.items():
        if limit in (schema.get("minimum"), schema.get("maximum")):
            assert getattr(model.parse({key: limit}), key) == limit
        message = message_of_refusal(model, {key: beyond}, key)
        numbers = re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", message)
        assert limit in [float(number) for number in numbers]


@pytest.mark.parametrize(("model", "key", "schema"), NUMBERS)
def test_values_that_are_not_finite_numbers_are_refused(model, key, schema):
    for value in (float("nan"), float("inf"), "many", None, [1]):
        message_of_refusal(model, {key: value}, key)


@pytest.mark.parametrize("name", REGISTERED)
def test_no_setting_of_a_method_network_or_strategy_hides_a_shared_one(name):
    shared = QuerySettings if name.startswith("strategy") else TrainSettings
    assert not REGISTERED[name].model_fields.keys() & shared.model_fields.keys()


@pytest.mark.parametrize("network", networks.names())
def test_methods_and_networks_have_no_setting_in_common(network):
    of_network = networks[network].Settings.model_fields.keys()
    for method in methods.names():
        assert not methods[method].Settings.model_fields.keys() & of_network, method


@pytest.mark.parametrize("network", networks.names())
@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_of_networks_are_valid_and_given_values_override_them(network, profile):
    cls = networks[network]
    assert cls.profiles.keys() <= PROFILES.keys()
    of_profile = cls.profiles.get(profile, {})
    settings = cls.settings_for(profile, {})
    assert {key: getattr(settings, key) for key in of_profile} == of_profile
    assert cls.settings_for(profile, {"dropout": 0.125}).dropout == 0.125


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_valid_and_given_values_override_them(profile):
    settings = TrainSettings.for_profile(profile)
    assert settings.profile == profile
    assert {key: getattr(settings, key) for key in PROFILES[profile]} == PROFILES[profile]
    assert TrainSettings.for_profile(profile, steps=3).steps == 3


def test_an_unknown_profile_gets_a_suggestion():
    with pytest.raises(SettingsError, match=r"no profile 'fats'\. Did you mean 'fast'\?"):
        TrainSettings.for_profile("fats")


def test_assignments_are_parsed_as_json_if_possible():
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
def test_texts_that_are_not_assignments_are_refused(text):
    with pytest.raises(SettingsError, match="is not KEY=VALUE: write for example --set steps=500"):
        parse_assignments([text])


def test_values_are_distributed_to_the_models_that_declare_them():
    model = methods["ynet"].Settings
    assert distribute({"steps": 5, "reconstruction": 0.2}, model, TrainSettings) == [
        {"reconstruction": 0.2},
        {"steps": 5},
    ]
    message = r"no setting 'reconstructoin'\. Did you mean 'reconstruction'\?"
    with pytest.raises(SettingsError, match=message):
        distribute({"reconstructoin": 0.2}, model, TrainSettings)
