"""What training does where a loss or a gradient is not finite: skip the step, then go back, then stop and say where.

A step that is not finite moves nothing and is counted. After `IN_A_ROW` of them the restart goes back to its last good
state, the beginning of the last epoch in which a step succeeded, and goes on from there with half the step size. After
`ROLLBACKS` returns, or if no step ever succeeded, training stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ppl_models import NumericalError

IN_A_ROW = 10
ROLLBACKS = 3


class Guard(NamedTuple):
    """What is remembered of one restart."""

    row: int = 0  # steps in a row, up to now, that were not finite
    rollbacks: int = 0
    proved: bool = False  # whether a step ever succeeded

    @property
    def scale(self) -> float:
        """Of the step size."""
        return 0.5**self.rollbacks


def guard_of(kept: Iterable[Any]) -> Guard:
    """A guard as a checkpoint holds it; `ValueError` if that is none."""
    row, rollbacks, proved = kept
    if not (row >= 0 and 0 <= rollbacks <= ROLLBACKS and isinstance(proved, bool)):
        raise ValueError(f"no guard: {kept}")
    return Guard(int(row), int(rollbacks), proved)


def judged(guard: Guard, losses: np.ndarray, params: Mapping[str, np.ndarray], last: bool) -> tuple[Guard, str]:
    """The guard after an epoch of these losses that ended at these parameters, and whether to go "on", "back" or "stop".

    `last`: no epoch follows.
    """
    bad, row, longest = ~np.isfinite(losses), guard.row, guard.row
    for flag in bad if bad.any() else ():
        row = row + 1 if flag else 0
        longest = max(longest, row)
    row = row if bad.any() else 0
    proved = guard.proved or not bad.all()
    if (proved or not last) and longest < IN_A_ROW and all(np.isfinite(value).all() for value in params.values()):
        return Guard(row, guard.rollbacks, proved), "on"
    if not proved or guard.rollbacks == ROLLBACKS:
        return Guard(row, guard.rollbacks, proved), "stop"
    return Guard(0, guard.rollbacks + 1, True), "back"


@dataclass(frozen=True, eq=False)
class Failure:
    """The step at which training left the finite numbers, with all that makes it happen again.

    Attributes:
        epoch: Counted from 1, as the history does.
        step: Of that epoch, counted from 1.
        restart: Counted from 0.
        batch: Which rows of the data the minibatch held.
        site: The first site, input or parameter that is not finite; empty if none is by itself.
        what: What is wrong there.
        rollbacks: How often this restart had gone back.
        tensors: `params/…` (constrained), `rows/0`, … (the minibatch as the model saw it), `control/…` and the random state.
        facts: What the tensors do not say.
    """

    epoch: int
    step: int
    restart: int
    batch: np.ndarray
    site: str
    what: str
    rollbacks: int
    tensors: dict[str, np.ndarray] = field(repr=False)
    facts: dict[str, Any] = field(repr=False)

    @property
    def sentence(self) -> str:
        rows = ", ".join(map(str, self.batch[:3])) + (", …" if len(self.batch) > 3 else "")
        where = f" at '{self.site}' ({self.what})" if self.site else ""
        tried = (f"; {self.rollbacks} returns to the last good state, each with half the step size, did not help"
                 if self.rollbacks else "")  # fmt: skip
        return (f"the loss or its gradient left the finite numbers{where} in step {self.step} of epoch {self.epoch} (restart "
                f"{self.restart}, rows {rows}){tried}; lower the learning rate, use float64, or look at those rows.")


class NonFinite(NumericalError):
    """Training stopped; `failure` says where, and holds what reproduces it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


def first_bad(found: Iterable[tuple[str, str, Any]]) -> tuple[str, str]:
    """Of (name, what it is, values) the first with a value that is not finite, as its name and a clause; else two blanks."""
    for name, what, values in found:
        spots = np.argwhere(~np.isfinite(np.asarray(values, float)))
        if len(spots):
            spot = tuple(map(int, spots[0]))
            place = f" at {spot if len(spot) != 1 else spot[0]}" if spot else ""
            return name, f"{what} is {np.asarray(values)[spot]}{place}"
    return "", ""
