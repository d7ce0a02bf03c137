"""Deep Boltzmann machine of n layers (Salakhutdinov and Hinton 2009)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import InputError
from ..language import Array, Language
from ..likelihoods import Bernoulli
from ..networks import constant
from .rbm import RBM
from .replicated import ReplicatedRBM
from .sites import binary_site, column_logits


@dataclass(frozen=True)
class DeepBoltzmannMachine:
    """E(x, h) = −Σₗ hₗ₋₁ᵀ Wₗ hₗ − Σₗ bₗᵀ hₗ with h₀ = x, over bits; p ∝ exp(−E).

    Sites, of 0.0 and 1.0: `x` (data_dim,), `h1`, `h2`, … of the `hidden` widths, in plates `x_units` …; factor `energy`.
    Parameters: `x.bias`, `h1.bias`, … and `h1.weight` (data_dim, hidden[0]), `h2.weight` (hidden[0], hidden[1]), …
    The graph has two colours, even and odd layers: given one, the other's units are independent.
    Source: Salakhutdinov and Hinton 2009, eq. 9.

    Raises:
        InputError: There is no hidden layer.
    """

    data_dim: int
    hidden: tuple[int, ...] = (500, 1000)

    def __post_init__(self) -> None:
        if not self.hidden:
            raise InputError("expected at least one hidden layer, got none; set hidden=500,1000 or the like.")

    @property
    def likelihood(self) -> Bernoulli:
        """How a visible unit by itself is scored, for the baseline of independent columns."""
        return Bernoulli()

    @property
    def sites(self) -> dict[str, int]:
        return {"x": self.data_dim} | {f"h{i + 1}": size for i, size in enumerate(self.hidden)}

    @property
    def colours(self) -> tuple[tuple[str, ...], ...]:
        """Layers that are independent given the others: odd ones, then even ones."""
        names = tuple(self.sites)
        return names[1::2], names[::2]

    @property
    def rbms(self) -> tuple[RBM | ReplicatedRBM, ...]:
        """What a greedy start fits, from the data upwards (Salakhutdinov and Hinton 2009, section 3.1).

        Two copies of the data and of the last layer stand for what the bottom and the top lack.
        """
        pairs = tuple(pairwise(self.sites.values()))
        if len(pairs) == 1:
            return (RBM(*pairs[0]),)
        middle = tuple(RBM(*pair) for pair in pairs[1:-1])
        return ReplicatedRBM(*pairs[0], (2, 1)), *middle, ReplicatedRBM(*pairs[-1], (1, 2))

    def stacked(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The machine that the parameters of `rbms` make: each layer hears half of what either neighbour alone would tell it.

        So biases of a layer that two of them share are their mean, and middle weights are halved.
        """
        names, out = tuple(self.sites), {"x.bias": parts[0]["x.bias"]}
        for i, (_, name) in enumerate(pairwise(names)):
            ends = i in (0, len(parts) - 1)
            out[f"{name}.weight"] = parts[i]["weight"] if ends else parts[i]["weight"] / 2
            last = i == len(parts) - 1
            out[f"{name}.bias"] = parts[i]["h.bias"] if last else (parts[i]["h.bias"] + parts[i + 1]["x.bias"]) / 2
        return out

    def parameters(self, ppl: Language) -> dict[str, Array]:
        out = {f"{name}.bias": ppl.param(f"{name}.bias", constant(ppl, 0.0, size)) for name, size in self.sites.items()}
        for (_, above), (name, size) in pairwise(self.sites.items()):
            out[f"{name}.weight"] = ppl.param(f"{name}.weight", constant(ppl, 0.0, above, size))
        return out

    def model(self, ppl: Language) -> None:
        params = self.parameters(ppl)
        ppl.factor("energy", -self.energy(ppl, params, {name: binary_site(ppl, name, n) for name, n in self.sites.items()}))

    def energy(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
        """E, nats, shape of the leading dims; the bits of a site left out are zeros."""
        out: Any = sum(value @ params[f"{name}.bias"] for name, value in values.items())
        for above, name in pairwise(self.sites):
            if above in values and name in values:
                out = out + ((values[above] @ params[f"{name}.weight"]) * values[name]).sum(-1)
        return -out

    def logits(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array], site: str) -> Array:
        """log odds of the layer's units given its neighbours, (..., size)."""
        names = list(self.sites)
        i, out = names.index(site), params[f"{site}.bias"]
        if i > 0:
            out = values[names[i - 1]] @ params[f"{site}.weight"] + out
        if i + 1 < len(names):
            out = values[names[i + 1]] @ params[f"{names[i + 1]}.weight"].mT + out
        return out

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Small couplings, and visible biases that fit each column alone."""
        out = {f"{name}.bias": np.zeros(size) for name, size in self.sites.items()} | {"x.bias": column_logits(x)}
        for (_, above), (name, size) in pairwise(self.sites.items()):
            out[f"{name}.weight"] = 0.01 * rng.normal(size=(above, size))
        return out
