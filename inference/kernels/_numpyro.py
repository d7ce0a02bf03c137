"""What kernels need of JAX: elementary functions, loops, and draws whose randomness is passed on from hand to hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
from jax import lax, random

from ppl_models._numpyro import gammaln, logsumexp, relu, sigmoid, softmax, softplus, stop_gradient, xp

__all__ = ["gammaln", "logsumexp", "relu", "sigmoid", "softmax", "softplus", "stop_gradient", "xp"]


def uniform(rng_key: Any, like: Any) -> tuple[Any, Any]:
    """The next key, and uniform numbers in [0, 1), multiples of 2⁻²³, shaped and typed as `like`."""
    rng_key, use = random.split(rng_key)
    return rng_key, random.uniform(use, like.shape, like.dtype)


def flip(rng_key: Any, u: Any, logits: Any) -> tuple[Any, Any]:
    """The key, and bits 0.0 or 1.0 made of uniform numbers."""
    return rng_key, (u < sigmoid(logits)).astype(logits.dtype)


def accept(rng_key: Any, u: Any, log_ratio: Any) -> tuple[Any, Any]:
    """The key, and whether a proposal is taken, with probability min(1, exp(log_ratio)), made of uniform numbers."""
    return rng_key, u < xp.exp(log_ratio)


def categorical(rng_key: Any, logits: Any) -> tuple[Any, Any]:
    """The next key, and an index along the last axis."""
    rng_key, use = random.split(rng_key)
    return rng_key, random.categorical(use, logits)


def normal(rng_key: Any, like: Any) -> tuple[Any, Any]:
    """The next key, and standard normal numbers shaped and typed as `like`."""
    rng_key, use = random.split(rng_key)
    return rng_key, random.normal(use, like.shape, like.dtype)


def loop(steps: int, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`carry = body(i, carry)` for i = 0, 1, …."""
    return lax.fori_loop(0, steps, body, carry)


def put(x: Any, index: Any, value: Any) -> Any:
    """x with x[..., index] = value; x itself is used up."""
    return x.at[..., index].set(value)


def copy(x: Any) -> Any:
    """One that `put` may use up."""
    return x


def grad(f: Callable[[Any], Any], values: Any, differentiable: bool = False) -> Any:
    """∂ Σ f / ∂ each of the values by name; `differentiable` if the result is to be differentiated again."""
    return jax.grad(lambda values: f(values).sum())(values)


def constant(values: Any, like: Any) -> Any:
    """Numbers as an array typed as `like`."""
    return xp.asarray(values, dtype=like.dtype)


def one_hot(index: Any, size: int, like: Any) -> Any:
    return jax.nn.one_hot(index, size, dtype=like.dtype)


def seeded(seed: int) -> Any:
    """A key; XLA's own generator is faster on a CPU than the default one."""
    return random.key(seed, impl="rbg")


@lru_cache(maxsize=64)
def program(f: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """`f(words, *static, …)`, compiled; equal static arguments share one compilation."""
    return jax.jit(partial(f, sys.modules[__name__], *static))
