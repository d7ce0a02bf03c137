"""Training with NumPyro: an epoch is one compiled scan over shuffled minibatches, the data stays on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as xp
import numpy as np
import optax
from jax import lax, random

from .._numpyro import Coordinates, array, coordinates, parameters, to_numpy
from ..checks import check_init
from ..estimators import Spec
from ..estimators._numpyro import EstimatorELBO, elbo_rows, make
from .epoch import Epoch


class Carry(NamedTuple):
    """All that one epoch hands to the next; `params` are unconstrained."""

    params: dict[str, Any]
    optimiser: Any
    control: dict[str, Any]
    rng_key: Any


@partial(jax.jit, static_argnames=("model", "guide"))
def start(rng_key: Any, init: Mapping[str, Any] | None, example: Any, *, model: Any, guide: Any) -> tuple[Any, Any, Any]:
    """Unconstrained parameters, Adam's state and the key to run with; one compilation serves every estimator."""
    init_key, run_key = random.split(rng_key)
    values, shape = parameters(model, guide, (example,), {}, init_key)
    if init is not None:
        values = {name: xp.asarray(init[name], v.dtype) for name, v in values.items()}
    free = shape.free(values)
    return free, optax.adam(0.0).init(free), run_key


class Trainer(NamedTuple):
    """One training set-up: its coordinates, the controls' first state and the compiled epoch."""

    shape: Coordinates
    control: dict[str, Any]
    epoch: Any  # (Carry, data) -> (Carry, losses)


@lru_cache(maxsize=32)
def trainer(model: Any, guide: Any, elbo: Any, lr: float, batch: int, dynamic: bool, restarts: int, like: Any) -> Trainer:
    """The training programs for data shaped as `like` = (shape, dtype); equal set-ups share one compilation."""
    total, steps = like[0][0], like[0][0] // batch
    example = xp.zeros((batch, *like[0][1:]), like[1])
    shape, optimiser, control = coordinates(model, guide, (example,), {}), optax.adam(lr), {}
    if isinstance(elbo, EstimatorELBO):
        control = elbo.init_state(elbo.plan(model, guide, (example,), {}, {})[0])

    def epoch(carry: Carry, x: Any) -> tuple[Carry, Any]:
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

    if restarts > 1:
        epoch = jax.vmap(epoch, in_axes=(0, None))
    return Trainer(shape, control, Compiled(jax.jit(epoch, donate_argnums=0)))


class Compiled:
    """A jitted function whose compilation is asked for, so that it is never timed as a step."""

    def __init__(self, fn: Any) -> None:
        self.fn, self.program = fn, None

    def compile(self, *args: Any) -> None:
        if self.program is None:
            self.program = self.fn.lower(*args).compile()

    def __call__(self, *args: Any) -> Any:
        return self.program(*args) if self.program is not None else self.fn(*args)


def epochs(
    model: Any, guide: Any, x: Any, *, estimator: Spec, num_epochs: int, batch: int, lr: float, seeds: tuple[int, ...],
    dynamic: bool, init: tuple[Mapping[str, Any] | None, ...],
) -> Iterator[Epoch]:  # fmt: skip
    """Train from every seed at once (restarts are vectorised); one `Epoch` a pass over the data."""
    began, x = perf_counter(), array(x)
    shape, control, epoch = trainer(model, guide, make(estimator), lr, batch, dynamic, len(seeds), (x.shape, x.dtype))
    starts = []
    for seed, values in zip(seeds, init, strict=True):
        given = None if values is None else {name: array(value) for name, value in values.items()}
        if given is not None:
            free = jax.eval_shape(lambda: start(random.key(0), None, x[:batch], model=model, guide=guide))[0]
            check_init(given, {name: leaf.shape for name, leaf in free.items()})
        starts.append(start(random.key(seed), given, x[:batch], model=model, guide=guide))
    carries = [Carry(free, adam, jax.tree.map(xp.copy, control), key) for free, adam, key in starts]
    carry = carries[0] if len(seeds) == 1 else jax.tree.map(lambda *leaves: xp.stack(leaves), *carries)
    if num_epochs:
        epoch.compile(carry, x)
    setup = perf_counter() - began

    def snapshot(carry: Carry) -> list[dict[str, np.ndarray]]:
        stacked = to_numpy(shape.constrain(carry.params))
        return [stacked] if len(seeds) == 1 else [{n: v[i] for n, v in stacked.items()} for i in range(len(seeds))]

    yield Epoch(0, 0, 0.0, setup, np.zeros((len(seeds), 0)), snapshot(carry))
    for number in range(1, num_epochs + 1):
        began = perf_counter()
        carry, losses = epoch(carry, x)
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
    values = _rows(random.key(seed), params, array(padded), model=model, guide=guide)
    return None if values is None else np.asarray(values, np.float64).reshape(-1)[: len(x)]
