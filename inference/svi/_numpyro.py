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
from numpyro import handlers
from numpyro.distributions.distribution import validation_enabled

from .._numpyro import Coordinates, array, coordinates, frozen, parameters, set_up, thawed, to_numpy
from ..checks import check_init
from ..estimators import Spec
from ..estimators._numpyro import EstimatorELBO, elbo_rows, make
from .epoch import Epoch, Frozen
from .nonfinite import Failure, Guard, NonFinite, first_bad, guard_of, judged
from .schedule import Schedule


class Carry(NamedTuple):
    """All that one epoch hands to the next; `params` are unconstrained."""

    params: dict[str, Any]
    optimisers: tuple[Any, ...]  # one for each group of parameters that move together
    control: dict[str, Any]
    rng_key: Any
    step: Any
    scale: Any  # of the step size


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
    at: Any  # (Carry of one restart, data, number) -> the carry before that step of the epoch, its rows, its key and β


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

    def begin(carry: Carry) -> tuple[Carry, Any]:
        rng_key, shuffle = random.split(carry.rng_key)
        order = random.permutation(shuffle, total)[: steps * batch].reshape(steps, batch)
        return carry._replace(rng_key=rng_key), order

    def inputs(carry: Carry, index: Any, data: tuple) -> tuple[Any, Any, tuple]:
        rng_key, draw, pixels = random.split(carry.rng_key, 3)
        rows = tuple(x[index] for x in data)
        if dynamic:
            rows = (random.bernoulli(pixels, rows[0]).astype(rows[0].dtype), *rows[1:])
        return rng_key, draw, rows

    def objective(moving: Any, params: Any, control: Any, key: Any, rows: tuple, beta: Any) -> tuple[Any, Any]:
        constrained = shape.constrain({**params, **moving})
        value, after = elbo.evaluate(key, constrained, control, model, guide, rows, {}, beta=beta)
        return value / total, after

    def move(carry: Carry, index: Any, data: tuple) -> tuple[Carry, Any]:
        rng_key, draw, rows = inputs(carry, index, data)
        beta, params, control, optimisers = schedule.weight(carry.step, steps), carry.params, carry.control, []
        told = xp.zeros(())
        for i, names in enumerate(groups):
            key = draw if len(groups) == 1 else random.fold_in(draw, i)
            moving = {name: params[name] for name in names}
            (value, after), gradient = jax.value_and_grad(objective, has_aux=True)(moving, params, control, key, rows, beta)
            updates, state = optimiser.update(gradient, carry.optimisers[i])
            moved = optax.apply_updates(moving, jax.tree.map(lambda update: carry.scale * update, updates))
            fine = xp.isfinite(value)
            for slope in gradient.values():
                fine &= xp.isfinite(xp.square(slope)).all()  # Adam keeps squares, and an infinite one for good
            new, old = (moved, state, after), (moving, carry.optimisers[i], control)
            moved, state, control = jax.tree.map(partial(xp.where, fine), new, old)
            told = xp.where(fine & xp.isfinite(told), value, xp.nan)
            params = {**params, **moved}  # type: ignore[dict-item]
            optimisers.append(state)
        return Carry(params, tuple(optimisers), control, rng_key, carry.step + 1, carry.scale), told

    def epoch(carry: Carry, data: tuple) -> tuple[Carry, Any]:
        carry, order = begin(carry)
        return lax.scan(lambda carry, index: move(carry, index, data), carry, order)

    def at(carry: Carry, data: tuple, number: Any) -> tuple[Any, ...]:
        carry, order = begin(carry)
        carry = lax.fori_loop(0, number, lambda i, carry: move(carry, order[i], data)[0], carry)
        _, draw, rows = inputs(carry, order[number], data)
        return shape.constrain(carry.params), carry.control, rows, order[number], draw

    many = jax.vmap(epoch, in_axes=(0, None)) if restarts > 1 else epoch
    return Trainer(shape, groups, control, Compiled(jax.jit(many)), jax.jit(at))


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
    saved: Frozen | None = None, done: int = 0,
) -> Iterator[Epoch]:  # fmt: skip
    """Train from every seed at once (restarts are vectorised); one `Epoch` a pass over the data.

    `saved` is what `freeze` gave after epoch `done`, from which training goes on.
    """
    began, data = perf_counter(), tuple(map(array, data))
    elbo, like = make(estimator, bound=bound, num_particles=num_particles), tuple((x.shape, x.dtype) for x in data)
    example, carries = tuple(x[:batch] for x in data), []
    set_up(guide, example, {})
    made = trainer(model, guide, elbo, schedule, lr, batch, dynamic, len(seeds), like)
    shape, groups, control, epoch, _ = made
    for seed, values in zip(seeds, init, strict=True):
        given = None if values is None else {name: array(value) for name, value in values.items()}
        if given is not None:
            free = jax.eval_shape(lambda: start(random.key(0), None, example, model=model, guide=guide))[0]
            check_init(given, {name: leaf.shape for name, leaf in free.items()})
        free, key = start(random.key(seed), given, example, model=model, guide=guide)
        optimisers = tuple(optax.adam(lr).init({name: free[name] for name in names}) for names in groups)
        carries.append(Carry(free, optimisers, jax.tree.map(xp.copy, control), key, xp.zeros((), int), xp.ones(())))
    carry = carries[0] if len(seeds) == 1 else jax.tree.map(lambda *leaves: xp.stack(leaves), *carries)
    guards, good = [Guard() for _ in seeds], [carry for _ in seeds]
    if saved is not None:
        whole: Any = {"now": carry, "good": carries}
        state: Any = thawed(whole, saved[0], saved[1]["keys"])
        carry, guards = state["now"], [guard_of(guard) for _, guard in zip(seeds, saved[1]["guards"], strict=True)]
        good = [put(carry, one, i, len(seeds)) for i, one in enumerate(state["good"])]
    if num_epochs > done:
        epoch.compile(carry, data)
    setup = perf_counter() - began

    def snapshot(carry: Carry) -> list[dict[str, np.ndarray]]:
        stacked = to_numpy(shape.constrain(carry.params))
        return [stacked] if len(seeds) == 1 else [{n: v[i] for n, v in stacked.items()} for i in range(len(seeds))]

    def freeze() -> Frozen:
        whole: Any = {"now": carry, "good": [of(one, i, len(seeds)) for i, one in enumerate(good)]}
        tensors, keys = frozen(whole)
        return tensors, {"keys": keys, "guards": [list(guard) for guard in guards]}

    def told(number: int, seconds: float, losses: np.ndarray, params: list[dict[str, np.ndarray]]) -> Epoch:
        rollbacks = tuple(guard.rollbacks for guard in guards)
        return Epoch(number, losses.shape[1], seconds, setup, losses, params, freeze, rollbacks)

    yield told(done, 0.0, np.zeros((len(seeds), 0)), snapshot(carry))
    for number in range(done + 1, num_epochs + 1):
        began, first = perf_counter(), carry
        carry, losses = epoch(carry, data)
        losses = np.asarray(jax.block_until_ready(losses), np.float64).reshape(len(seeds), -1)
        seconds, params = perf_counter() - began, snapshot(carry)
        for i, (row, values) in enumerate(zip(losses, params, strict=True)):
            good[i] = first if np.isfinite(row).any() else good[i]
            guards[i], what = judged(guards[i], row, values, number == num_epochs)
            if what == "stop":
                raise NonFinite(located(made, model, guide, of(first, i, len(seeds)), data, number, i, row, guards[i], elbo))
            if what == "back":
                carry = returned(carry, good[i], i, len(seeds), guards[i].scale)
                params = snapshot(carry)
        yield told(number, seconds, losses, params)


