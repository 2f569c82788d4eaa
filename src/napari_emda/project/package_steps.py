"""Steps before and after a network in bioimage.io descriptions, as `data.processing` has them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from napari_emda.data.names import in_one_line
from napari_emda.data.processing import MEASURED, Step

# Steps that change nothing but the type of numbers; the network gets the type that it takes.
_FLOATS = ("float32", "float64", "float16")
_ALL_AXES = (set("xy"), set("zyx"))
_BATCH = ("batch", "b")
_CHANNEL = ("channel", "c")


def steps_of(values: Any, *, after: bool) -> tuple[Step, ...]:
    """The steps of a description.

    Args:
        values: as YAML has them; None for no steps.
        after: whether they follow the network. Steps that measure the whole image may not.

    Raises:
        ValueError: one of them cannot be carried out here, as the end of a sentence.
    """
    steps: list[Step] = []
    for value in values or ():
        name = value.get("id") or value.get("name")
        kwargs = value.get("kwargs") or {}
        if name == "ensure_dtype":
            if kwargs.get("dtype") not in (*_FLOATS, "bool", "uint8"):
                raise _unknown(f"ensure_dtype ({kwargs.get('dtype')})")
            # Of numbers between 0 and 255 that were whole before, or of a mask.
            if kwargs.get("dtype") not in _FLOATS and not (steps and steps[-1].name == "binarize"):
                raise _unknown(f"ensure_dtype ({kwargs.get('dtype')})")
            continue
        step = _step(str(name), kwargs, after=after)
        if after and step.name in MEASURED:
            raise ValueError(
                f"scales its output by all of it ({step.name}), which cannot be done in blocks"
            )
        if not after and step.name == "softmax":
            raise _unknown("softmax before the network")
        steps.append(step)
    return tuple(steps)


def _step(name: str, kwargs: dict[str, Any], *, after: bool) -> Step:
    try:
        match name:
            case "scale_range":
                _refuse_reference(kwargs)
                return Step(
                    name="scale_range",
                    per_volume=_per_volume(kwargs),
                    low=kwargs.get("min_percentile", 0.0),
                    high=kwargs.get("max_percentile", 100.0),
                    eps=kwargs.get("eps", 1e-6),
                )
            case "zero_mean_unit_variance" if kwargs.get("mode") == "fixed":
                return _fixed(kwargs)
            case "zero_mean_unit_variance":
                return Step(
                    name="zero_mean_unit_variance",
                    per_volume=_per_volume(kwargs),
                    eps=kwargs.get("eps", 1e-6),
                )
            case "fixed_zero_mean_unit_variance":
                return _fixed(kwargs)
            case "scale_linear":
                gain = _numbers(kwargs, "gain", 1.0, after=after)
                offset = _numbers(kwargs, "offset", 0.0, after=after)
                return Step(name="scale_linear", gain=gain, offset=offset)
            case "clip" if kwargs.keys() <= {"min", "max", "axes"}:
                return Step(name="clip", minimum=kwargs.get("min"), maximum=kwargs.get("max"))
            case "binarize":
                threshold = _numbers(kwargs, "threshold", 0.5, after=after)
                return Step(name="binarize", threshold=threshold)
            case "sigmoid":
                return Step(name="sigmoid")
            case "softmax" if kwargs.get("axis", "channel") in _CHANNEL:
                return Step(name="softmax")
    except ValidationError:
        raise ValueError(f"asks for {name} with numbers that cannot be right") from None
    raise _unknown(name)


def _fixed(kwargs: dict[str, Any]) -> Step:
    mean = _numbers(kwargs, "mean", 0.0, after=True)
    std = _numbers(kwargs, "std", 1.0, after=True)
    # Version 0.4 adds a small number to the deviation, 0.5 adds none.
    eps = float(kwargs.get("eps", 1e-6 if "mode" in kwargs else 0.0))
    name = "fixed_zero_mean_unit_variance"
    return Step(name=name, mean=mean, std=tuple(number + eps for number in std))


def _numbers(kwargs: dict[str, Any], key: str, default: float, *, after: bool) -> tuple[float, ...]:
    """One number, or one for each channel; an image has one channel."""
    value = kwargs.get(key, default)
    numbers = tuple(map(float, value)) if isinstance(value, list) else (float(value),)
    along = kwargs.get("axis")
    if len(numbers) > 1 and (not after or along not in (None, *_CHANNEL)):
        raise ValueError(f"has a {key} for each of several channels, and an image has one")
    return numbers


def _per_volume(kwargs: dict[str, Any]) -> bool:
    """Whether a step measures the whole volume and not each section.

    Raises:
        ValueError: it measures lines of a section.
    """
    axes = kwargs.get("axes")
    if kwargs.get("mode") == "per_dataset" or (axes is None and "mode" not in kwargs):
        return True
    if axes is None:
        return False
    names = set(axes)
    if not any(every <= names for every in _ALL_AXES):
        raise ValueError("measures grey values of single lines of an image")
    return bool(names & set(_BATCH)) or "z" in names


def _refuse_reference(kwargs: dict[str, Any]) -> None:
    if kwargs.get("reference_tensor") not in (None, ""):
        # Of the only input there is, it is the image itself; of an output, it comes too late.
        raise _unknown("scale_range by another tensor")


def _unknown(name: str) -> ValueError:
    return ValueError(f"asks for the step {in_one_line(name)[:60]}, which is not known here")
