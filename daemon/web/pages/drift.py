"""Whether a model still says, and is still given, what it was: plots over time with their bounds."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from statistics import fmean, pstdev
from types import MappingProxyType
from typing import Final

from markupsafe import Markup

from daemon.web.charts import Axes, Bound, Line, lines
from daemon.web.stability import CHANGED, WATCH, Stability, compare
from db.drift import Result

STEPS: Final = 12
REFERENCE: Final = 4  # steps: what later ones are compared with
SHORT: Final = 12
PERIODS: Final = MappingProxyType(
    {SHORT: timedelta(days=7), 48: timedelta(days=28)}
)  # weeks: length of a step
STATISTICS: Final = MappingProxyType(
    {
        "gray_mean": "Mean gray value",
        "gray_sd": "Spread of gray values",
        "slices": "Slices",
        "spacing_mm": "Slice spacing, mm",
    }
)
_SOURCES: Final = 3  # shown, those that send most
_BINS: Final = 20
_SIGMAS: Final = 3  # Source: Shewhart's control limits
Steps = Sequence[Sequence[Result]]


@dataclass(frozen=True)
class Cell:
    """One statistic of one source: its mean then and now, and whether its distribution changed."""

    then: float
    now: float
    stability: Stability


@dataclass(frozen=True)
class Drift:
    """Everything that is shown."""

    count: int
    scores: Stability | None
    plots: dict[str, Markup]  # by what they show
    sources: list[str]
    inputs: dict[str, Markup]  # by statistic
    cells: dict[str, list[Cell | None]]  # by source, in the order of the statistics


def edges_of(now: datetime, weeks: int) -> list[datetime]:
    """Return the edges of the steps of a period that ends now."""
    return [now - PERIODS[weeks] * (STEPS - step) for step in range(STEPS + 1)]


def drift_of(steps: Steps, edges: Sequence[datetime]) -> Drift:
    """Compare each step with the first four that hold results."""
    axes = _Time(edges)
    then, later = _parted(steps)
    latest = [result for _, step in later[-1:] for result in step]
    plots = {"psi": _psi_plot(then, later, axes)} if later else {}
    if then:
        plots |= {"positive": _positive_plot(steps, then, axes), "scores": _scores_plot(then, latest)}
    sources = _largest(steps)
    by_source = {source: [[r for r in step if r.source == source] for step in steps] for source in sources}
    inputs = {name: _means_plot(by_source, name, axes) for name in STATISTICS}
    return Drift(
        sum(map(len, steps)),
        _stability(then, latest, _probability),
        plots,
        sources,
        {name: plot for name, plot in inputs.items() if plot},
        {source: [_cell(own, name) for name in STATISTICS] for source, own in by_source.items()},
    )


@dataclass(frozen=True)
class _Time:
    """The axis of time, in steps."""

    edges: Sequence[datetime]

    def axes(self, y: tuple[float, float], y_labels: Sequence[tuple[float, str]]) -> Axes:
        last = len(self.edges) - 1
        labels = [(step, f"{self.edges[step]:%Y-%m-%d}") for step in (0, last // 2)]
        return Axes((0, last), y, (*labels, (last, "today")), y_labels)

    def day(self, step: int) -> str:
        return f"from {self.edges[step]:%Y-%m-%d}"


def _parted(steps: Steps) -> tuple[list[Result], list[tuple[int, Sequence[Result]]]]:
    """Return the reference, and the steps behind it that hold results, with their numbers."""
    held = [(number, step) for number, step in enumerate(steps) if step]
    if not held:
        return [], []
    behind = held[0][0] + REFERENCE
    then = [result for number, step in held if number < behind for result in step]
    return then, [(number, step) for number, step in held if number >= behind]


def _probability(result: Result) -> float | None:
    return result.probability


def _statistic(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.statistics.get(name)


def _values(results: Iterable[Result], of: Callable[[Result], float | None]) -> list[float]:
    return [value for result in results if (value := of(result)) is not None]


def _stability(
    then: Sequence[Result], now: Sequence[Result], of: Callable[[Result], float | None]
) -> Stability | None:
    return compare(_values(then, of), _values(now, of))


def _psi_plot(then: Sequence[Result], later: Sequence[tuple[int, Sequence[Result]]], time: _Time) -> Markup:
    found = [(step, _stability(then, results, _probability)) for step, results in later]
    dots = [
        (step + 0.5, each.value, f"{each.value:.3f}, {each.words}, {time.day(step)}")
        for step, each in found
        if each is not None
    ]
    top = max([0.3, *(value for _, value, _ in dots)])
    axes = time.axes((0, top), [(0, "0")])
    bounds = (Bound(WATCH, f"watch {WATCH}"), Bound(CHANGED, f"changed {CHANGED}"))
    told = f"Population stability index. Last: {dots[-1][2] if dots else ''}"
    return lines([Line("scores", [dot[:2] for dot in dots], 0, dots)], axes, told, bounds)


def _positive_plot(steps: Steps, then: Sequence[Result], time: _Time) -> Markup:
    held = [(number, step) for number, step in enumerate(steps) if step]
    rates = [(number, fmean(result.is_positive for result in step), len(step)) for number, step in held]
    usual = fmean(result.is_positive for result in then)
    spread = _SIGMAS * sqrt(usual * (1 - usual) / fmean(count for *_, count in rates))
    dots = [(n + 0.5, rate, f"{rate:.0%} of {count}, {time.day(n)}") for n, rate, count in rates]
    top = max(0.1, usual + spread, *(rate for _, rate, _ in rates)) * 1.15
    bounds = [Bound(usual + spread, "upper limit"), Bound(max(0.0, usual - spread), "lower limit")]
    axes = time.axes((0, top), [(0, "0"), (top / 1.15, f"{top / 1.15:.0%}")])
    told = f"Share of positive verdicts, usually {usual:.0%}. Last: {dots[-1][2]}"
    return lines([Line("positive", [dot[:2] for dot in dots], 0, dots)], axes, told, bounds)


def _scores_plot(then: Sequence[Result], latest: Sequence[Result]) -> Markup:
    both = [(name, found) for name, found in (("reference", then), ("last", latest)) if found]
    curves = [Line(name, _outline(found), number) for number, (name, found) in enumerate(both)]
    top = max(y for curve in curves for _, y in curve.points)
    axes = Axes((0, 1), (0, top), ((0, "0"), (0.5, "probability"), (1, "1")), ((0, "0"), (top, f"{top:.0%}")))
    return lines(
        curves, axes, f"Distribution of probabilities of {len(then)} studies and the last {len(latest)}."
    )


def _outline(found: Sequence[Result]) -> list[tuple[float, float]]:
    """Return a histogram's outline."""
    counted = Counter(min(_BINS - 1, int(result.probability * _BINS)) for result in found)
    outline = []
    for place in range(_BINS):
        share = counted[place] / len(found)
        outline += [(place / _BINS, share), ((place + 1) / _BINS, share)]
    return outline


