"""What one run of a model and its guide shows of them: every site, plate and parameter, in numbers of NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Role = Literal["model", "guide"]


class Frame(NamedTuple):
    """A plate around a site: its dim (negative), the rows present and the data that they stand for."""

    name: str
    dim: int
    rows: int
    size: int


@dataclass(frozen=True, eq=False)
class Site:
    """One `sample` statement.

    `log_prob` is masked and not scaled. `outside` marks the entries of `value` that the distribution cannot take, None if
    it does not say; its shape is that of the value without the dims of one draw.
    """

    name: str
    role: Role
    observed: bool
    factor: bool
    distribution: str
    frames: tuple[Frame, ...]
    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    value: np.ndarray
    log_prob: np.ndarray
    scale: float
    outside: np.ndarray | None
    support: str
    auxiliary: bool = False  # of an autoguide, which draws latents as functions of it
    error: str | None = None  # why its value cannot be scored

    @property
    def kind(self) -> str:
        return "factor" if self.factor else "observed" if self.observed else "latent"

    @property
    def plates(self) -> tuple[str, ...]:
        """Names, outermost first."""
        return tuple(frame.name for frame in sorted(self.frames, key=lambda frame: frame.dim))


@dataclass(frozen=True, eq=False)
class Param:
    """One learned array: its (constrained) first value, and whether that lies where the constraint says."""

    name: str
    value: np.ndarray
    constraint: str
    inside: bool
    roles: frozenset[Role]


@dataclass(frozen=True, eq=False)
class Failure:
    """Where a run broke off: the site at hand if it is known, with its batch shape and the plates around it."""

    role: Role
    error: str
    site: str | None = None
    batch_shape: tuple[int, ...] | None = None
    frames: tuple[Frame, ...] = ()
    after: str | None = None  # the last site that went well


@dataclass(frozen=True, eq=False)
class Walk:
    """All of a run; without numbers (zeros instead) where only shapes were asked for."""

    sites: tuple[Site, ...] = ()
    params: tuple[Param, ...] = ()
    failure: Failure | None = None

    def of(self, role: Role) -> dict[str, Site]:
        """The sites of the model or of the guide, by name, in order."""
        return {site.name: site for site in self.sites if site.role == role}

    @property
    def values(self) -> dict[str, np.ndarray]:
        """First values of the parameters by name."""
        return {param.name: param.value for param in self.params}

    @property
    def draws(self) -> dict[str, np.ndarray]:
        """Values of all latents by name, the guide's where it draws them."""
        found = {**self.of("model"), **self.of("guide")}
        return {name: site.value for name, site in found.items() if site.kind == "latent"}


class Relations(NamedTuple):
    """Of each site, the sites and the parameters that its density reads directly."""

    parents: Mapping[str, tuple[str, ...]]
    params: Mapping[str, tuple[str, ...]]


def last_message(error: BaseException) -> Mapping[str, Any] | None:
    """The `sample` message that the libraries' handlers were at when `error` was raised, read off its traceback."""
    found, step = None, error.__traceback__
    while step is not None:
        message = step.tb_frame.f_locals.get("msg")
        if isinstance(message, dict) and message.get("type") == "sample" and "name" in message:
            found = message
        step = step.tb_next
    return found


def first_line(error: BaseException) -> str:
    """What an error says, as the end of a clause."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".").replace(". ", ", ")
    return f"{type(error).__name__}: {text[:200]}"


#: Supports by the name of their class in both libraries (NumPyro's begin with an underscore).
WORDS = {
    "Boolean": "0 or 1", "Real": "real numbers", "RealVector": "real numbers", "Positive": "numbers above 0",
    "GreaterThan": "numbers above {lower_bound}", "GreaterThanEq": "numbers of at least {lower_bound}",
    "Nonnegative": "numbers of at least 0", "LessThan": "numbers below {upper_bound}",
    "Interval": "numbers from {lower_bound} to {upper_bound}", "UnitInterval": "numbers from 0 to 1",
    "OpenInterval": "numbers between {lower_bound} and {upper_bound}",
    "HalfOpenInterval": "numbers from {lower_bound} to below {upper_bound}",
    "IntegerGreaterThan": "whole numbers of at least {lower_bound}", "IntegerNonnegative": "whole numbers of at least 0",
    "IntegerPositive": "whole numbers of at least 1", "IntegerLessThan": "whole numbers of at most {upper_bound}",
    "IntegerInterval": "whole numbers from {lower_bound} to {upper_bound}", "Simplex": "positive numbers with sum 1",
    "OneHot": "one 1 among zeros", "Multinomial": "whole counts with sum {upper_bound}",
    "OrderedVector": "increasing numbers", "PositiveOrderedVector": "increasing positive numbers",
}  # fmt: skip


def in_words(constraint: Any) -> str:
    """A support or constraint of either library, the same words for both."""
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    name = type(constraint).__name__.lstrip("_")
    if name == "Multinomial" and getattr(constraint, "upper_bound", None) == 1:
        name = "OneHot"
    text = WORDS.get(name, name.lower())
    for bound in ("lower_bound", "upper_bound"):
        if f"{{{bound}}}" in text:
            text = text.replace(f"{{{bound}}}", _number(getattr(constraint, bound, None)))
    return text


def _number(value: Any) -> str:
    try:
        number = np.asarray(value, dtype=float)
    except Exception:  # an array that is not at hand while a program is traced
        return "its bound"
    return f"{float(number):g}" if number.size == 1 else "its bound"
