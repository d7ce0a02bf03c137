"""The figures of a report: each function draws one; `svg` turns it into text that takes the page's colours."""

from __future__ import annotations

import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .numbers import Row, finite, interval, number, percent, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without black and yellow, and two of Tol's: told apart by colour-blind readers.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
INK, MUTED, FAINT, BAD, SURFACE = "#1b1f24", "#69707a", "#d5d9df", "#c02b2b", "#fdfdfe"
# The page sets these variables for light and for dark, so one drawing serves both.
_VARIABLES = {hue: f"var(--s{i})" for i, hue in enumerate(SERIES)} | {
    INK: "var(--ink)", MUTED: "var(--muted)", FAINT: "var(--faint)", BAD: "var(--bad)", SURFACE: "var(--surface)"
}  # fmt: skip
_STYLE = {
    "svg.fonttype": "none", "text.parse_math": False, "figure.dpi": 72, "font.size": 12, "text.color": INK,
    "axes.labelcolor": INK, "axes.edgecolor": MUTED, "axes.spines.top": False, "axes.spines.right": False,
    "axes.axisbelow": True, "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6, "xtick.color": MUTED,
    "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.labelsize": 12,
}  # fmt: skip
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
_WIDTH, _ROW = 10.0, 0.38  # inches
_Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True)
class Look:
    """How one estimator appears in every plot."""

    index: int

    @property
    def colour(self) -> str:
        return SERIES[self.index % len(SERIES)]

    @property
    def marker(self) -> str:
        return "osD^vPX"[self.index // len(SERIES) % 7]

    @property
    def dash(self) -> Any:
        return ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1, 2)))[self.index // len(SERIES) % 4]


@dataclass(frozen=True)
class Series:
    """One curve with its band; `x` holds the same points along each horizontal axis."""

    label: str
    look: Look
    x: Mapping[str, np.ndarray]
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def svg(draw: Callable[..., Figure | None], *arguments: Any) -> str:
    """The drawing as an inline svg element, the same bytes every time; empty where there is nothing to draw."""
    from matplotlib import style

    buffer = io.StringIO()
    # "default" first: a user's matplotlibrc must not change a report.
    with style.context(["default", _STYLE | {"svg.hashsalt": draw.__name__}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph .*missing from")  # the browser has other fonts
        figure = draw(*arguments)
        if figure is None:
            return ""
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], count=1, flags=re.DOTALL)
    head, body = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # these ids repeat from figure to figure
    return re.sub("|".join(_VARIABLES), lambda hit: _VARIABLES[hit[0]], f"{head}>{body}")


def variance(rows: Sequence[Row], looks: Mapping[str, Look]) -> Figure | None:
    """The variance of one gradient, a line for each estimator and a mark for each point."""
    return _dots(rows, looks, "variance_trace", "variance of one gradient, tr Cov, (nats per datum)²", number, 1e-10)


def bias(rows: Sequence[Row], looks: Mapping[str, Look]) -> Figure | None:
    """The relative bias over the least bias that would have been seen."""
    label = "bias, ‖E ĝ − g‖ / ‖g‖;  faint bar: too small to be seen"
    return _dots(rows, looks, "bias_relative", label, percent, 1e-5, bar="minimal_detectable_bias")


def _dots(
    rows: Sequence[Row], looks: Mapping[str, Look], key: str, label: str, tick: Callable[[float], str],
    depth: float, bar: str | None = None,
) -> Figure | None:  # fmt: skip
    """A dot plot on a log axis `depth` deep; what lies below it sits at its edge as an arrow."""
    from matplotlib.lines import Line2D

    rows = [row for row in rows if not math.isnan(interval(row.get(key))[0])]
    names = _by_variance(rows)
    if not names:
        return None
    values = [interval(row.get(key)) for row in rows]
    bars = [finite(row.get(bar)) if bar else math.nan for row in rows]
    positive = [v for v in [*(v[0] for v in values), *(v[2] for v in values), *bars] if v > 0] or [1.0]
    top = max(positive) * 2
    floor = max(min(positive) / 2, top * depth)
    figure = canvas(1.3 + _ROW * len(names))
    axes = figure.add_subplot()
    biased: dict[str, float] = {}
    for row, (value, low, high), limit in zip(rows, values, bars, strict=True):
        look, trained = looks[row["label"]], row.get("point") == "trained"
        y = names.index(row["label"]) + (0.19 if trained else -0.19)
        wrong = bar is not None and row.get("verdict") == "biased"
        if limit > 0:
            axes.barh(y, limit - floor / 2, 0.3, floor / 2, color=FAINT, linewidth=0)
        if high > floor:
            axes.plot([max(low, floor), max(high, floor)], [y, y], color=look.colour, linewidth=2.6 if wrong else 1.6)
        marker, face = look.marker if value > floor else "<", look.colour if trained else SURFACE
        axes.plot(max(value, floor), y, marker, ms=9 if wrong else 7, mec=look.colour, mfc=face, mew=1.6, clip_on=False)
        if wrong:
            where = max(high, value, floor, biased.get(row["label"], floor))
            biased[row["label"]] = where
    axes.set_xscale("log")
    for name, where in biased.items():
        note: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": BAD, "fontweight": "bold"}
        axes.annotate("biased", (where, names.index(name)), (9, 0), fontsize=11, **note)
    room = (top / floor) ** 0.09 if biased else 1.0
    axes.set(xlim=(floor, top * room), ylim=(len(names) - 0.4, -0.6), xlabel=label)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelsize=12)
    _log_ticks(axes.xaxis, tick)
    style = {"linestyle": "", "marker": "o", "markeredgecolor": INK, "markersize": 7}
    marks = [Line2D([], [], label="initial parameters", markerfacecolor=SURFACE, **style)]
    marks += [Line2D([], [], label="trained parameters", markerfacecolor=INK, **style)]
    figure.legend(handles=marks, loc="outside upper right", ncols=2, frameon=False, handletextpad=0.2)
    return figure


