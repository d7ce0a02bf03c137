"""Numbers as a reader wants them, and as results hold them: null where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


def number(value: float | None) -> str:
    """Three significant digits, for people."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    mantissa, power = f"{value:.2e}".split("e")
    exponent = int(power)
    if value == 0:
        return "0"
    if -3 <= exponent < 6:
        return f"{round(value, 2 - exponent):,.{max(0, 2 - exponent)}f}".replace("-", "−")
    return f"{mantissa}×10{power_text(exponent)}".replace("-", "−")


def power_text(exponent: int) -> str:
    """The exponent, raised."""
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def seconds(value: float | None) -> str:
    """A duration with its unit."""
    if value is None or not math.isfinite(value):
        return "–"
    if value >= 120:
        minutes, rest = divmod(round(value), 60)
        hours = f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"
        return hours if minutes >= 120 else f"{minutes}\u00a0min {rest}\u00a0s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{number(float(value / size))}\u00a0{unit}"
    return f"{number(float(value * 1e9))}\u00a0ns"


def percent(value: float | None) -> str:
    """A share of one in hundredths."""
    return "–" if value is None or not math.isfinite(value) else f"{number(100.0 * value)}\u00a0%"


def finite(value: Any) -> float:
    """The number, or nan for null and whatever else is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def interval(estimate: Any) -> tuple[float, float, float]:
    """Value, low and high; a missing end is the value."""
    if not isinstance(estimate, Mapping):
        return finite(estimate), finite(estimate), finite(estimate)
    value, low, high = (finite(estimate.get(end)) for end in ("value", "low", "high"))
    return value, value if math.isnan(low) else low, value if math.isnan(high) else high
