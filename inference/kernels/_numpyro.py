"""What kernels need of JAX: elementary functions, loops, and draws whose randomness is passed on from hand to hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
from jax import lax, random

from ppl_models._numpyro import gammaln, logsumexp, relu, sigmoid, softmax, softplus, stop_gradient, xp

from . import threefry

__all__ = ["gammaln", "logsumexp", "relu", "sigmoid", "softmax", "softplus", "stop_gradient", "xp"]


def uniform(rng_key: Any, like: Any) -> tuple[Any, Any]:
    """The next key, and uniform numbers in [0, 1), multiples of 2⁻²⁴ (float64: 2⁻⁵³), shaped and typed as `like`.

    Of a Threefry key they are made of the words of `jax.random.bits`, which XLA does not fuse with what they are compared to.
    """
    rng_key, use = random.split(rng_key)
    if random.key_impl(use) != "threefry2x32" or like.dtype not in (xp.float32, xp.float64):
        return rng_key, random.uniform(use, like.shape, like.dtype)
    counter = lax.iota(xp.uint32, like.size).reshape(like.shape)
    high, low = threefry.words(tuple(random.key_data(use)), (xp.zeros_like(counter), counter))
    if like.dtype == xp.float64:
        return rng_key, (high >> 5) * 2.0**-27 + (low >> 6) * 2.0**-53
    # Signed on the way: few processors turn unsigned integers into floats in one instruction.
    return rng_key, ((high ^ low) >> 8).astype(xp.int32).astype(xp.float32) * 2.0**-24


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


def cut(x: Any, first: Any, size: int) -> Any:
    """x[first : first + size], where `first` may be computed."""
    return lax.dynamic_slice_in_dim(x, first, size)


def paste(x: Any, first: Any, part: Any) -> Any:
    """x with x[first : first + len(part)] = part; x itself is used up."""
    return lax.dynamic_update_slice_in_dim(x, part, first, 0)


def put(x: Any, index: Any, value: Any) -> Any:
    """x with x[index] = value; x itself is used up."""
    return x.at[index].set(value)


def copy(x: Any) -> Any:
    """One that `put` and `paste` may use up."""
    return x


def grad(f: Callable[[Any], Any], values: Any, differentiable: bool = False) -> Any:
    """∂ Σ f / ∂ each of the values by name; `differentiable` if the result is to be differentiated again."""
    return jax.grad(lambda values: f(values).sum())(values)


def value_and_grad(f: Callable[[Any], Any], values: Any) -> tuple[Any, Any]:
    """f, a single number, and ∂ f / ∂ each of the values by name."""
    return jax.value_and_grad(f)(values)


def constant(values: Any, like: Any) -> Any:
    """Numbers as an array typed as `like`."""
    return xp.asarray(values, dtype=like.dtype)


def one_hot(index: Any, size: int, like: Any) -> Any:
    return jax.nn.one_hot(index, size, dtype=like.dtype)


def seeded(seed: int) -> Any:
    return random.key(seed, impl="threefry2x32")


@lru_cache(maxsize=64)
def program(f: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """`f(words, *static, …)`, compiled; equal static arguments share one compilation."""
    return jax.jit(partial(f, sys.modules[__name__], *static))
