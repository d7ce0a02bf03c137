"""Annealed importance sampling of log Z (Neal 2001; for Boltzmann machines Salakhutdinov and Murray 2008)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import numpy as np

from ppl_models import InputError
from ppl_models.energy import is_gaussian, summands
from ppl_models.language import check_engine

from ..estimate import Estimate
from ..kernels import BlockGibbs, ChromaticGibbs, SequentialGibbs, State
from . import from_base

Side = Literal["below", "above", "approximate"]


@dataclass(frozen=True, eq=False)
class Annealed:
    """An estimate of log Z.

    Attributes:
        log_partition: log of the mean weight times Z₀, nats, with its 95 % interval by the delta method.
        side: On which side of log Z the estimate lies in expectation: "below" of forward runs, "above" of reverse runs from
            exact draws of p, "approximate" of reverse runs from draws of a chain, which bound nothing.
        log_weights: What each chain by itself says of log Z, nats, (chains,): log (w Z₀), or backwards log (Z₀ / w).
        effective_samples: (Σ w)² / Σ w² of `chains`.
        log_start: log Z₀ of the start of the path, exact.
    """

    log_partition: Estimate
    side: Side
    log_weights: np.ndarray
    effective_samples: float
    log_start: float
    settings: dict[str, Any] = field(default_factory=dict)


def schedule(*parts: tuple[int, float]) -> np.ndarray:
    """Inverse temperatures from 0: each part gives so many equal steps up to so high.

    (500, 0.5), (4000, 0.9), (10000, 1.0) are those of Salakhutdinov and Murray 2008.
    """
    out, low = [np.zeros(1)], 0.0
    for steps, high in parts:
        out.append(np.linspace(low, high, steps + 1)[1:])
        low = high
    return np.concatenate(out)


def annealed(
    model: Any, params: Mapping[str, Any], *, engine: str = "numpyro", betas: int | Sequence[float] | np.ndarray = 1000,
    chains: int = 100, base: Mapping[str, Any] | None = None, draws: Mapping[str, np.ndarray] | None = None,
    exact_draws: bool = False, seed: int = 0, dtype: str = "float32", device: str | None = None,
) -> Annealed:  # fmt: skip
    """log Z by weights w = Π_k exp(F_k(x_k) − F_{k+1}(x_k)), x_k from a Gibbs sweep that leaves p_k ∝ exp(−F_k) as it is.

    E_k = (1 − β_k) E_base + β_k E over parameters, in which the energies are linear; layers that are independent given the
    others are summed in closed form (F). E[w] = Z / Z₀, so that the log of a mean is below log Z in expectation. From draws
    of p the path is run backwards: E[1 / w] = Z₀ / Z, and the estimate is above log Z if the draws are exact.
    An energy that offers a `readout`, a network, has its base of independent columns as the start; see `from_base`.

    Args:
        model: A declaration of an energy.
        params: Its parameters by name.
        engine: "numpyro" or "pyro".
        betas: So many equal steps from 0 to 1, or the β themselves, from 0 to 1.
        chains: Independent runs.
        base: Biases of a start without couplings, by name; zero where left out. The logits of the data's means are good.
        draws: Of every site, (chains, size): run backwards from these.
        exact_draws: They are exact draws of p, and not states of a chain.
        seed: Of everything random.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: The β do not rise from 0 to 1, a base name is not a bias, or the energy offers no path to anneal along.
    """
    ladder = np.linspace(0, 1, betas + 1) if isinstance(betas, int) else np.asarray(betas, float)
    if ladder[0] != 0 or ladder[-1] != 1 or (np.diff(ladder) <= 0).any():
        raise InputError("expected inverse temperatures that rise from 0 to 1; give a number of steps, or use `schedule`.")
    network = hasattr(model, "readout")
    if not (network or hasattr(model, "logits")):
        raise InputError(f"expected an energy with `logits`, linear in its parameters, or a `readout`, got "
                         f"{type(model).__name__}; enumerate a small one by `exact`.")  # fmt: skip
    for name in () if network else base or {}:
        if name not in params or not name.endswith("bias"):
            raise InputError(f"expected biases as a base, got '{name}'; the model's are "
                             f"{', '.join(n for n in params if n.endswith('bias'))}.")  # fmt: skip
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    with shared.session(dtype, device):
        end = {name: shared.array(np.asarray(value)) for name, value in params.items()}
        if network:
            start = from_base.base_of(model, end, {name: shared.array(np.asarray(v)) for name, v in (base or {}).items()})
        else:
            start = {name: fixed(model, name, value, (base or {}).get(name), shared) for name, value in end.items()}
        log_start = 0.0 if network else float(uncoupled(words, model, start))
        given = None if draws is None else {name: shared.array(np.asarray(v)) for name, v in draws.items()}
        count = chains if given is None else len(next(iter(given.values())))
        path = ladder if given is None else ladder[::-1].copy()
        run = words.program(from_base.along if network else along, model, count)
        log_w = np.asarray(run(words.seeded(seed), start, end, shared.array(path), given)[1], np.float64)
    return summary(log_start, log_w, draws is not None, exact_draws, {"betas": len(ladder), "chains": count, "seed": seed,
                                                                      "dtype": dtype, "engine": engine})  # fmt: skip


def fixed(model: Any, name: str, value: Any, base: Any, shared: Any) -> Any:
    """Where a parameter starts: what shapes the space stays, couplings are off."""
    if name.endswith(("offset", "scale")) or (name == "x.bias" and is_gaussian(model)):
        return value
    return 0.0 * value if base is None else shared.array(np.asarray(base)) + 0.0 * value


def pooled(log_weights: np.ndarray) -> Estimate:
    """log Z from the `log_weights` of several forward runs of one path together."""
    return summary(0.0, np.asarray(log_weights, np.float64), False, False, {}).log_partition


def summary(log_start: float, log_w: np.ndarray, reverse: bool, exact_draws: bool, settings: dict[str, Any]) -> Annealed:
    """The estimate of forward weights w, or of reverse weights 1 / w."""
    top = log_w.max()
    w = np.exp(log_w - top)
    log_mean, error = top + np.log(w.mean()), w.std(ddof=1) / w.mean() / np.sqrt(len(w))
    sign = -1.0 if reverse else 1.0
    value = log_start + sign * log_mean
    side: Side = "below" if not reverse else "above" if exact_draws else "approximate"
    return Annealed(Estimate(value, value - 1.96 * error, value + 1.96 * error), side, log_start + sign * log_w,
                    float(w.sum() ** 2 / (w**2).sum()), log_start, settings)  # fmt: skip


def uncoupled(ppl: Any, model: Any, params: Mapping[str, Any]) -> Any:
    """log Z of parameters without couplings: every unit by itself."""
    some = next(iter(params.values()))
    blank = {name: ppl.xp.zeros(size, dtype=some.dtype) for name, size in model.sites.items()}
    if is_gaussian(model):
        # ∫ exp(−½ ‖(x − b) / σ‖²) dx; at x = b what is left of E is that of the bits.
        blank |= {"x": params["x.bias"]}
        out = model.data_dim / 2 * np.log(2 * np.pi) + ppl.xp.log(params["x.scale"]).sum() - model.energy(ppl, params, blank)
        return out + ppl.softplus(model.logits(ppl, params, blank, "h")).sum()
    out = -model.energy(ppl, params, blank)
    for _, logits in unit_logits(ppl, model, params, blank):
        out = out + ppl.softplus(logits).sum()
    return out


def unit_logits(ppl: Any, model: Any, params: Mapping[str, Any], values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The log odds of the units of each site given the others, at these values."""
    if hasattr(model, "colours"):
        names = [name for name in model.sites if not (name == "x" and is_gaussian(model))]
        return [(name, model.logits(ppl, params, values, name)) for name in names]
    units = model.logits(ppl, model.prepared(ppl, params), model.join(ppl, values))
    return list(model.split(units).items())


