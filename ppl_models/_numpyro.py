"""The words of `Language`, spoken by NumPyro."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as xp
import numpyro
import numpyro.distributions as dist
from jax import random
from jax.lax import conv_general_dilated, stop_gradient
from jax.nn import log_softmax, relu, sigmoid, softmax, softplus
from jax.scipy.special import digamma, gammaln, polygamma
from jax.scipy.special import logsumexp as _logsumexp
from numpyro import deterministic, factor, handlers, param, sample, subsample
from numpyro.distributions import constraints

from . import continuous_bernoulli as cb
from . import markov_path as mp
from . import whitened_normal as wn

__all__ = ["constraints", "deterministic", "digamma", "dist", "factor", "gammaln", "log_softmax", "param", "relu",
           "sample", "sigmoid", "softmax", "softplus", "stop_gradient", "subsample", "xp"]  # fmt: skip


def plate(name: str, size: int, *, subsample: Any = None, dim: int | None = None) -> AbstractContextManager[Any]:
    """`subsample`: the indices present, or only how many rows stand for `size`."""
    if subsample is None:
        return numpyro.plate(name, size, dim=dim)
    rows = xp.arange(subsample) if isinstance(subsample, int) else subsample
    # The substituted indices keep NumPyro from drawing its own, which costs a serial shuffle a step.
    with handlers.substitute(data={name: rows}):
        return numpyro.plate(name, size, subsample_size=rows.shape[0], dim=dim)


def logsumexp(x: Any) -> Any:
    """Over the last axis."""
    return _logsumexp(x, axis=-1)


def trigamma(x: Any) -> Any:
    return polygamma(1, x)


class Categorical(dist.CategoricalLogits):
    """Scores whole numbers held as floats too, as data are (NumPyro's own refuses them)."""

    def log_prob(self, value: Any) -> Any:
        return super().log_prob(xp.asarray(value, dtype=xp.int32))


def categorical(logits: Any) -> Categorical:
    return Categorical(logits)


class OneHotCategorical(dist.Distribution):
    """log p(v) = Σ v · log softmax(η), v one-hot."""

    arg_constraints = {"logits": constraints.real_vector}
    support = constraints.multinomial(1)  # pyright: ignore[reportAssignmentType]
    has_enumerate_support = True

    def __init__(self, logits: Any, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(batch_shape=logits.shape[:-1], event_shape=logits.shape[-1:], validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        index = random.categorical(key, self.logits, shape=sample_shape + self.batch_shape)
        return xp.eye(self.event_shape[0], dtype=self.logits.dtype)[index]

    def log_prob(self, value: Any) -> Any:
        return (value * log_softmax(self.logits)).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Any:
        n, ones = self.event_shape[0], (1,) * len(self.batch_shape)
        values = xp.eye(n, dtype=self.logits.dtype).reshape(n, *ones, n)
        return xp.broadcast_to(values, (n, *self.batch_shape, n)) if expand else values

    @property
    def mean(self) -> Any:
        return xp.exp(log_softmax(self.logits))


def one_hot_categorical(logits: Any) -> OneHotCategorical:
    return OneHotCategorical(logits)


class ContinuousBernoulli(dist.Distribution):
    """p(x; η) = exp(η x − A(η)) on [0, 1]; see `continuous_bernoulli`."""

    arg_constraints = {"logits": constraints.real}
    support = constraints.unit_interval  # pyright: ignore[reportAssignmentType]
    reparametrized_params = ["logits"]

    def __init__(self, logits: Any, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(batch_shape=xp.shape(logits), validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return cb.icdf(xp, self.logits, random.uniform(key, sample_shape + self.batch_shape, self.logits.dtype))

    def log_prob(self, value: Any) -> Any:
        return cb.log_prob(xp, self.logits, value)

    @property
    def mean(self) -> Any:
        return cb.mean(xp, self.logits)


def continuous_bernoulli(logits: Any) -> ContinuousBernoulli:
    return ContinuousBernoulli(logits)


class WhitenedNormal(dist.Distribution):
    """N(loc, L Lᵀ) with L⁻¹ given; see `whitened_normal`."""

    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    reparametrized_params = ["loc", "scale_tril", "whitener"]

    def __init__(self, loc: Any, scale_tril: Any, whitener: Any, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale_tril, self.whitener = loc, scale_tril, whitener
        batch: Any = xp.broadcast_shapes(loc.shape[:-1], scale_tril.shape[:-2])
        super().__init__(batch_shape=batch, event_shape=loc.shape[-1:], validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        noise = random.normal(key, sample_shape + self.batch_shape + self.event_shape, self.loc.dtype)
        return wn.draw(self.loc, self.scale_tril, noise)

    def log_prob(self, value: Any) -> Any:
        return wn.log_prob(xp, self.loc, self.whitener, value)

    @property
    def mean(self) -> Any:
        return xp.broadcast_to(self.loc, self.batch_shape + self.event_shape)


def whitened_normal(loc: Any, scale_tril: Any, whitener: Any) -> WhitenedNormal:
    return WhitenedNormal(loc, scale_tril, whitener)


class MarkovPath(dist.Distribution):
    """log p(z) = Σₜ log p(zₜ | zₜ₋₁, uₜ); see `markov_path`."""

    support = constraints.independent(constraints.real, 2)  # pyright: ignore[reportAssignmentType]
    has_rsample = True  # pyright: ignore[reportAssignmentType]

    def __init__(self, step: Callable[[Any, Any], Any], initial: Any, inputs: Any, mask: Any) -> None:
        self.step, self.initial, self.inputs, self.real = step, initial, inputs, mask
        event = (mask.shape[-1], initial.shape[-1])
        super().__init__(mp.batch_shape(xp, initial, inputs, mask), event, validate_args=False)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        steps, width = self.event_shape

        def advance(z: Any, now: tuple[Any, Any, Any]) -> tuple[Any, Any]:
            key, u, real = now
            z = xp.where(real[..., None], self.step(z, u).sample(key), z)
            return z, z

        start = xp.broadcast_to(self.initial, sample_shape + self.batch_shape + (width,))
        inputs = None if self.inputs is None else xp.moveaxis(self.inputs, -2, 0)
        times = random.split(key, steps), inputs, xp.moveaxis(self.real, -1, 0)
        return xp.moveaxis(jax.lax.scan(advance, start, times)[1], 0, -2)

    def log_prob(self, value: Any) -> Any:
        return mp.log_prob(xp, self.step, self.initial, self.inputs, self.real, value)


def markov(step: Callable[[Any, Any], Any], initial: Any, inputs: Any, mask: Any) -> MarkovPath:
    return MarkovPath(step, initial, inputs, mask)


class Pushforward(dist.Distribution):
    """log p(z) = log p_base(u) + log |det ∂u/∂z|, u = f⁻¹(z)."""

    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    has_rsample = True  # pyright: ignore[reportAssignmentType]

    def __init__(self, base: Any, forward: Callable[[Any], Any], inverse: Callable[[Any], tuple[Any, Any]]) -> None:
        self.base, self.forward, self.inverse = base, forward, inverse
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return self.forward(self.base.sample(key, sample_shape))

    def log_prob(self, value: Any) -> Any:
        u, log_det = self.inverse(value)
        return self.base.log_prob(u) + log_det


def pushforward(base: Any, forward: Callable[[Any], Any], inverse: Callable[[Any], tuple[Any, Any]]) -> Pushforward:
    return Pushforward(base, forward, inverse)


def scan(f: Callable[..., tuple[Any, Any]], carry: Any, *xs: Any, reverse: bool = False) -> Any:
    """Over the second-last axis of each of `xs`; outputs are stacked there."""
    times = tuple(xp.moveaxis(x, -2, 0) for x in xs)
    return xp.moveaxis(jax.lax.scan(lambda c, x: f(c, *x), carry, times, reverse=reverse)[1], 0, -2)


def conv(x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any:
    """Images (..., channels, height, width) with weight (out, in, h, w); any leading dims."""
    images, pad = x.reshape(-1, *x.shape[-3:]), [(padding, padding)] * 2
    y = conv_general_dilated(images, weight, (stride, stride), pad, dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def conv_transpose(x: Any, weight: Any, *, stride: int = 1, padding: int = 0) -> Any:
    """The adjoint of `conv` in its input; weight (in, out, h, w)."""
    images, edges = x.reshape(-1, *x.shape[-3:]), [(n - 1 - padding,) * 2 for n in weight.shape[-2:]]
    y = conv_general_dilated(images, xp.flip(weight, (-2, -1)), (1, 1), edges, lhs_dilation=(stride, stride),
                             dimension_numbers=("NCHW", "IOHW", "NCHW"))  # fmt: skip
    return y.reshape(*x.shape[:-3], *y.shape[1:])
