"""A lower estimate of log p(x) by annealing backwards from x: RAISE (Burda, Grosse and Salakhutdinov 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import InputError
from ppl_models.energy import free_energy
from ppl_models.language import check_engine

from .. import estimate
from ..estimate import Estimate
from ..kernels import BlockGibbs, State
from .annealed import fixed, uncoupled

AT_ONCE = 20_000  # chains


@dataclass(frozen=True, eq=False)
class Raised:
    """Estimates of log p_ann(x), which `raised` says what it is.

    Attributes:
        mean: Over the rows, nats per datum, with the 95 % interval of the choice of rows and of the chains.
        log_p: Of each row, nats, (rows,): the log of the mean of its chains' weights, in expectation below log p_ann(x).
        effective_samples: (Σ w)² / Σ w² of each row's chains, (rows,): near 1, the row's value is far below.
    """

    mean: Estimate
    log_p: np.ndarray
    effective_samples: np.ndarray


def raised(
    model: Any, params: Mapping[str, Any], x: np.ndarray, *, engine: str = "numpyro",
    betas: int | Sequence[float] | np.ndarray = 1000, chains: int = 50, base: Mapping[str, Any] | None = None, seed: int = 0,
    dtype: str = "float32", device: str | None = None,
) -> Raised:  # fmt: skip
    """log of a mean of w = p₀(x₀) Π_k exp(F_k(x_{k−1}) − F_k(x_k)), x_K = x and x_{k−1} drawn by a sweep at β_k from x_k.

    p_ann is where forward annealing ends: x₀ from p₀, then a sweep h | x, x | h of each p_k ∝ exp(−F_k), the last of them the
    model's. As x moves by itself such a sweep is its own reversal, so E[w] = p_ann(x), and log of a mean of w is below
    log p_ann(x) in expectation. It bounds the likelihood of p_ann, a law that can be normalised, and not that of the model:
    p_ann approaches p with the number of β, from a side that nobody knows, and what annealing never finds is missing of it.
    Beside `annealed`, whose log p(x) is too high in expectation, it tells how far both may be off.
    Source: Burda et al. 2015, algorithm 2.

    Args:
        model: A declaration of a restricted Boltzmann machine.
        params: Its parameters by name.
        x: Rows, (rows, data_dim).
        engine: "numpyro" or "pyro".
        betas: So many equal steps from 0 to 1, or the β themselves, from 0 to 1.
        chains: Of each row.
        base: Biases of the start by name, as of `annealed`.
        seed: Of everything random.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        InputError: The model has not one visible and one hidden layer, the β do not rise from 0 to 1, or x has other columns.
    """
    path = np.linspace(0, 1, betas + 1) if isinstance(betas, int) else np.asarray(betas, float)
    if path[0] != 0 or path[-1] != 1 or (np.diff(path) <= 0).any():
        raise InputError("expected inverse temperatures that rise from 0 to 1; give a number of steps, or use `schedule`.")
    if not hasattr(model, "colours") or len(model.sites) != 2:
        raise InputError(f"expected a restricted Boltzmann machine, got {type(model).__name__}, whose sweeps are not their own "
                         "reversal; use `annealed` from both sides.")  # fmt: skip
    x = np.asarray(x, float)
    if x.ndim != 2 or x.shape[1] != model.sites["x"]:
        raise InputError(f"expected rows of {model.sites['x']} columns, got an array of shape {x.shape}; give such.")
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    rows, log_w = max(1, AT_ONCE // chains), []
    with shared.session(dtype, device):
        end = {name: shared.array(np.asarray(value, float)) for name, value in params.items()}
        start = {name: fixed(model, name, value, (base or {}).get(name), shared) for name, value in end.items()}
        run, rng_key = words.program(down, model), words.seeded(seed)
        for i in range(0, len(x), rows):
            some = shared.array(np.repeat(x[i : i + rows], chains, 0))
            rng_key, found = run(rng_key, start, end, shared.array(path), some)
            log_w.append(np.asarray(found, np.float64).reshape(-1, chains))
    return summary(np.concatenate(log_w))


def down(ppl: Any, model: Any, rng_key: Any, start: Any, end: Any, path: Any, x: Any) -> tuple[Any, Any]:
    """The next key, and log w of each chain, the last β first."""
    sweep, last = BlockGibbs(model), path.shape[0] - 1
    h = ppl.xp.zeros((x.shape[0], model.sites["h"]), dtype=x.dtype)

    def step(i: Any, carry: Any) -> Any:
        rng_key, values, total, lost = carry
        beta = path[last - i]
        here = {name: (1 - beta) * start[name] + beta * end[name] for name in start}
        state, _ = sweep.step(ppl, State(rng_key, values), here)
        gone, come = (free_energy(ppl, model, here, {"x": v["x"]}) for v in (values, state.values))
        term = come - gone - lost  # compensated summation (Kahan 1965), as in `annealed`
        after = total + term
        return state.rng_key, state.values, after, (after - total) - term

    zero = 0.0 * x[..., 0]
    rng_key, values, total, _ = ppl.loop(last, step, (rng_key, {"x": x, "h": h}, zero, zero))
    return rng_key, total - free_energy(ppl, model, start, {"x": values["x"]}) - uncoupled(ppl, model, start)


def summary(log_w: np.ndarray) -> Raised:
    """Of the rows' chains, (rows, chains)."""
    top = log_w.max(1, keepdims=True)
    w = np.exp(log_w - top)
    log_p = top[:, 0] + np.log(w.mean(1))
    return Raised(estimate.mean(log_p), log_p, w.sum(1) ** 2 / (w**2).sum(1))
