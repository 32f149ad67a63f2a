"""Small plots as SVG; colours and fonts are classes of the style sheet, for the policy allows no styles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from markupsafe import Markup

Point = tuple[float, float]
_WIDTH: Final = 360
_HEIGHT: Final = 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 10, 10, 24
_BAR: Final = 0.72  # of its place
_DASHES: Final = ("none", "6 3", "2 3", "9 3 2 3")
_COLUMN: Final = Markup(
    '<rect class="column" x="{}" y="{}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
)
_CURVE: Final = Markup('<path class="curve c{}" d="{}" stroke-dasharray="{}"/>')
_SWATCH: Final = Markup(
    '<svg viewBox="0 0 24 8" width="24" height="8" class="plot" aria-hidden="true">{}</svg>'
)
_DOT: Final = Markup('<circle class="dot c{}" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>')
_BOUND: Final = Markup('<path class="bound" d="M{} {}H{}"/><text class="end" x="{}" y="{}">{}</text>')
_GRID: Final = Markup('<path class="grid" d="M{} {}H{}"/><text class="end" x="{}" y="{}">{}</text>')
_LABEL: Final = Markup('<text class="{}" x="{}" y="{}">{}</text>')
_PLOT: Final = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>')


@dataclass(frozen=True)
class Axes:
    """What a plot spans."""

    x: Point
    y: Point
    x_labels: Sequence[tuple[float, str]] = ()
    y_labels: Sequence[tuple[float, str]] = ()
    height: int = _HEIGHT

    def place(self, x: float, y: float) -> Point:
        """Return where a value is drawn; what lies outside is drawn at the edge."""
        across = _share(x, self.x) * (_WIDTH - _LEFT - _RIGHT)
        up = _share(y, self.y) * (self.height - _TOP - _BOTTOM)
        return round(_LEFT + across, 1), round(self.height - _BOTTOM - up, 1)


def _share(value: float, span: Point) -> float:
    low, high = span
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


@dataclass(frozen=True)
class Line:
    """A curve with its name; `number` chooses colour and dashes."""

    name: str
    points: Sequence[Point]
    number: int = 0
    dots: Sequence[tuple[float, float, str]] = field(default=())  # with what each says when it is pointed at


@dataclass(frozen=True)
class Bound:
    """A value that is drawn right across."""

    value: float
    name: str


def bars(values: Sequence[float], axes: Axes, told: str, says: Sequence[str]) -> Markup:
    """Return bars from left to right, each of which says something when it is pointed at."""
    floor = axes.place(0, axes.y[0])[1]
    drawn = []
    for index, (value, words) in enumerate(zip(values, says, strict=True)):
        left, top = axes.place(index + (1 - _BAR) / 2, value)
        right = axes.place(index + (1 + _BAR) / 2, value)[0]
        drawn.append(_COLUMN.format(left, top, right - left, max(0.0, floor - top), words))
    return _plot(axes, drawn, told)


def swatch(number: int) -> Markup:
    """Return a piece of a curve, for a legend."""
    return _SWATCH.format(_curve(number, "M1 4H23"))


def _curve(number: int, path: str) -> Markup:
    kind = number % len(_DASHES)
    return _CURVE.format(kind, path, _DASHES[kind])


def lines(curves: Sequence[Line], axes: Axes, told: str, bounds: Sequence[Bound] = ()) -> Markup:
    """Return curves, and the bounds that they should keep."""
    drawn = [_bound(axes, each) for each in bounds]
    for curve in curves:
        places = [axes.place(*point) for point in curve.points]
        path = "M" + "L".join(f"{x} {y}" for x, y in places) if places else ""
        drawn.append(_curve(curve.number, path))
        drawn += [
            _DOT.format(curve.number % len(_DASHES), *axes.place(x, y), words) for x, y, words in curve.dots
        ]
    return _plot(axes, drawn, told)


def _bound(axes: Axes, bound: Bound) -> Markup:
    left, y = axes.place(axes.x[0], bound.value)
    right = axes.place(axes.x[1], bound.value)[0]
    return _BOUND.format(left, y, right, right, y - 4, bound.name)


def _plot(axes: Axes, drawn: Sequence[Markup], told: str) -> Markup:
    frame = []
    left, right = (axes.place(x, axes.y[0])[0] for x in axes.x)
    for value, words in axes.y_labels:
        y = axes.place(axes.x[0], value)[1]
        frame.append(_GRID.format(left, y, right, left - 5, y + 4, words))
    for value, words in axes.x_labels:
        x = axes.place(value, axes.y[0])[0]
        side = "end" if x > right - 20 else "start" if x < left + 20 else "middle"
        frame.append(_LABEL.format(side, x, axes.height - 7, words))
    return _PLOT.format(_WIDTH, axes.height, told, Markup("").join(frame), Markup("").join(drawn))


def nice(largest: float) -> list[float]:
    """Return at most five round values from 0 to at least the largest, which counts as 1 or more."""
    step, wanted = 1.0, max(largest, 1.0)
    while step * 4 < wanted:
        step *= 2.5 if str(int(step)).startswith("2") else 2
    return [step * index for index in range(int(-(-wanted // step)) + 1)]
