"""Training with NumPyro: an epoch is one compiled scan over shuffled minibatches, the data stays on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as xp
import numpy as np
import optax
from jax import lax, random

from .._numpyro import array, coordinates, parameters, to_numpy
from ..estimators import Spec
from ..estimators._numpyro import EstimatorELBO, elbo_rows, make
from .epoch import Epoch


class Carry(NamedTuple):
    """All that one epoch hands to the next; `params` are unconstrained."""

    params: dict[str, Any]
    optimiser: Any
    control: dict[str, Any]
    rng_key: Any


@partial(jax.jit, static_argnames=("model", "guide", "elbo", "lr", "batch", "dynamic"), donate_argnums=0)
def run_epoch(carry: Carry, x: Any, *, model: Any, guide: Any, elbo: Any, lr: float, batch: int, dynamic: bool) -> Any:
    """One pass over `x` in a new order; a last incomplete minibatch is left out. Returns the carry and the losses."""
    total, steps = x.shape[0], x.shape[0] // batch
    shape = coordinates(model, guide, (x[:batch],), {})
    optimiser = optax.adam(lr)
    rng_key, shuffle = random.split(carry.rng_key)
    order = random.permutation(shuffle, total)[: steps * batch].reshape(steps, batch)

    def step(carry: Carry, index: Any) -> tuple[Carry, Any]:
        rng_key, draw, pixels = random.split(carry.rng_key, 3)
        rows = x[index]
        if dynamic:
            rows = random.bernoulli(pixels, rows).astype(rows.dtype)

        def loss(free: Any) -> Any:
            value, control = elbo.evaluate(draw, shape.constrain(free), carry.control, model, guide, (rows,), {})
            return value / total, control

        (value, control), gradient = jax.value_and_grad(loss, has_aux=True)(carry.params)
        updates, state = optimiser.update(gradient, carry.optimiser)
        return Carry(optax.apply_updates(carry.params, updates), state, control, rng_key), value  # type: ignore[arg-type]

    return lax.scan(step, carry._replace(rng_key=rng_key), order)


def epochs(
    model: Any, guide: Any, x: Any, *, estimator: Spec, num_epochs: int, batch: int, lr: float, seeds: tuple[int, ...],
    dynamic: bool, init: Mapping[str, Any] | None,
) -> Iterator[Epoch]:  # fmt: skip
    """Train from every seed at once (restarts are vectorised); one `Epoch` a pass over the data."""
    x, elbo = array(x), make(estimator)
    shape = coordinates(model, guide, (x[:batch],), {})

    def start(rng_key: Any) -> Carry:
        init_key, run_key = random.split(rng_key)
        values = parameters(model, guide, (x[:batch],), {}, init_key)[0]
        free = shape.free(values if init is None else {n: xp.asarray(init[n], dtype=v.dtype) for n, v in values.items()})
        control = {}
        if isinstance(elbo, EstimatorELBO):
            control = elbo.init_state(elbo.plan(model, guide, (x[:batch],), {}, values)[0])
        return Carry(free, optax.adam(lr).init(free), control, run_key)

    began = perf_counter()
    keys = xp.stack([random.key(s) for s in seeds])
    one = partial(run_epoch, model=model, guide=guide, elbo=elbo, lr=lr, batch=batch, dynamic=dynamic)
    if len(seeds) == 1:
        carry = jax.jit(start)(keys[0])
        compiled = run_epoch.lower(carry, x, **one.keywords).compile()
    else:
        carry = jax.jit(jax.vmap(start))(keys)
        compiled = jax.jit(jax.vmap(one, in_axes=(0, None)), donate_argnums=0).lower(carry, x).compile()
    setup = perf_counter() - began

    def snapshot(carry: Carry) -> list[dict[str, np.ndarray]]:
        stacked = shape.constrain(carry.params)
        return [to_numpy({n: v if len(seeds) == 1 else v[i] for n, v in stacked.items()}) for i in range(len(seeds))]

    yield Epoch(0, 0, 0.0, setup, np.zeros((len(seeds), 0)), snapshot(carry))
    for number in range(1, num_epochs + 1):
        began = perf_counter()
        carry, losses = compiled(carry, x)
        losses = np.asarray(jax.block_until_ready(losses), np.float64).reshape(len(seeds), -1)
        yield Epoch(number, losses.shape[1], perf_counter() - began, setup, losses, snapshot(carry))


@partial(jax.jit, static_argnames=("model", "guide"))
def _rows(rng_key: Any, params: Any, chunks: Any, *, model: Any, guide: Any) -> Any:
    def one(args: Any) -> Any:
        key, chunk = args
        return elbo_rows(key, params, model, guide, (chunk,), {})

    return lax.map(one, (random.split(rng_key, chunks.shape[0]), chunks))


def heldout(params: Mapping[str, Any], model: Any, guide: Any, x: Any, seed: int, chunk: int = 1000) -> np.ndarray | None:
    """One-sample ELBO of each row of `x`, nats; None if the model has no plate over the data."""
    size = min(chunk, len(x))
    padded = np.concatenate([x, np.repeat(x[:1], -len(x) % size, 0)]).reshape(-1, size, *x.shape[1:])
    params = {name: array(value) for name, value in params.items()}
    if jax.eval_shape(lambda k: elbo_rows(k, params, model, guide, (array(padded[0]),), {}), random.key(0)) is None:
        return None
    values = _rows(random.key(seed), params, array(padded), model=model, guide=guide)
    return np.asarray(values, np.float64).reshape(-1)[: len(x)]
