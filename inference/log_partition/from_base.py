"""Annealing of a network's energy from its base, independent columns, to itself (Neal 2001)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppl_models import InputError
from ppl_models.energy import is_gaussian

from ..kernels import DiscreteLangevin, Langevin, Stepped
from ..kernels.step_size import nudged

PILOT = 50  # chains that find the step sizes
GAIN = 0.2  # by how much a temperature of the pilot corrects the step of the next


def kernel(model: Any) -> Any:
    """What moves the states of a network, which has no conditionals in closed form: its gradient."""
    return Langevin(model) if is_gaussian(model) else DiscreteLangevin(model)


def base_of(model: Any, params: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the start: the network's last layer is 0; over bits the columns' log odds may be `given`.

    Raises:
        InputError: Anything else is given.
    """
    allowed = [] if is_gaussian(model) else ["x.bias"]
    for name in given:
        if name not in allowed:
            raise InputError(f"expected a base of {', '.join(allowed) or 'nothing, for reals'}, got '{name}'; leave it out: "
                             "the path starts from the model's own columns.")  # fmt: skip
    off = {name: 0.0 * params[name] for name in model.readout}
    return {**params, **off, **{name: value + 0.0 * params[name] for name, value in given.items()}}


def drawn(ppl: Any, model: Any, rng_key: Any, params: Any, chains: int) -> tuple[Any, dict[str, Any]]:
    """The next key, and draws of the base, (chains, data_dim)."""
    wide = params["x.bias"] + ppl.xp.zeros((chains, model.data_dim), dtype=params["x.bias"].dtype)
    if is_gaussian(model):
        rng_key, noise = ppl.normal(rng_key, wide)
        return rng_key, {"x": wide + params["x.scale"] * noise}
    rng_key, u = ppl.uniform(rng_key, wide)
    rng_key, bits = ppl.flip(rng_key, u, wide)
    return rng_key, {"x": bits}


def along(ppl: Any, model: Any, chains: int, rng_key: Any, start: Any, end: Any, path: Any, draws: Any) -> tuple[Any, Any]:
    """The next key, and log w of each chain, (chains,), by steps of sizes that a pilot of 50 other runs has found."""
    rng_key, few = drawn(ppl, model, rng_key, start, min(PILOT, chains))
    few = few if draws is None else {"x": draws["x"][:PILOT]}
    rng_key, _, sizes = weighed(ppl, model, rng_key, start, end, path, few, None)
    if draws is None:
        rng_key, draws = drawn(ppl, model, rng_key, start, chains)
    return weighed(ppl, model, rng_key, start, end, path, draws, sizes)[:2]


def weighed(
    ppl: Any, model: Any, rng_key: Any, start: Any, end: Any, path: Any, draws: Any, sizes: Any
) -> tuple[Any, Any, Any]:
    """The next key, log w = Σ_k (βₖ₊₁ − βₖ) (E₀(x_k) − E(x_k)) of each chain, and the step size used at each temperature.

    E_β = (1 − β) E₀ + β E: up to a constant in x, the energy of parameters between those of the start and the end, in which
    it is linear where they differ. `sizes` (temperatures − 1,), frozen, make E[w] = Z / Z₀ with Z₀ = 1; None adapts each to
    what the temperature before it has taken, for a pilot.
    """
    moves, frozen = kernel(model), sizes is not None

    def step(k: Any, carry: Any) -> Any:
        rng_key, values, total, lost, used, size = carry
        gap = model.energy(ppl, start, values) - model.energy(ppl, end, values)
        # Compensated summation (Kahan 1965): thousands of small terms beside a sum of hundreds of nats.
        term = (path[k + 1] - path[k]) * gap - lost
        after = total + term
        lost = (after - total) - term
        size = sizes[k] if frozen else size
        between = {name: (1 - path[k + 1]) * start[name] + path[k + 1] * end[name] for name in start}
        state, info = moves.step(ppl, Stepped(rng_key, values, size), between)
        used = used if frozen else ppl.put(used, k, size)
        size = size if frozen else nudged(ppl, size, info.accept_prob, GAIN)
        return state.rng_key, state.values, after, lost, used, size

    zero = 0.0 * draws["x"][..., 0]
    used = sizes if frozen else 0.0 * path[:-1]
    size = sizes[0] if frozen else ppl.constant(moves.first, zero)
    rng_key, _, total, _, used, _ = ppl.loop(path.shape[0] - 1, step, (rng_key, draws, zero, zero, used, size))
    return rng_key, total, used
