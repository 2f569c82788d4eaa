"""The colour of each class: the same in every layer, list and picture."""

from __future__ import annotations

# By class, background first: the palette of Okabe and Ito (Color Universal Design, 2008), which
# people with any colour blindness tell apart, with white in place of black. None is grey, so that
# all are seen on a micrograph. Orange is the background and blue the first class: nothing is easier
# to tell apart, and blue stays clear of the yellow of rectangles and the red of uncertainty.
_CLASSES = (
    "#e69f00",
    "#56b4e9",
    "#cc79a7",
    "#009e73",
    "#f0e442",
    "#d55e00",
    "#0072b2",
    "#ffffff",
)


def class_colour(index: int) -> str:
    """The colour of a class; class 0, the background, is orange."""
    # With more classes than colours they repeat, without that of the background.
    return (
        _CLASSES[index]
        if index < len(_CLASSES)
        else _CLASSES[1 + (index - 1) % (len(_CLASSES) - 1)]
    )


def class_rgb(index: int) -> tuple[int, int, int]:
    """Red, green and blue of a class, from 0 to 255."""
    red, green, blue = bytes.fromhex(class_colour(index).lstrip("#"))
    return red, green, blue
