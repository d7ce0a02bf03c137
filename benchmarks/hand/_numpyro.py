"""A VAE in plain JAX and optax: an epoch is one compiled scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.hand.weights import DATA, HIDDEN, LATENT, weights

Params = dict[str, jax.Array]


def layers(params: Params, part: str, x: jax.Array) -> jax.Array:
    """Two dense layers with a softplus between."""
    h = jax.nn.softplus(x @ params[f"{part}.0.weight"] + params[f"{part}.0.bias"])
    return h @ params[f"{part}.1.weight"] + params[f"{part}.1.bias"]


def loss(params: Params, x: jax.Array, noise: jax.Array) -> jax.Array:
    """KL(q(z | x) ‖ N(0, I)) − log p(x | z), mean over the data."""
    h = layers(params, "encoder", x)
    mean, log_variance = h[:, :LATENT], h[:, LATENT:]
    logits = layers(params, "decoder", mean + jnp.exp(log_variance / 2) * noise)
    log_likelihood = (x * logits - jax.nn.softplus(logits)).sum()
    kl = (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum() / 2
    return (kl - log_likelihood) / len(x)


def program(batch: int, lr: float, dynamic: bool) -> Callable[..., Any]:
    """An epoch, compiled: (params, optimiser state), key, data -> the same pair and the losses."""
    adam = optax.adam(lr)

    def epoch(state: Any, key: jax.Array, data: jax.Array) -> Any:
        steps = len(data) // batch
        shuffle, *keys = jax.random.split(key, 1 + steps)
        order = jax.random.permutation(shuffle, len(data))[: steps * batch].reshape(steps, batch)

        def step(state: Any, at: Any) -> Any:
            (params, moments), (key, rows) = state, at
            flip, draw = jax.random.split(key)
            x = data[rows]
            x = jax.random.bernoulli(flip, x).astype(x.dtype) if dynamic else x
            value, gradient = jax.value_and_grad(loss)(params, x, jax.random.normal(draw, (batch, LATENT)))
            updates, moments = adam.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments), value

        return jax.lax.scan(step, state, (jnp.stack(keys), order))

    return partial(jax.jit, donate_argnums=0)(epoch)


def epochs(data: np.ndarray, batch: int, lr: float, seed: int, dynamic: bool) -> Iterator[float]:
    """Train for ever; each item is the seconds that one epoch took."""
    params = {name: jnp.asarray(w) for name, w in weights(seed).items()}
    state, x = (params, optax.adam(lr).init(params)), jax.device_put(data)
    epoch, key = program(batch, lr, dynamic), jax.random.key(seed)
    while True:
        start = time.perf_counter()
        key, now = jax.random.split(key)
        state, losses = epoch(state, now, x)
        losses.block_until_ready()
        yield time.perf_counter() - start


def gradient(params: dict[str, np.ndarray], x: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient of one step, to hold against the other peer's."""
    return {name: np.asarray(g) for name, g in jax.grad(loss)(params, x, noise).items()}


def settings() -> dict[str, Any]:
    """What the figures depend on."""
    return {"dtype": "float32", "rng": str(jax.random.key_impl(jax.random.key(0))), "optimiser": "optax.adam"}


def prepare() -> None:
    """Nothing: threads are set from outside, before JAX starts."""


@jax.jit
def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """A matrix product."""
    return a @ b


def gflops() -> float:
    """The speed of the first layer's product on this machine."""
    a, b = jnp.ones((128, DATA)), jnp.ones((DATA, HIDDEN))
    product(a, b).block_until_ready()
    start = time.perf_counter()
    for _ in range(50):
        product(a, b).block_until_ready()
    return 50 * 2 * 128 * DATA * HIDDEN / (time.perf_counter() - start) / 1e9
