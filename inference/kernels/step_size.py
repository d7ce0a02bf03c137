"""Step sizes that a pilot run adapts to a rate of acceptance, and that then stay (Robbins and Monro 1951)."""

from __future__ import annotations

from typing import Any, NamedTuple

from ppl_models import InputError

TARGET = 0.574  # of proposals taken: best for Langevin in high dimension (Roberts and Rosenthal 1998, theorem 2)


class Stepped(NamedTuple):
    """As `State`, and the step size () in use: a kernel's step reads it and hands it on as it is."""

    rng_key: Any
    values: Any
    step_size: Any


def nudged(ppl: Any, step_size: Any, accept_prob: Any, gain: Any) -> Any:
    """ε exp(g (a − 0.574)), a the mean of `accept_prob` over chains: the law is kept only by steps between which ε stays.

    At most 1,000: where bits hardly hang together every proposal is taken, however large ε is.
    """
    return ppl.xp.clip(step_size * ppl.xp.exp(gain * (accept_prob.mean() - TARGET)), max=1000.0)


def gain(i: Any) -> Any:
    """How far step i = 0, 1, … of a pilot moves log ε: the sum of these diverges and that of their squares does not."""
    return 2.0 / (1.0 + i) ** 0.6


def pilot(ppl: Any, kernel: Any, state: Any, params: Any, beta: Any = 1.0, steps: int = 200) -> Any:
    """A `Stepped` state after so many steps between which ε was moved towards 57.4 % of proposals taken; any other as it is.

    Pure; the draws on the way are none of p. Freeze what it returns: `kernel.step` does not move ε.
    """
    if not isinstance(state, Stepped):
        return state

    def step(i: Any, state: Any) -> Any:
        after, info = kernel.step(ppl, state, params, beta)
        return after._replace(step_size=nudged(ppl, after.step_size, info.accept_prob, gain(i)))

    return ppl.loop(steps, step, state)


def swept(ppl: Any, kernel: Any, sweeps: int, state: Any, params: Any) -> Any:
    """The state after so many steps of a kernel, those of a pilot that finds its step size not counted."""
    state = pilot(ppl, kernel, state, params)
    return ppl.loop(sweeps, lambda _, state: kernel.step(ppl, state, params)[0], state)


def check_step(step_size: float | None) -> None:
    """Raise `InputError` of a step size that is given and not positive."""
    if step_size is not None and not step_size > 0:
        raise InputError(f"expected a step size above 0, got {step_size!r}; give one such as 0.1, or leave it to a pilot.")
