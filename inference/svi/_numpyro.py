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
from .schedule import Schedule


class Carry(NamedTuple):
    """All that one epoch hands to the next; `params` are unconstrained."""

    params: dict[str, Any]
    optimisers: tuple[Any, ...]  # one for each group of parameters that move together
    control: dict[str, Any]
    rng_key: Any
    step: Any


@partial(jax.jit, static_argnames=("model", "guide"))
def start(rng_key: Any, init: Mapping[str, Any] | None, example: tuple, *, model: Any, guide: Any) -> tuple[Any, Any]:
    """Unconstrained parameters and the key to run with; one compilation serves every estimator."""
    init_key, run_key = random.split(rng_key)
    values, shape = parameters(model, guide, example, {}, init_key)
    if init is not None:
        values = {name: xp.asarray(init[name], v.dtype) for name, v in values.items()}
    return shape.free(values), run_key


class Trainer(NamedTuple):
    """One training set-up: its coordinates, what moves together, the controls' first state and the compiled epoch."""

    shape: Coordinates
    groups: tuple[tuple[str, ...], ...]
    control: dict[str, Any]
    epoch: Any  # (Carry, data) -> (Carry, losses)


@lru_cache(maxsize=32)
def trainer(
    model: Any, guide: Any, elbo: Any, schedule: Schedule, lr: float, batch: int, dynamic: bool, restarts: int, like: Any
) -> Trainer:
    """The training programs for arrays shaped as `like`, ((shape, dtype), …); equal set-ups share one compilation."""
    total, steps = like[0][0][0], like[0][0][0] // batch
    example = tuple(xp.zeros((batch, *shape[1:]), dtype) for shape, dtype in like)
    shape, optimiser, control = coordinates(model, guide, example, {}), optax.adam(lr), {}
    groups = schedule.groups(shape.constraints, shape.model_names)
    if isinstance(elbo, EstimatorELBO):
        control = elbo.init_state(elbo.plan(model, guide, example, {}, {})[0])

    def epoch(carry: Carry, data: tuple) -> tuple[Carry, Any]:
        rng_key, shuffle = random.split(carry.rng_key)
        order = random.permutation(shuffle, total)[: steps * batch].reshape(steps, batch)

        def step(carry: Carry, index: Any) -> tuple[Carry, Any]:
            rng_key, draw, pixels = random.split(carry.rng_key, 3)
            rows = tuple(x[index] for x in data)
            if dynamic:
                rows = (random.bernoulli(pixels, rows[0]).astype(rows[0].dtype), *rows[1:])
            beta, value, params, control, optimisers = schedule.weight(carry.step, steps), None, carry.params, carry.control, []
            for i, names in enumerate(groups):
                key = draw if len(groups) == 1 else random.fold_in(draw, i)

                def loss(moving: Any, params: Any = params, control: Any = control, key: Any = key) -> Any:
                    constrained = shape.constrain({**params, **moving})
                    value, after = elbo.evaluate(key, constrained, control, model, guide, rows, {}, beta=beta)
                    return value / total, after

                moving = {name: params[name] for name in names}
                (value, control), gradient = jax.value_and_grad(loss, has_aux=True)(moving)
                updates, state = optimiser.update(gradient, carry.optimisers[i])
                params = {**params, **optax.apply_updates(moving, updates)}  # type: ignore[dict-item]
                optimisers.append(state)
            return Carry(params, tuple(optimisers), control, rng_key, carry.step + 1), value

        return lax.scan(step, carry._replace(rng_key=rng_key), order)

    if restarts > 1:
        epoch = jax.vmap(epoch, in_axes=(0, None))
    return Trainer(shape, groups, control, Compiled(jax.jit(epoch, donate_argnums=0)))


class Compiled:
    """A jitted function whose compilation is asked for, so that it is never timed as a step."""

    def __init__(self, fn: Any) -> None:
        self.fn, self.program = fn, None

    def compile(self, *args: Any) -> None:
        if self.program is None:
            self.program = self.fn.lower(*args).compile()

    def __call__(self, *args: Any) -> Any:
        assert self.program is not None, "compile first"
        return self.program(*args)


def epochs(
    model: Any, guide: Any, data: tuple, *, estimator: Spec, num_epochs: int, batch: int, lr: float, seeds: tuple[int, ...],
    dynamic: bool, init: tuple[Mapping[str, Any] | None, ...], bound: str, num_particles: int, schedule: Schedule,
) -> Iterator[Epoch]:  # fmt: skip
    """Train from every seed at once (restarts are vectorised); one `Epoch` a pass over the data."""
    began, data = perf_counter(), tuple(map(array, data))
    elbo, like = make(estimator, bound=bound, num_particles=num_particles), tuple((x.shape, x.dtype) for x in data)
    shape, groups, control, epoch = trainer(model, guide, elbo, schedule, lr, batch, dynamic, len(seeds), like)
    example, carries = tuple(x[:batch] for x in data), []
    for seed, values in zip(seeds, init, strict=True):
        given = None if values is None else {name: array(value) for name, value in values.items()}
        if given is not None:
            free = jax.eval_shape(lambda: start(random.key(0), None, example, model=model, guide=guide))[0]
            check_init(given, {name: leaf.shape for name, leaf in free.items()})
        free, key = start(random.key(seed), given, example, model=model, guide=guide)
        optimisers = tuple(optax.adam(lr).init({name: free[name] for name in names}) for names in groups)
        carries.append(Carry(free, optimisers, jax.tree.map(xp.copy, control), key, xp.zeros((), int)))
    carry = carries[0] if len(seeds) == 1 else jax.tree.map(lambda *leaves: xp.stack(leaves), *carries)
    if num_epochs:
        epoch.compile(carry, data)
    setup = perf_counter() - began

    def snapshot(carry: Carry) -> list[dict[str, np.ndarray]]:
        stacked = to_numpy(shape.constrain(carry.params))
        return [stacked] if len(seeds) == 1 else [{n: v[i] for n, v in stacked.items()} for i in range(len(seeds))]

    yield Epoch(0, 0, 0.0, setup, np.zeros((len(seeds), 0)), snapshot(carry))
    for number in range(1, num_epochs + 1):
        began = perf_counter()
        carry, losses = epoch(carry, data)
        losses = np.asarray(jax.block_until_ready(losses), np.float64).reshape(len(seeds), -1)
        yield Epoch(number, losses.shape[1], perf_counter() - began, setup, losses, snapshot(carry))


@partial(jax.jit, static_argnames=("model", "guide"))
def _rows(rng_key: Any, params: Any, chunks: Any, *, model: Any, guide: Any) -> Any:
    def one(args: Any) -> Any:
        key, chunk = args
        return elbo_rows(key, params, model, guide, chunk, {})

    return lax.map(one, (random.split(rng_key, chunks[0].shape[0]), chunks))


def heldout(
    params: Mapping[str, Any], model: Any, guide: Any, data: tuple[np.ndarray, ...], seed: int, chunk: int = 1000
) -> np.ndarray | None:
    """One-sample ELBO of each row, nats; None if the model has no plate over the data."""
    count = len(data[0])
    size = min(chunk, count)
    chunks = (np.concatenate([x, np.repeat(x[:1], -count % size, 0)]).reshape(-1, size, *x.shape[1:]) for x in data)
    params = {name: array(value) for name, value in params.items()}
    values = _rows(random.key(seed), params, tuple(map(array, chunks)), model=model, guide=guide)
    return None if values is None else np.asarray(values, np.float64).reshape(-1)[:count]