def of(carry: Carry, restart: int, restarts: int) -> Carry:
    """What one restart carries."""
    return carry if restarts == 1 else jax.tree.map(lambda leaf: leaf[restart], carry)


def returned(carry: Carry, good: Carry, restart: int, restarts: int, scale: float) -> Carry:
    """The carry with one restart back at its good state, its step size scaled."""
    one = of(good, restart, restarts)
    return put(carry, one._replace(scale=xp.full_like(one.scale, scale)), restart, restarts)


def put(carry: Carry, one: Carry, restart: int, restarts: int) -> Carry:
    """The carry with one restart's part replaced."""
    return one if restarts == 1 else jax.tree.map(lambda now, then: now.at[restart].set(then), carry, one)


def located(
    made: Trainer, model: Any, guide: Any, carry: Carry, data: tuple, number: int, restart: int, losses: np.ndarray,
    guard: Guard, elbo: Any,
) -> Failure:  # fmt: skip
    """The first step of the epoch that was not finite, and the first site there that is not."""
    step = int(np.argmin(np.isfinite(losses)))
    params, control, rows, index, key = made.at(carry, data, step)
    site, what = first_bad(everything(model, guide, params, control, rows, key, elbo))
    whole: Any = {"params": params, "control": control, "rows": rows, "rng_key": key}
    tensors, keys = frozen(whole)
    return Failure(number, step + 1, restart, np.asarray(index), site, what, guard.rollbacks, tensors, {"keys": keys})


def everything(
    model: Any, guide: Any, params: Mapping[str, Any], control: Mapping[str, Any], rows: tuple, key: Any, elbo: Any
) -> Iterator[tuple[str, str, Any]]:
    """Of one step all that may not be finite, in the order of its computation: name, what it is, values."""
    for i, x in enumerate(rows):
        yield ("x" if i == 0 else f"input {i}"), "the input", x
    yield from ((name, "the parameter", value) for name, value in params.items())
    found: list[tuple[str, str, Any]] = []
    with validation_enabled(False):
        guide_trace = handlers.trace(handlers.substitute(handlers.seed(guide, key), data=dict(params))).get_trace(*rows)
        replayed = handlers.seed(handlers.replay(model, guide_trace), key)
        model_trace = handlers.trace(handlers.substitute(replayed, data=dict(params))).get_trace(*rows)
        for trace, side in ((guide_trace, "log q"), (model_trace, "log p")):
            for name, site in trace.items():
                if site["type"] == "sample":
                    found += [(name, "its value", site["value"]), (name, side, site["fn"].log_prob(site["value"]))]
    yield from found

    def objective(params: Any) -> Any:
        return elbo.evaluate(key, params, control, model, guide, rows, {})[0]

    with validation_enabled(False):
        slopes = jax.grad(objective)(dict(params))
    yield from ((name, "the gradient", slope) for name, slope in slopes.items())


def again(model: Any, guide: Any, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any], elbo: Any) -> Any:
    """`everything` of a failed step as its bundle holds it, and last its loss."""
    parts: dict[str, dict[str, Any]] = {"params": {}, "rows": {}, "control": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        if part in parts:
            parts[part][rest] = xp.asarray(value)
    names = dict.fromkeys(name.split("/")[0] for name in parts["control"])
    control = {name: tuple(parts["control"][f"{name}/{i}"] for i in range(2)) for name in names}
    rows = tuple(parts["rows"][str(i)] for i in range(len(parts["rows"])))
    key = random.wrap_key_data(xp.asarray(tensors["rng_key"]), impl=facts["keys"]["rng_key"])
    yield from everything(model, guide, parts["params"], control, rows, key, elbo)
    with validation_enabled(False):
        loss = elbo.evaluate(key, parts["params"], control, model, guide, rows, {})[0]
    yield "", "the loss", loss


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
