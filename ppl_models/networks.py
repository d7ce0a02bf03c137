"""Networks as parameters and array arithmetic: the same names, shapes and file in both engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

from .language import Array, Language


def uniform(ppl: Language, bound: float, *shape: int) -> Callable[..., Array]:
    """An initialiser both engines take: entries uniform on (−bound, bound)."""
    return lambda *key: ppl.dist.Uniform(ppl.xp.full(shape, -bound), ppl.xp.full(shape, bound)).sample(*key)


def constant(ppl: Language, value: float, *shape: int) -> Callable[..., Array]:
    """An initialiser both engines take: every entry `value`."""
    return lambda *key: ppl.xp.full(shape, value)


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
        activate = getattr(ppl, self.activation)
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
