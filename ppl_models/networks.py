"""Networks as parameters and array arithmetic: the same names, shapes and file in both engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, sqrt
from typing import Any

from .errors import InputError
from .language import Array, Distribution, Language

KERNEL, STRIDE, PADDING = 4, 2, 1  # of a convolution: it halves the side exactly


def uniform(ppl: Language, bound: float, *shape: int) -> Callable[..., Array]:
    """An initialiser both engines take: entries uniform on (−bound, bound)."""
    return lambda *key: ppl.dist.Uniform(ppl.xp.full(shape, -bound), ppl.xp.full(shape, bound)).sample(*key)


def constant(ppl: Language, value: float, *shape: int) -> Callable[..., Array]:
    """An initialiser both engines take: every entry `value`."""
    return lambda *key: ppl.xp.full(shape, value)


def one_hot(ppl: Language, label: Array, num_classes: int) -> Array:
    """Labels (...) as vectors (..., num_classes); a label outside 0 … num_classes − 1 becomes the zero vector."""
    return ppl.xp.where(label[..., None] == ppl.xp.arange(num_classes), 1.0, 0.0)


def standard_normal(ppl: Language, dim: int) -> Distribution:
    """N(0, I) over vectors (dim,)."""
    return ppl.dist.Normal(ppl.xp.zeros(dim), 1.0).to_event(1)


def diagonal_normal(ppl: Language, output: Array) -> Distribution:
    """N(μ, diag exp λ) from a network's output (..., 2 dim), μ before λ."""
    dim = output.shape[-1] // 2
    return ppl.dist.Normal(output[..., :dim], ppl.xp.exp(output[..., dim:] / 2)).to_event(1)


def nonlinearity(ppl: Language, name: str) -> Callable[[Array], Array]:
    """softplus, relu, sigmoid or tanh."""
    return ppl.xp.tanh if name == "tanh" else getattr(ppl, name)


@dataclass(frozen=True)
class MLP:
    """Dense layers of the given widths, x ↦ a(… a(x W₀ + b₀) …) Wₙ + bₙ; weights Glorot-uniform, biases zero.

    Several inputs are read as if concatenated along the last axis, but enter as a sum of products: inputs with
    different leading dims broadcast, so an enumerated input costs one row and not a whole product.
    """

    widths: tuple[int, ...]
    activation: str = "softplus"

    def bind(self, ppl: Language, name: str) -> Callable[..., Any]:
        """Fetch the parameters `name.i.weight` (in, out) and `name.i.bias` now; the function returned is pure."""
        activate = nonlinearity(ppl, self.activation)
        layers = [
            (ppl.param(f"{name}.{i}.weight", uniform(ppl, sqrt(6 / (a + b)), a, b)),
             ppl.param(f"{name}.{i}.bias", constant(ppl, 0.0, b)))
            for i, (a, b) in enumerate(pairwise(self.widths))
        ]  # fmt: skip

        def apply(*inputs: Array) -> Array:
            (weight, bias), start = layers[0], 0
            products = []
            for x in inputs:
                rows = weight[start : start + x.shape[-1]] if len(inputs) > 1 else weight
                products.append(x @ rows)
                start += x.shape[-1]
            h = sum(products[1:], products[0]) + bias
            for weight, bias in layers[1:]:
                h = activate(h) @ weight + bias
            return h

        return apply

    def __call__(self, ppl: Language, name: str, *inputs: Array) -> Any:
        return self.bind(ppl, name)(*inputs)


def square_side(data_dim: int, halvings: int) -> int:
    """The side of a square image of `data_dim` pixels that can be halved so often.

    Raises:
        InputError: It is not a square, or its side is not a multiple of 2^halvings.
    """
    side = isqrt(data_dim)
    if side**2 != data_dim or side % 2**halvings:
        raise InputError(f"expected square images whose side is a multiple of {2**halvings}, got rows of {data_dim} pixels; "
                         "crop or pad the images, or set network=mlp.")  # fmt: skip
    return side


def kernels(ppl: Language, name: str, channels: tuple[int, ...], transposed: bool = False) -> list[tuple[Array, Array]]:
    """The weight (out, in, 4, 4), or (in, out, 4, 4) if transposed, and the bias (out, 1, 1) of each convolution."""
    return [
        (ppl.param(f"{name}.{i}.weight", uniform(ppl, sqrt(6 / (a + b)) / KERNEL, *((a, b) if transposed else (b, a)),
                                                 KERNEL, KERNEL)),
         ppl.param(f"{name}.{i}.bias", constant(ppl, 0.0, b, 1, 1)))
        for i, (a, b) in enumerate(pairwise(channels))
    ]  # fmt: skip


@dataclass(frozen=True)
class ConvEncoder:
    """Flat square images (..., side²) to vectors: convolutions that halve the side, then dense layers.

    `channels` are those of each convolution's output, `widths` those of the dense layers. Parameters:
    `name.conv.i.weight` (out, in, 4, 4), `name.conv.i.bias` (out, 1, 1), `name.dense.i.*` as of an MLP.
    """

    side: int
    channels: tuple[int, ...]
    widths: tuple[int, ...]
    activation: str = "softplus"

    def bind(self, ppl: Language, name: str) -> Callable[[Array], Array]:
        activate = nonlinearity(ppl, self.activation)
        layers = kernels(ppl, f"{name}.conv", (1, *self.channels))
        flat = self.channels[-1] * (self.side // 2 ** len(self.channels)) ** 2
        dense = MLP((flat, *self.widths), self.activation).bind(ppl, f"{name}.dense")

        def apply(x: Array) -> Array:
            h = x.reshape(*x.shape[:-1], 1, self.side, self.side)
            for weight, bias in layers:
                h = activate(ppl.conv(h, weight, stride=STRIDE, padding=PADDING) + bias)
            return dense(h.reshape(*x.shape[:-1], flat))

        return apply

    def __call__(self, ppl: Language, name: str, x: Array) -> Array:
        return self.bind(ppl, name)(x)


@dataclass(frozen=True)
class ConvDecoder:
    """Vectors to flat square images (..., side² · channels[-1]): dense layers, then convolutions that double the side.

    The mirror image of `ConvEncoder`; `widths` begin with the input's, and a pixel's channels are neighbours.
    Parameters: `name.dense.i.*`, `name.conv.i.weight` (in, out, 4, 4), `name.conv.i.bias` (out, 1, 1).
    """

    side: int
    widths: tuple[int, ...]
    channels: tuple[int, ...]
    activation: str = "softplus"

    def bind(self, ppl: Language, name: str) -> Callable[[Array], Array]:
        activate = nonlinearity(ppl, self.activation)
        small = self.side // 2 ** (len(self.channels) - 1)
        dense = MLP((*self.widths, self.channels[0] * small**2), self.activation).bind(ppl, f"{name}.dense")
        layers = kernels(ppl, f"{name}.conv", self.channels, transposed=True)

        def apply(z: Array) -> Array:
            h = dense(z).reshape(*z.shape[:-1], self.channels[0], small, small)
            for weight, bias in layers:
                h = ppl.conv_transpose(activate(h), weight, stride=STRIDE, padding=PADDING) + bias
            return ppl.xp.moveaxis(h, -3, -1).reshape(*z.shape[:-1], self.side**2 * self.channels[-1])

        return apply

    def __call__(self, ppl: Language, name: str, z: Array) -> Array:
        return self.bind(ppl, name)(z)