def _largest(steps: Steps) -> list[str]:
    counted = Counter(result.source for step in steps for result in step if result.statistics)
    return [source for source, _ in counted.most_common(_SOURCES)]


def _means_plot(by_source: dict[str, list[list[Result]]], name: str, time: _Time) -> Markup | None:
    curves = []
    for number, (source, steps) in enumerate(by_source.items()):
        values = [(step, _values(results, _statistic(name))) for step, results in enumerate(steps)]
        dots = [
            (
                step + 0.5,
                fmean(found),
                f"{source}: {fmean(found):.4g} ({len(found)} studies), {time.day(step)}",
            )
            for step, found in values
            if found
        ]
        curves.append(Line(source, [dot[:2] for dot in dots], number, dots))
    means = [y for curve in curves for _, y in curve.points]
    if not means:
        return None
    every = _values((r for steps in by_source.values() for step in steps for r in step), _statistic(name))
    middle, spread = fmean(every), pstdev(every) or abs(every[0]) * 0.05 or 1.0
    # As wide as studies differ from each other, so that what chance does to a mean looks small.
    low, high = min(*means, middle - spread), max(*means, middle + spread)
    axes = time.axes((low, high), [(value, f"{value:.4g}") for value in (low, middle, high)])
    told = "; ".join(curve.dots[-1][2] for curve in curves if curve.dots)
    return lines(curves, axes, f"{STATISTICS[name]} by source. Last: {told}")


def _cell(steps: Steps, name: str) -> Cell | None:
    then, later = _parted(steps)
    now = later[-1][1] if later else []
    stability = _stability(then, now, _statistic(name))
    if stability is None:
        return None
    first, last = _values(then, _statistic(name)), _values(now, _statistic(name))
    return Cell(fmean(first), fmean(last), stability)
