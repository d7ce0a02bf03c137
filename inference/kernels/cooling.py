"""Simulated annealing: any kernel as the temperature falls, towards the lowest energy (Kirkpatrick et al. 1983)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError

from .state import Info, State


class Cooled(NamedTuple):
    """The chains' sites by name, each (chains, size), after so many steps."""

    rng_key: Any
    values: Any
    step: Any


@dataclass(frozen=True)
class Cooling:
    """Step t = 0, 1, … of `kernel` at β_t, which leaves p^β_t as it is: what is drawn is no sample of p, but a state of low E.

    `betas` are the inverse temperatures by step (see `geometric_schedule` and its like); after the last of them it stays.
    A step's own β, where one is given, multiplies them.

    Raises:
        InputError: There is no β, or one is below 0, not finite, or below the one before it.
    """

    kernel: Any
    betas: Sequence[float] | np.ndarray

    def __post_init__(self) -> None:
        betas = np.asarray(self.betas, float)
        if not betas.size or not np.isfinite(betas).all() or betas[0] < 0 or (np.diff(betas) < 0).any():
            raise InputError(
                "expected inverse temperatures that do not fall, finite and none below 0, got "
                f"{np.array2string(betas, threshold=6)}; give them as by `geometric_schedule(1000, 0.1, 10.0)`."
            )
        object.__setattr__(self, "betas", tuple(map(float, betas)))  # hashed by value, as what decides a program

    @property
    def model(self) -> Any:
        return self.kernel.model

    def init(self, ppl: Any, rng_key: Any, values: Any) -> Cooled:
        some = next(iter(values.values()))
        return Cooled(rng_key, dict(values), ppl.xp.zeros_like(some[0, 0], dtype=ppl.xp.int32))

    def step(self, ppl: Any, state: Cooled, params: Any, beta: Any = 1.0) -> tuple[Cooled, Info]:
        some = next(iter(state.values.values()))
        now = ppl.constant(self.betas, some)[ppl.xp.clip(state.step, max=len(self.betas) - 1)]
        # Of two axes, as kernels expect of a β that is an array: before the chains and after them.
        inner, info = self.kernel.step(ppl, State(state.rng_key, state.values), params, beta * now[None, None])
        return Cooled(inner.rng_key, inner.values, state.step + 1), info


def linear_schedule(steps: int, first: float, last: float) -> np.ndarray:
    """β_t = first + (last − first) t / (steps − 1), (steps,)."""
    return np.linspace(first, last, checked(steps, first, last))


def geometric_schedule(steps: int, first: float, last: float) -> np.ndarray:
    """β_t = first (last / first)^(t / (steps − 1)), (steps,): temperatures in equal ratios (Kirkpatrick et al. 1983).

    Raises:
        InputError: The first is 0, of which no ratio leads on.
    """
    if not first > 0:
        raise InputError(f"expected a first β above 0, got {first!r}; give 0.1, or use `linear_schedule`.")
    return np.geomspace(first, last, checked(steps, first, last))


def logarithmic_schedule(steps: int, last: float) -> np.ndarray:
    """β_t = last · log(2 + t) / log(1 + steps), (steps,): T falls as 1 / log t (Geman and Geman 1984).

    So slowly cooled, with T times log t above what the deepest trap holds back, the chain ends in a ground state for certain;
    steps enough for that are seldom at hand.
    """
    return last * np.log(2.0 + np.arange(checked(steps, 0.0, last))) / np.log(1.0 + steps)


def checked(steps: int, first: float, last: float) -> int:
    """The steps of a schedule that rises from a β to another."""
    if steps < 2 or not 0 <= first < last < np.inf:
        raise InputError(f"expected at least 2 steps from a β of at least 0 up to a higher one, got {steps} from {first!r} to "
                         f"{last!r}; give 1000, 0.1 and 10.0 or the like.")  # fmt: skip
    return steps