def cost(rows: Sequence[Row], looks: Mapping[str, Look]) -> Figure | None:
    """Variance against the time of one gradient, last point of each; the diagonals join equal efficiency."""
    spots: dict[str, tuple[float, float]] = {}
    for row in sorted(rows, key=lambda row: row.get("point") == "trained"):
        x, y = finite(row.get("seconds_per_gradient")), interval(row.get("variance_trace"))[0]
        if x > 0 and y > 0:
            spots[row["label"]] = x, y
    if not spots:
        return None
    where = np.log10(list(spots.values()))
    low, high = where.min(0), where.max(0)
    pad = np.maximum(0.1 * (high - low), (1.0 - (high - low)) / 2)
    (left, bottom), (right, top) = 10 ** (low - pad), 10 ** (high + pad)
    figure = canvas(5.6 + 0.1 * max(0, len(spots) - 12))
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    axes.set(xlabel="time of one training gradient", ylabel="variance of one gradient, tr Cov, (nats per datum)²")
    axes.grid(False)
    _log_ticks(axes.xaxis, seconds)
    _log_ticks(axes.yaxis, number)
    first, last = math.ceil(-math.log10(right * top)), math.floor(-math.log10(left * bottom))
    for exponent in range(first, last + 1, max(1, math.ceil((last - first) / 7))):
        ends = np.array([left, right])
        axes.plot(ends, 10.0**-exponent / ends, color=FAINT, linewidth=1, zorder=0)
        if bottom < 10.0**-exponent / right < top:
            note = f"efficiency {_plain(number(10.0**exponent))}"
            axes.annotate(note, (right, 10.0**-exponent / right), (5, 0), **_BESIDE, color=MUTED, fontsize=10)
    figure.draw_without_rendering()  # fixes the frame, which the labels need
    boxes = [(x - 6, y - 6, x + 6, y + 6) for x, y in axes.transData.transform(list(spots.values()))]
    for name, spot in sorted(spots.items(), key=lambda item: item[1]):
        axes.plot(*spot, looks[name].marker, ms=8, color=looks[name].colour)
        _label(axes, name, spot, looks[name].colour, boxes)
    return figure


def elbo(series: Sequence[Series], axes_labels: Mapping[str, str], baseline: tuple[str, float] | None) -> Figure | None:
    """Curves of the bound with their bands, one panel for each horizontal axis, named at their ends."""
    series = [s for s in series if s.middle.size]
    if not series:
        return None
    count = len(series) + (baseline is not None)
    figure = canvas(max(4.4, 1.2 + 0.22 * count))
    panels = np.atleast_1d(figure.subplots(1, len(axes_labels), sharey=True))
    low, high = _frame(series, baseline)
    for axes, (key, label) in zip(panels, axes_labels.items(), strict=True):
        ends = [s.x[key][-1] for s in series if s.x[key][-1] > 0]
        axes.margins(x=0.01)
        log = key == "seconds" and bool(ends) and max(ends) > 20 * min(ends)
        for s in series:
            keep = s.x[key] > 0 if log else s.x[key] >= 0
            x, look = s.x[key][keep], s.look
            axes.fill_between(x, s.low[keep], s.high[keep], color=look.colour, alpha=0.18, linewidth=0)
            marker = look.marker if x.size < 3 else ""
            axes.plot(x, s.middle[keep], color=look.colour, linestyle=look.dash, linewidth=1.8, marker=marker)
        if baseline is not None:
            axes.axhline(baseline[1], color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2)
        if log:
            axes.set_xscale("log")
            seen = [x for s in series for x in s.x[key][(s.middle >= low) & (s.x[key] > 0)]]
            axes.set_xlim(left=0.8 * min(seen, default=min(ends)))
            _log_ticks(axes.xaxis, number)
        axes.set(xlabel=label, ylim=(low, high))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    panels[0].set_ylabel("ELBO, nats per datum")
    names = [(s.label + _outside(s.middle[-1], low), s.middle[-1], s.look.colour) for s in series]
    _name_ends(figure, panels[-1], names + ([(baseline[0], baseline[1], MUTED)] if baseline else []))
    return figure


