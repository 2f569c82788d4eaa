"""Line plots as SVG, for a page that needs no program to be looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

# Pixels; the page scales the drawing to its width.
_WIDTH = 520
_HEIGHT = 240
_LEFT = 56
_RIGHT = 14
_TOP = 26
_BOTTOM = 40
# Points of a curve that are drawn: more than pixels, and few enough for a page.
_MOST_POINTS = 600
# Colours that the colour-blind can tell apart, on white and on dark paper (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Curves of one plot; more could not be told apart.
_MOST_CURVES = len(_COLOURS)
# About so many ticks on an axis.
_TICKS = 5


@dataclass(frozen=True)
class Point:
    """A point of a curve.

    Attributes:
        x, y: its place.
        low, high: the ends of its interval; None for none.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether it can be drawn."""
        numbers = (self.x, self.y, self.low or 0.0, self.high or 0.0)
        return all(math.isfinite(number) and abs(number) < 1e100 for number in numbers)


@dataclass(frozen=True)
class Curve:
    """A named series of points; those of a curve with markers are drawn one by one."""

    name: str
    points: tuple[Point, ...]
    markers: bool = False


def line_plot(
    curves: Iterable[Curve],
    x_label: str,
    y_label: str,
    *,
    y_range: tuple[float, float] | None = None,
    padding: float = 0.0,
) -> Markup:
    """Draw curves; nothing if they have no points.

    Args:
        curves: the first of them are drawn.
        x_label: of the horizontal axis, which counts: its ticks are whole numbers.
        y_label: of the vertical axis.
        y_range: of the vertical axis; by default that of the points.
        padding: to the left and to the right of the points.
    """
    drawn = [
        Curve(curve.name, _thinned([p for p in curve.points if p.is_finite]), curve.markers)
        for curve in curves
    ]
    drawn = [curve for curve in drawn if curve.points][:_MOST_CURVES]
    points = [point for curve in drawn for point in curve.points]
    if not points:
        return Markup("")
    ends = [end for p in points for end in (p.y, p.low, p.high) if end is not None]
    x_range = _widened(min(p.x for p in points), max(p.x for p in points), padding)
    axes = _Axes(x_range, y_range or _widened(min(ends), max(ends)))
    svg = ElementTree.Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
    )
    title = f"{y_label} over {x_label}: {', '.join(curve.name for curve in drawn)}"
    ElementTree.SubElement(svg, "title").text = title
    axes.draw(svg, x_label, y_label)
    for number, curve in enumerate(drawn):
        _draw_curve(svg, axes, curve, _COLOURS[number])
    _draw_legend(svg, [curve.name for curve in drawn])
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


@dataclass(frozen=True)
class _Axes:
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def draw(self, svg: ElementTree.Element, x_label: str, y_label: str) -> None:
        bottom = _HEIGHT - _BOTTOM
        for value in ticks(*self.y_range):
            y = self.y(value)
            _add(svg, "line", "grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
            _text(svg, f"{value:g}", _LEFT - 6, y + 4, "end")
        for value in filter(float.is_integer, ticks(*self.x_range)):
            x = self.x(value)
            _add(svg, "line", "grid", x1=x, x2=x, y1=bottom, y2=bottom + 4)
            _text(svg, f"{value:g}", x, bottom + 17, "middle")
        _add(svg, "line", "axis", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom)
        _text(svg, x_label, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 5, "middle")
        middle = (_TOP + bottom) / 2
        label = _text(svg, y_label, 13, middle, "middle")
        label.set("transform", f"rotate(-90 13 {middle:.1f})")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, about five of them.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _widened(low: float, high: float, by: float = 0.0) -> tuple[float, float]:
    """A range that is not empty."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        by = by or max(abs(low) * 0.1, 0.5)
    return low - by, high + by


def _thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """At most so many points, and always the last."""
    step = -(-len(points) // _MOST_POINTS) or 1
    kept = points[::step]
    return (*kept, points[-1]) if points and kept[-1] is not points[-1] else tuple(kept)


def _draw_curve(svg: ElementTree.Element, axes: _Axes, curve: Curve, colour: str) -> None:
    places = [(axes.x(point.x), axes.y(point.y)) for point in curve.points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    if len(places) > 1:
        _add(svg, "polyline", "curve", points=line, stroke=colour)
    if not curve.markers and len(places) > 1:
        return
    for point, (x, y) in zip(curve.points, places, strict=True):
        if point.low is not None and point.high is not None:
            ends = {"y1": axes.y(point.low), "y2": axes.y(point.high)}
            _add(svg, "line", "curve", x1=x, x2=x, stroke=colour, **ends)
        _add(svg, "circle", "", cx=x, cy=y, r=4, fill=colour)


def _draw_legend(svg: ElementTree.Element, names: Sequence[str]) -> None:
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(names), 1)
    for number, name in enumerate(names):
        x = _LEFT + number * width
        _add(svg, "rect", "", x=x, y=6, width=12, height=12, fill=_COLOURS[number])
        # A letter is about seven pixels wide.
        longest = max(3, int((width - 20) / 7))
        shown = name if len(name) <= longest else f"{name[: longest - 1]}…"
        _text(svg, shown, x + 17, 16, "start")


def _add(svg: ElementTree.Element, tag: str, kind: str, **values: object) -> ElementTree.Element:
    written = {
        key: f"{value:.1f}" if isinstance(value, float) else str(value)
        for key, value in values.items()
    }
    return ElementTree.SubElement(svg, tag, {"class": kind} | written if kind else written)


def _text(
    svg: ElementTree.Element, text: str, x: float, y: float, anchor: str
) -> ElementTree.Element:
    label = _add(svg, "text", "", x=float(x), y=float(y))
    label.set("text-anchor", anchor)
    label.text = text
    return label
