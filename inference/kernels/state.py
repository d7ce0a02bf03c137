"""What a kernel carries from step to step, what it tells, and the draws that kernels have in common.

A kernel is a frozen dataclass with `init(ppl, rng_key, values)` and a pure `step(ppl, state, params, beta)`, which leaves
p(x)^β / Z(β) as it is. `ppl` is `inference.kernels._numpyro` or `_pyro`; every array has the chains in front, (chains, size)
a site. Randomness is handed on: each draw takes a key and returns the next one.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class State(NamedTuple):
    """The chains' sites by name, each (chains, size)."""

    rng_key: Any
    values: Any


class Info(NamedTuple):
    """The mean probability with which a proposal was taken, (chains,); 1 of a Gibbs kernel."""

    accept_prob: Any


def bernoulli(ppl: Any, rng_key: Any, logits: Any) -> tuple[Any, Any]:
    """The next key, and bits 0.0 or 1.0 with these log odds."""
    rng_key, u = ppl.uniform(rng_key, logits)
    return ppl.flip(rng_key, u, logits)


def always(ppl: Any, values: Any) -> Info:
    """Of a kernel that takes whatever it draws."""
    first = next(iter(values.values()))
    return Info(ppl.xp.ones_like(first[..., 0]))


def row(beta: Any) -> Any:
    """β of shape (…, 1), as it meets the units of a site, for numbers without that axis."""
    return beta if isinstance(beta, float) else beta[..., 0]


def columns(ppl: Any, model: Any, values: Any) -> Any:
    """All bits with the units in front, (units, …, chains), where one unit's in all chains lie side by side; to be used up."""
    return ppl.copy(ppl.xp.moveaxis(model.join(ppl, values), -1, 0))


def by_columns(ppl: Any, model: Any, units: Any) -> dict[str, Any]:
    """The inverse of `columns`."""
    return model.split(ppl.xp.moveaxis(units, 0, -1))
