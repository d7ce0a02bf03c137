"""The words of `Language`, spoken by Pyro."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import array_api_compat.torch as xp
import pyro
import pyro.distributions as dist
import torch
from pyro import deterministic, factor, param, sample, subsample
from pyro.distributions import constraints
from torch import digamma, relu, sigmoid
from torch import lgamma as gammaln
from torch.nn.functional import conv2d, conv_transpose2d
from torch.nn.functional import log_softmax as _log_softmax
from torch.nn.functional import softplus as _softplus

from . import continuous_bernoulli as cb
from . import markov_path as mp
from . import whitened_normal as wn

__all__ = ["constraints", "deterministic", "digamma", "dist", "factor", "gammaln", "param", "relu", "sample", "sigmoid",
           "subsample", "xp"]  # fmt: skip


def plate(name: str, size: int, *, subsample: Any = None, dim: int | None = None) -> AbstractContextManager[Any]:
    """`subsample`: the indices present, or only how many rows stand for `size`."""
    rows: Any = range(subsample) if isinstance(subsample, int) else subsample
    return pyro.plate(name, size, subsample=rows, dim=dim)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)); linear only where that is exact (torch's default turns linear at 20, off by 2e-9)."""
    return _softplus(x, threshold=40)


def softmax(x: Any, axis: int = -1) -> Any:
    return torch.softmax(x, dim=axis)


def log_softmax(x: Any) -> Any:
    """Over the last axis."""
    return _log_softmax(x, dim=-1)


def logsumexp(x: Any) -> Any:
    """Over the last axis."""
    return torch.logsumexp(x, dim=-1)


def trigamma(x: Any) -> Any:
    return torch.polygamma(1, x)


def stop_gradient(x: Any) -> Any:
    return x.detach()


class ContinuousBernoulli(dist.TorchDistribution):
    """p(x; η) = exp(η x − A(η)) on [0, 1]; see `continuous_bernoulli`."""

    arg_constraints = {"logits": constraints.real}  # pyright: ignore[reportAssignmentType]
    support = constraints.unit_interval  # pyright: ignore[reportAssignmentType]
    has_rsample = True

    def __init__(self, logits: Any, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = torch.Size(sample_shape) + self.batch_shape
        return cb.icdf(xp, self.logits, torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def log_prob(self, value: Any) -> Any:
        return cb.log_prob(xp, self.logits, value)

    @property
    def mean(self) -> Any:
        return cb.mean(xp, self.logits)


def categorical(logits: Any) -> dist.Categorical:
    return dist.Categorical(logits=logits)


class OneHotCategorical(dist.OneHotCategorical):
    """log p(v) = Σ v · log softmax(η), v one-hot; torch's own scores the largest entry, which is not linear in v."""

    def log_prob(self, value: Any) -> Any:
        return (value * self.logits).sum(-1)


def one_hot_categorical(logits: Any) -> OneHotCategorical:
    return OneHotCategorical(logits=logits)


def continuous_bernoulli(logits: Any) -> ContinuousBernoulli:
    return ContinuousBernoulli(logits)


class WhitenedNormal(dist.TorchDistribution):
    """N(loc, L Lᵀ) with L⁻¹ given; see `whitened_normal`."""

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    has_rsample = True

    def __init__(self, loc: Any, scale_tril: Any, whitener: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale_tril, self.whitener = loc, scale_tril, whitener
        batch = torch.broadcast_shapes(loc.shape[:-1], scale_tril.shape[:-2])
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> WhitenedNormal:
        return WhitenedNormal(self.loc.expand(torch.Size(batch_shape) + self.event_shape), self.scale_tril, self.whitener)

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        return wn.draw(self.loc, self.scale_tril, torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Any) -> Any:
        return wn.log_prob(xp, self.loc, self.whitener, value)

    @property
    def mean(self) -> Any:
        return self.loc.expand(self.batch_shape + self.event_shape)


def whitened_normal(loc: Any, scale_tril: Any, whitener: Any) -> WhitenedNormal:
    return WhitenedNormal(loc, scale_tril, whitener)


class MarkovPath(dist.TorchDistribution):
    """log p(z) = Σₜ log p(zₜ | zₜ₋₁, uₜ); see `markov_path`."""

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]
    support = constraints.independent(constraints.real, 2)  # pyright: ignore[reportAssignmentType]
    has_rsample = True

    def __init__(self, step: Callable[[Any, Any], Any], initial: Any, inputs: Any, mask: Any, batch: Any = None) -> None:
        self.step, self.initial, self.inputs, self.real = step, initial, inputs, mask
        batch = mp.batch_shape(torch, initial, inputs, mask) if batch is None else batch
        super().__init__(torch.Size(batch), torch.Size([mask.shape[-1], initial.shape[-1]]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MarkovPath:
        return MarkovPath(self.step, self.initial, self.inputs, self.real, batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        steps, width = self.event_shape
        z, path = self.initial.expand(torch.Size(sample_shape) + self.batch_shape + (width,)), []
        for t in range(steps):
            u = None if self.inputs is None else self.inputs[..., t, :]
            z = torch.where(self.real[..., t, None], self.step(z, u).rsample(), z)
            path.append(z)
        return torch.stack(path, -2)

    def log_prob(self, value: Any) -> Any:
        return mp.log_prob(xp, self.step, self.initial, self.inputs, self.real, value)


def markov(step: Callable[[Any, Any], Any], initial: Any, inputs: Any, mask: Any) -> MarkovPath:
    return MarkovPath(step, initial, inputs, mask)


class Pushforward(dist.TorchDistribution):
    """log p(z) = log p_base(u) + log |det ∂u/∂z|, u = f⁻¹(z)."""

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    has_rsample = True

    def __init__(self, base: Any, forward: Callable[[Any], Any], inverse: Callable[[Any], tuple[Any, Any]]) -> None:
        self.base, self.forward, self.inverse = base, forward, inverse
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Pushforward:
        return Pushforward(self.base.expand(batch_shape), self.forward, self.inverse)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.forward(self.base.rsample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        u, log_det = self.inverse(value)
        return self.base.log_prob(u) + log_det


def pushforward(base: Any, forward: Callable[[Any], Any], inverse: Callable[[Any], tuple[Any, Any]]) -> Pushforward:
    return Pushforward(base, forward, inverse)


def scan(f: Callable[..., tuple[Any, Any]], carry: Any, *xs: Any, reverse: bool = False) -> Any:
    """Over the second-last axis of each of `xs`; outputs are stacked there."""
    outputs, times = [], range(xs[0].shape[-2])
    for t in reversed(times) if reverse else times:
        carry, y = f(carry, *(x[..., t, :] for x in xs))
        outputs.append(y)
    return torch.stack(outputs[::-1] if reverse else outputs, -2)


def conv(x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any:
    """Images (..., channels, height, width) with weight (out, in, h, w); any leading dims."""
    y = conv2d(x.reshape(-1, *x.shape[-3:]), weight, stride=stride, padding=padding)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def conv_transpose(x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any:
    """The adjoint of `conv` in its input; weight (in, out, h, w)."""
    y = conv_transpose2d(x.reshape(-1, *x.shape[-3:]), weight, stride=stride, padding=padding)
    return y.reshape(*x.shape[:-3], *y.shape[1:])
