"""Training an energy with JAX: an epoch, sweeps of the chains included, is one compiled scan over minibatches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as xp
import numpy as np
import optax
from jax import lax, random
from jax.tree_util import keystr, tree_flatten_with_path, tree_leaves_with_path, tree_unflatten

from ..kernels import _numpyro as words
from .objective import Objective, recentred
from .resume import check_shapes


class Carry(NamedTuple):
    """All that one update hands to the next."""

    params: Any
    optimiser: Any
    chains: Any  # a state of the kernel; None where none persist
    rng_key: Any


def optimiser(given: Any, lr: float) -> Any:
    """What was given, an optax transformation, or Adam."""
    return adam(lr) if given is None else given


@lru_cache(maxsize=32)
def adam(lr: float) -> Any:
    """One object for equal step sizes, so that equal fits share a compiled epoch."""
    return optax.adam(lr)


def start(opt: Any, params: Any, chains: Any, seed: int) -> Carry:
    return Carry(params, opt.init(params), chains, words.seeded(seed))


def frozen(carry: Carry) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The carry as arrays by path, and of each random key the name of its generator."""
    tensors, generators = {}, {}
    for path, leaf in tree_leaves_with_path(carry):
        name = keystr(path, simple=True, separator="/")
        if is_key(leaf):
            generators[name], leaf = str(random.key_impl(leaf)), random.key_data(leaf)
        tensors[name] = np.asarray(leaf)
    return tensors, generators


def thawed(carry: Carry, tensors: Mapping[str, np.ndarray], generators: Mapping[str, Any]) -> Carry:
    """The inverse of `frozen`; `carry` is any one of the same training.

    Raises:
        InputError: A tensor is missing or has another shape.
    """
    leaves, tree = tree_flatten_with_path(carry)
    named = {keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    shapes = {name: np.shape(random.key_data(leaf) if is_key(leaf) else leaf) for name, leaf in named.items()}
    check_shapes(tensors, shapes)
    found = []
    for name, leaf in named.items():
        if is_key(leaf):
            found.append(random.wrap_key_data(xp.asarray(tensors[name]), impl=generators[name]))
        else:
            found.append(xp.asarray(tensors[name], dtype=xp.result_type(leaf)))
    return tree_unflatten(tree, found)


def is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and xp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@lru_cache(maxsize=32)
def epoch(objective: Objective, opt: Any, batch: int, centring: float) -> Any:
    """(carry, rows) -> (carry, what each step tells), compiled once for equal set-ups and shapes."""

    def step(carry: Carry, x: Any) -> tuple[Carry, Any]:
        rng_key, chains, slopes, told = objective.step(words, carry.rng_key, carry.params, carry.chains, x)
        slopes = {name: 0 * slope if name.endswith(".offset") else slope for name, slope in slopes.items()}
        updates, state = opt.update(slopes, carry.optimiser, carry.params)
        params = optax.apply_updates(carry.params, updates)
        if centring:
            params = recentred(words, objective.model, params, x, centring)
        return Carry(params, state, chains if objective.persistent else None, rng_key), told

    def run(carry: Carry, rows: Any) -> tuple[Carry, Any]:
        rng_key, shuffle = random.split(carry.rng_key)
        steps = rows.shape[0] // batch
        order = random.permutation(shuffle, rows.shape[0])[: steps * batch].reshape(steps, batch)
        return lax.scan(lambda carry, index: step(carry, rows[index]), carry._replace(rng_key=rng_key), order)

    return jax.jit(run)