def canvas(height: float) -> Figure:
    """An empty figure as wide as the page, `height` inches high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _by_variance(rows: Sequence[Row]) -> list[str]:
    """Names from the least variance to the most, so that the plots share their order."""
    least: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: row.get("point") != "trained"):
        value = interval(row.get("variance_trace"))[0]
        least.setdefault(row["label"], math.inf if math.isnan(value) else value)
    return sorted(least, key=lambda name: least[name])


def _log_ticks(axis: Any, text: Callable[[float], str]) -> None:
    """Few, whole ticks; 1, 2 and 5 where less than two decades are seen."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 500 * low else (1,), numticks=9))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: _plain(text(value)) if value > 0 else "")


def _plain(text: str) -> str:
    """1.00 ms as 1 ms, 1.00×10⁻⁵ as 10⁻⁵: a tick is exact."""
    text = re.sub(r"(?<![\d,])1\.00×", "", text)
    return re.sub(r"(\.\d*?)0+(?=\D|$)", lambda hit: hit[1] if len(hit[1]) > 1 else "", text)


def _text(axes: Axes, note: str, where: tuple[float, float]) -> Any:
    """Text at a place in points; the layout does not make room for it."""
    style: dict[str, Any] = {"fontsize": 11, "va": "center", "ha": "left", "in_layout": False}
    return axes.annotate(note, where, xycoords="figure points", annotation_clip=False, **style)


def _label(axes: Axes, name: str, spot: tuple[float, float], colour: str, boxes: list[_Box]) -> None:
    """Put a name in the nearest free place around its point, with a leader where that is far."""
    x, y = axes.transData.transform(spot)
    text = _text(axes, name, (x, y))
    extent, frame = text.get_window_extent(), axes.bbox
    best = (math.inf, 0.0, (0.0, 0.0, 0.0, 0.0))
    for reach, degrees in itertools.product((10, 18, 28, 40, 54, 70, 90, 120), (0, 180, 30, -30, 150, -150, 70, -70)):
        x0 = x + reach * math.cos(math.radians(degrees)) - (extent.width if abs(degrees) > 90 else 0)
        y0 = y + reach * math.sin(math.radians(degrees)) - extent.height / 2
        box = (x0, y0, x0 + extent.width, y0 + extent.height)
        outside = x0 < frame.x0 + 2 or box[2] > frame.x1 - 2 or y0 < frame.y0 or box[3] > frame.y1
        best = min(best, (sum(_overlap(box, other) for other in boxes) + 1e4 * outside + 0.01 * reach, reach, box))
        if best[0] < 2:
            break
    _, reach, box = best
    text.xy = (box[0], y0 := (box[1] + box[3]) / 2)
    text.set_position(text.xy)
    if reach > 20:
        points = axes.transData.inverted().transform([(x, y), (box[0] - 2 if box[0] > x else box[2] + 2, y0)])
        axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=0.9, zorder=1)
    boxes.append(box)


def _overlap(a: _Box, b: _Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _frame(series: Sequence[Series], baseline: tuple[str, float] | None) -> tuple[float, float]:
    """Limits that hold the curves after their first fall; a curve that diverges leaves the frame."""
    middles = np.concatenate([s.middle for s in series])
    high = max(s.high.max() for s in series)
    low = min(np.quantile(middles, 0.3), np.quantile([s.middle[-1] for s in series], 0.1))
    low = middles.min() if high - middles.min() < 2 * (high - low) else low
    if baseline is not None:
        low, high = min(low, baseline[1]), max(high, baseline[1])
    pad = 0.05 * (high - low) or 1.0
    return float(low - pad), float(high + pad)


def _outside(end: float, low: float) -> str:
    return f" ↓ {number(float(end))}" if end < low else ""


def _name_ends(figure: Figure, axes: Axes, names: Sequence[tuple[str, float, str]]) -> None:
    """Names right of the frame, no two on one line, each led to the end of its curve."""
    names = sorted(names, key=lambda item: item[1])
    # An invisible copy of the longest name makes the layout keep the room.
    longest = max((name for name, _, _ in names), key=len)
    axes.annotate(longest, (1, 0.5), (30, 0), xycoords="axes fraction", **_BESIDE, fontsize=11, alpha=0)
    figure.draw_without_rendering()
    frame = axes.bbox
    ends = [float(np.clip(axes.transData.transform((1, y))[1], frame.y0, frame.y1)) for _, y, _ in names]
    for (name, _, colour), end, y in zip(names, ends, _spread(ends, 14.0, frame.y0, frame.y1 - 6), strict=True):
        line = {"arrowstyle": "-", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
        note: dict[str, Any] = {"xycoords": "figure points", "textcoords": "figure points", "in_layout": False}
        axes.annotate("", (frame.x1 + 3, end), (frame.x1 + 24, y), arrowprops=line, annotation_clip=False, **note)
        _text(axes, name, (frame.x1 + 28, y))


def _spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Rising places moved apart to at least `gap`, kept under `high`."""
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    out = list(places)
    for i in range(1, len(out)):
        out[i] = max(out[i], out[i - 1] + gap)
    for i in reversed(range(len(out))):
        out[i] = min(out[i], high if i == len(out) - 1 else out[i + 1] - gap)
    return out
