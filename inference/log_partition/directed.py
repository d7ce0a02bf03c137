"""log p(x) of a deep belief net: its bound and importance estimate by recognition, and exactly where layers are narrow."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError
from ppl_models.energy import free_energy
from ppl_models.language import check_engine

from .exact import bits
from .layered import LARGEST, chunk
from .likelihood import unnormalised
from .mixture import log_mixture

ROWS = 1000  # at once


class Recognised(NamedTuple):
    """Of each row, nats, (rows,), log Z of the top not yet taken away.

    `elbo` is the mean over samples of log w, an unbiased estimate of E_q[log p(x, h)] + H(q); `importance` is log of the mean
    of w, which in expectation lies between that and log p(x).
    """

    elbo: np.ndarray
    importance: np.ndarray


def recognised(
    model: Any, params: Mapping[str, Any], x: np.ndarray, *, samples: int = 100, engine: str = "numpyro", seed: int = 0,
    dtype: str = "float64",
) -> Recognised:  # fmt: skip
    """log p(x) + log Z ≥ E_q[log w], w = exp(−F(h_{L−1})) ∏_{l<L} p(h_{l−1} | h_l) / q(h_l | h_{l−1}), and log E_q[w] is equal.

    F is the free energy of the top, so its hidden layer is summed in closed form; the layers between are drawn from q.
    Source: Hinton et al. 2006, section 4 (the bound); Salakhutdinov and Murray 2008, section 4 (its estimate); Burda, Grosse
    and Salakhutdinov 2016, eq. 8 (K samples).

    Raises:
        InputError: There is no sample.
    """
    if samples < 1:
        raise InputError(f"expected at least 1 sample, got {samples!r}; 100 are usual.")
    words = import_module(f"inference.kernels._{check_engine(engine)}")
    shared = import_module(f"inference._{engine}")
    out = []
    with shared.session(dtype):
        given = {name: shared.array(np.asarray(value)) for name, value in params.items()}
        run, rng_key = words.program(log_weights, model), words.seeded(seed)
        for i in range(0, len(x), ROWS):
            rows, drawn = shared.array(np.asarray(x[i : i + ROWS], float)), []
            for _ in range(samples):
                rng_key, log_w = run(rng_key, given, rows)
                drawn.append(np.asarray(log_w, np.float64))
            out.append(np.array(drawn))
    log_w = np.concatenate(out, 1)
    return Recognised(log_w.mean(0), np.logaddexp.reduce(log_w) - np.log(samples))


def log_weights(ppl: Any, model: Any, rng_key: Any, params: Any, x: Any) -> tuple[Any, Any]:
    """The next key, and log w of one draw for each row."""
    below, total = x, 0.0
    for name, above in model.directed:
        up = model.up(ppl, params, above, below)
        rng_key, u = ppl.uniform(rng_key, up)
        rng_key, h = ppl.flip(rng_key, u, up)
        down = model.down(ppl, params, name, h)
        total = total + log_bernoulli(ppl, down, below) - log_bernoulli(ppl, up, h)
        below = h
    return rng_key, total - free_energy(ppl, model.top, model.top_parameters(params), {"x": below})


def log_bernoulli(ppl: Any, logits: Any, bits: Any) -> Any:
    """log p(bits), nats, shape of the leading dims."""
    return (bits * logits - ppl.softplus(logits)).sum(-1)


def countable(model: Any, largest: int = 20) -> bool:
    """Whether `log_likelihood` has at most 2^largest states in a layer, and 2^(2 largest − 4) pairs of neighbours."""
    between = [model.sites[above] for _, above in model.directed] or [min(model.top.sites.values())]
    return max(between) <= largest and all(a + b <= 2 * largest - 4 for a, b in zip(between, between[1:], strict=False))


def log_likelihood(
    model: Any, params: Mapping[str, Any], x: np.ndarray, *, engine: str = "numpyro", dtype: str = "float64"
) -> tuple[np.ndarray, float]:
    """log p(x) of each row, nats, (rows,), and log Z of the top, all states of the layers between enumerated.

    p(h_{L−1}) = exp(−F(h_{L−1})) / Z, then downwards p(h_{l−1}) = Σ p(h_{l−1} | h_l) p(h_l): each is a mixture of products.

    Raises:
        InputError: A layer between has more than 26 units.
    """
    top, held = model.top, {name: np.asarray(value, np.float64) for name, value in model.top_parameters(params).items()}
    layers = [above for _, above in model.directed]
    if (widest := max([model.sites[name] for name in layers], default=0)) > LARGEST:
        raise InputError(f"expected at most {LARGEST} units in each layer between, got {widest}; use `recognised`.")
    if not layers:
        from .exact import exact

        log_z = exact(top, held, engine, dtype)
        return unnormalised(top, held, x, engine=engine, dtype=dtype) - log_z, log_z
    units = top.data_dim
    log_p = np.concatenate([unnormalised(top, held, bits(i, min(i + chunk(units), 2**units), units), engine=engine, dtype=dtype)
                            for i in range(0, 2**units, chunk(units))])  # fmt: skip
    log_z = float(np.logaddexp.reduce(log_p))
    log_p = log_p - log_z
    for name, above in reversed(model.directed):
        weight, bias = (np.asarray(params[key], np.float64) for key in (f"{above}.weight", f"{name}.bias"))
        units, step = model.sites[above], chunk(model.sites[name])
        for i in range(0, 2**units, step):
            last = min(i + step, 2**units)
            log_p[i:last] -= np.logaddexp(0.0, bits(i, last, units) @ weight.T + bias).sum(1)
        wide = model.sites[name]
        blocks = [np.asarray(x, float)] if name == "x" else [bits(i, min(i + chunk(wide), 2**wide), wide)
                                                             for i in range(0, 2**wide, chunk(wide))]  # fmt: skip
        log_p = np.concatenate([rows @ bias + log_mixture(rows @ weight, log_p) for rows in blocks])
    return log_p, log_z


def means(model: Any, params: Mapping[str, Any], x: np.ndarray, engine: str = "numpyro") -> np.ndarray:
    """Of each row, probabilities of the visible units of the top, recognition fed with probabilities, (rows, units)."""
    words, shared = import_module(f"inference.kernels._{engine}"), import_module(f"inference._{engine}")
    with shared.session("float64"):
        given = {name: shared.array(np.asarray(value)) for name, value in params.items()}
        out = shared.array(np.asarray(x, float))
        for _, above in model.directed:
            out = words.sigmoid(model.up(words, given, above, out))
        return np.asarray(shared.to_numpy({"means": out})["means"])
