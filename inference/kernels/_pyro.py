"""What kernels need of PyTorch: elementary functions, loops, and draws; a key is a `torch.Generator`, which is its own next."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ppl_models._pyro import gammaln, logsumexp, relu, sigmoid, softmax, softplus, stop_gradient, xp

__all__ = ["gammaln", "logsumexp", "relu", "sigmoid", "softmax", "softplus", "stop_gradient", "xp"]


def uniform(rng_key: Any, like: Any) -> tuple[Any, Any]:
    """The next key, and uniform numbers in [0, 1), multiples of 2⁻²⁴, shaped and typed as `like`."""
    return rng_key, torch.rand(like.shape, dtype=like.dtype, device=like.device, generator=rng_key)


def flip(rng_key: Any, u: Any, logits: Any) -> tuple[Any, Any]:
    """The key, and bits 0.0 or 1.0 made of uniform numbers."""
    return rng_key, (u < sigmoid(logits)).to(logits.dtype)


def accept(rng_key: Any, u: Any, log_ratio: Any) -> tuple[Any, Any]:
    """The key, and whether a proposal is taken, with probability min(1, exp(log_ratio)), made of uniform numbers."""
    return rng_key, u < torch.exp(log_ratio)


def categorical(rng_key: Any, logits: Any) -> tuple[Any, Any]:
    """The next key, and an index along the last axis."""
    flat = torch.softmax(logits, -1).reshape(-1, logits.shape[-1])
    return rng_key, torch.multinomial(flat, 1, generator=rng_key).reshape(logits.shape[:-1])


def normal(rng_key: Any, like: Any) -> tuple[Any, Any]:
    """The next key, and standard normal numbers shaped and typed as `like`."""
    return rng_key, torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=rng_key)


def loop(steps: int, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`carry = body(i, carry)` for i = 0, 1, …."""
    for i in range(steps):
        carry = body(i, carry)
    return carry


def cut(x: Any, first: int, size: int) -> Any:
    """x[first : first + size]."""
    return x[first : first + size]


def paste(x: Any, first: int, part: Any) -> Any:
    """x with x[first : first + len(part)] = part; x itself is used up."""
    x[first : first + len(part)] = part
    return x


def put(x: Any, index: Any, value: Any) -> Any:
    """x with x[index] = value; x itself is used up."""
    x[index] = value
    return x


def copy(x: Any) -> Any:
    """One that `put` and `paste` may use up."""
    return x.clone()


def grad(f: Callable[[Any], Any], values: Any, differentiable: bool = False) -> Any:
    """∂ Σ f / ∂ each of the values by name; `differentiable` if the result is to be differentiated again."""
    with torch.enable_grad():
        values = {name: _own(value, differentiable) for name, value in values.items()}
        total, where = f(values).sum(), list(values.values())
        slopes = torch.autograd.grad(total, where, create_graph=differentiable, materialize_grads=True)
        return dict(zip(values, slopes, strict=True))


def _own(value: Any, differentiable: bool) -> Any:
    """A node of its own, so that a slope counts the ways that lead through it and none beside it."""
    return value.view_as(value) if differentiable and value.requires_grad else value.detach().requires_grad_()


def value_and_grad(f: Callable[[Any], Any], values: Any) -> tuple[Any, Any]:
    """f, a single number, and ∂ f / ∂ each of the values by name."""
    with torch.enable_grad():
        values = {name: value.detach().requires_grad_() for name, value in values.items()}
        total = f(values)
        slopes = torch.autograd.grad(total, list(values.values()), allow_unused=True, materialize_grads=True)
    return total.detach(), dict(zip(values, slopes, strict=True))


def constant(values: Any, like: Any) -> Any:
    """Numbers as an array typed as `like`."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def one_hot(index: Any, size: int, like: Any) -> Any:
    return torch.nn.functional.one_hot(index, size).to(like.dtype)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def program(f: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """`f(words, *static, …)` without gradients."""
    return torch.no_grad()(partial(f, sys.modules[__name__], *static))