def kernel(model: Any) -> Any:
    """A Gibbs sweep that suits the model's graph; of a network, which has none, what its gradient guides."""
    if hasattr(model, "colours"):
        return BlockGibbs(model)
    if hasattr(model, "edges"):
        return SequentialGibbs(model) if model.edges is None else ChromaticGibbs(model)
    return from_base.kernel(model)


def along(ppl: Any, model: Any, chains: int, rng_key: Any, start: Any, end: Any, path: Any, draws: Any) -> tuple[Any, Any]:
    """The next key, and Σ_k F_k(x_k) − F_{k+1}(x_k) of each chain along the path of β; the start is drawn unless given."""
    kept = model.colours[1] if hasattr(model, "colours") else tuple(model.sites)
    sweep, some = kernel(model), next(iter(start.values()))

    def between(beta: Any) -> dict[str, Any]:
        return {name: (1 - beta) * start[name] + beta * end[name] for name in start}

    blank = {name: ppl.xp.zeros((1, size), dtype=some.dtype) for name, size in model.sites.items()}
    alone = dict(unit_logits(ppl, model, start, blank))

    def parts(values: Any) -> tuple[Any, Any, Any]:
        """Of F along the path: E₀ at the start, E₀ and log odds at the end."""
        given = {name: values[name] for name in kept}
        energy, logits = summands(ppl, model, end, given)
        if is_gaussian(model):
            return summands(ppl, model, start, given)[0], energy, logits
        # Without couplings E is affine in the bits: no product with a matrix of zeros.
        first = model.energy(ppl, start, blank) - sum((alone[name] * bits).sum(-1) for name, bits in given.items())
        return first, energy, logits

    def free_at(beta: Any, parts: Any) -> Any:
        first, last, logits = parts
        out = (1 - beta) * first + beta * last
        return out - sum(ppl.softplus((1 - beta) * alone[name] + beta * odds).sum(-1) for name, odds in logits.items())

    def step(k: Any, carry: Any) -> Any:
        rng_key, values, total, lost = carry
        found = parts(values)
        # Compensated summation (Kahan 1965): thousands of small terms beside a sum of hundreds of nats.
        term = free_at(path[k], found) - free_at(path[k + 1], found) - lost
        after = total + term
        lost = (after - total) - term
        state, _ = sweep.step(ppl, State(rng_key, values), between(path[k + 1]))
        return state.rng_key, state.values, after, lost

    if draws is None:
        draws = {}
        for name, size in model.sites.items():
            wide = ppl.xp.zeros((chains, size), dtype=some.dtype)
            if name == "x" and is_gaussian(model):
                loc, scale = model.normal(ppl, start, blank)
                rng_key, noise = ppl.normal(rng_key, wide)
                draws[name] = loc + scale * noise
            else:
                rng_key, u = ppl.uniform(rng_key, wide)
                rng_key, draws[name] = ppl.flip(rng_key, u, alone[name] + wide)
    zero = 0.0 * next(iter(draws.values()))[..., 0]
    rng_key, _, total, _ = ppl.loop(path.shape[0] - 1, step, (rng_key, draws, zero, zero))
    return rng_key, total
