"""In plain JAX, each a compiled loop, and thrml's programs: `run(rng_key, state)` takes so many sweeps, `state` in and out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, random
from thrml import Block, SamplingSchedule, SpinNode, sample_states
from thrml.models import IsingEBM, IsingSamplingProgram

Run = Callable[[Any, Any], Any]


def key(seed: int) -> Any:
    return random.key(seed)


def array(x: np.ndarray) -> Any:
    return jnp.asarray(x, jnp.float32)


def ready(x: Any) -> Any:
    """Once the device has it."""
    return jax.block_until_ready(x)


def gflops(rows: int, inner: int, columns: int, repeats: int = 20) -> Callable[[], Any]:
    """Of a product (rows, inner) @ (inner, columns) in float32, so many times; what it returns is to be waited for."""
    a, b = (array(np.random.default_rng(0).normal(size=shape)) for shape in ((rows, inner), (inner, columns)))

    @jax.jit
    def run(a: Any, b: Any) -> Any:
        # Each product waits for the one before, else all but one would go.
        return lax.fori_loop(0, repeats, lambda _, out: (a + 0 * out[0, 0]) @ b, a @ b)

    return lambda: run(a, b)


def rbm(weight: np.ndarray, x_bias: np.ndarray, h_bias: np.ndarray, sweeps: int) -> Run:
    """Block Gibbs as one writes it down: two products, two draws, in a scan; `state` is x (chains, units)."""
    W, b, c = map(array, (weight, x_bias, h_bias))

    @jax.jit
    def run(rng_key: Any, x: Any, W: Any, b: Any, c: Any) -> Any:
        def sweep(carry: Any, _: None) -> Any:
            rng_key, x = carry
            rng_key, up, down = random.split(rng_key, 3)
            h = random.bernoulli(up, jax.nn.sigmoid(x @ W + c)).astype(x.dtype)
            return (rng_key, random.bernoulli(down, jax.nn.sigmoid(h @ W.T + b)).astype(x.dtype)), None

        return lax.scan(sweep, (rng_key, x), None, length=sweeps)[0][1]

    return lambda rng_key, x: run(rng_key, x, W, b, c)


def sequential(coupling: np.ndarray, bias: np.ndarray, sweeps: int, cached: bool) -> Run:
    """Gibbs of one unit after the other; `state` is x (chains, units).

    `cached`: the fields of all units are kept and each flip corrects them, so that a unit costs no product; else each field is
    a product with the whole state.
    """
    J, b = array(coupling), array(bias)

    @jax.jit
    def run(rng_key: Any, x: Any, J: Any, b: Any) -> Any:
        def sweep(_: int, carry: Any) -> Any:
            rng_key, s, fields = carry
            rng_key, use = random.split(rng_key)
            u = random.uniform(use, s.shape)

            def update(i: Any, carry: Any) -> Any:
                s, fields = carry
                field = fields[i] if cached else J[i] @ s + b[i]
                bit = (u[i] < jax.nn.sigmoid(field)).astype(s.dtype)
                fields = fields + J[i][:, None] * (bit - s[i]) if cached else fields
                return s.at[i].set(bit), fields

            return rng_key, *lax.fori_loop(0, len(b), update, (s, fields))

        s = x.T  # a unit's bits of all chains side by side, which is the faster of the two ways
        fields = J @ s + b[:, None] if cached else jnp.zeros(())
        return lax.fori_loop(0, sweeps, sweep, (rng_key, s, fields))[1].T

    return lambda rng_key, x: run(rng_key, x, J, b)


def thrml(num_units: int, edges: np.ndarray, coupling: np.ndarray, bias: np.ndarray, groups: list[np.ndarray], sweeps: int,
          ) -> Run:  # fmt: skip
    """thrml's Ising program (spins ±1, energies −bᵀs − Σ Jss), colours as given, chains by `vmap`.

    `state` is a list of the groups' spins, bools (chains, size).
    """
    nodes: list[Any] = [SpinNode() for _ in range(num_units)]
    pairs = [(nodes[i], nodes[j]) for i, j in edges]
    blocks: list[Any] = [Block([nodes[i] for i in group]) for group in groups]
    machine = IsingEBM(nodes, pairs, array(bias), array(coupling), jnp.array(1.0))
    program = IsingSamplingProgram(machine, blocks, [])
    # Its first sample follows the warm-up at once, so that this is all it sweeps.
    schedule = SamplingSchedule(n_warmup=sweeps, n_samples=1, steps_per_sample=1)

    @equinox.filter_jit
    def run(rng_key: Any, state: Any, program: Any) -> Any:
        keys = random.split(rng_key, len(state[0]))
        one = partial(sample_states, program=program, schedule=schedule, state_clamp=[], nodes_to_sample=blocks)
        found = jax.vmap(lambda rng_key, state: one(rng_key, init_state_free=state))(keys, state)
        return [spins[:, -1] for spins in found]

    return lambda rng_key, state: run(rng_key, state, program)


def training(weight: np.ndarray, x: np.ndarray, batch: int, chains: int, lr: float) -> tuple[Callable[..., Any], Any]:
    """PCD-1 of an RBM with Adam, an epoch one scan: (run(carry, rows) -> carry, carry)."""
    D, H = weight.shape
    params = {"weight": array(weight), "x.bias": jnp.zeros(D), "h.bias": jnp.zeros(H)}
    adam = optax.adam(lr)

    def free(params: Any, x: Any) -> Any:
        return -(x @ params["x.bias"] + jax.nn.softplus(x @ params["weight"] + params["h.bias"]).sum(-1)).mean()

    @jax.jit
    def run(carry: Any, rows: Any) -> Any:
        def step(carry: Any, index: Any) -> Any:
            params, moments, v, rng_key = carry
            rng_key, up, down = random.split(rng_key, 3)
            h = random.bernoulli(up, jax.nn.sigmoid(v @ params["weight"] + params["h.bias"])).astype(v.dtype)
            v = random.bernoulli(down, jax.nn.sigmoid(h @ params["weight"].T + params["x.bias"])).astype(v.dtype)
            value, slopes = jax.value_and_grad(lambda p: free(p, rows[index]) - free(p, v))(params)
            updates, moments = adam.update(slopes, moments)
            return (optax.apply_updates(params, updates), moments, v, rng_key), value

        params, moments, v, rng_key = carry
        rng_key, shuffle = random.split(rng_key)
        steps = len(rows) // batch
        order = random.permutation(shuffle, len(rows))[: steps * batch].reshape(steps, batch)
        return lax.scan(step, (params, moments, v, rng_key), order)

    start = array(np.random.default_rng(0).integers(0, 2, (chains, D)))
    return lambda carry, rows: run(carry, rows)[0], (params, adam.init(params), start, random.key(0))
