"""Restricted Boltzmann machine with copies of a layer: the layers of a deep machine's greedy start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..language import Array, Language
from ..likelihoods import Bernoulli
from ..networks import constant
from .sites import binary_site, column_logits


@dataclass(frozen=True)
class ReplicatedRBM:
    """E(x, h) = −(Σₐ xₐ)ᵀ W (Σ_c h_c) − bᵀ Σₐ xₐ − cᵀ Σ_c h_c, p ∝ exp(−E): copies xₐ and h_c share their parameters.

    With two copies of x, each given the same row, h hears 2 Wᵀ x where each copy of x hears W h: how the bottom layer of a
    deep Boltzmann machine, which lacks what comes from above, makes up for it; with two copies of h, the top layer.
    Sites, of 0.0 and 1.0: `x` (copies[0] · num_visible,), copy after copy, and `h` (copies[1] · num_hidden,), in plates
    `x_units`, `h_units`; factor `energy`. Parameters: `weight` (num_visible, num_hidden), `x.bias`, `h.bias`, of one copy.
    Source: Salakhutdinov and Hinton 2009, section 3.1 and figure 2.
    """

    num_visible: int
    num_hidden: int
    copies: tuple[int, int] = (1, 1)

    @property
    def data_dim(self) -> int:
        return self.copies[0] * self.num_visible

    @property
    def likelihood(self) -> Bernoulli:
        """How a visible unit by itself is scored, for the baseline of independent columns."""
        return Bernoulli()

    @property
    def sites(self) -> dict[str, int]:
        return {"x": self.data_dim, "h": self.copies[1] * self.num_hidden}

    @property
    def colours(self) -> tuple[tuple[str, ...], ...]:
        """Sites that are independent given the others."""
        return ("h",), ("x",)

    def parameters(self, ppl: Language) -> dict[str, Array]:
        D, H = self.num_visible, self.num_hidden
        shapes = {"weight": (D, H), "x.bias": (D,), "h.bias": (H,)}
        return {name: ppl.param(name, constant(ppl, 0.0, *shape)) for name, shape in shapes.items()}

    def model(self, ppl: Language) -> None:
        params = self.parameters(ppl)
        ppl.factor("energy", -self.energy(ppl, params, {name: binary_site(ppl, name, n) for name, n in self.sites.items()}))

    def energy(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
        """E, nats, shape of the leading dims; the bits of a site left out are zeros."""
        folded = {name: self._folded(value, 0 if name == "x" else 1) for name, value in values.items()}
        out: Any = sum(value @ params[f"{name}.bias"] for name, value in folded.items())
        if len(folded) == 2:
            out = out + ((folded["x"] @ params["weight"]) * folded["h"]).sum(-1)
        return -out

    def logits(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array], site: str) -> Array:
        """log odds of the bits of a site given the other, (..., size): the same for each copy."""
        if site == "h":
            one, copies = self._folded(values["x"], 0) @ params["weight"] + params["h.bias"], self.copies[1]
        else:
            one, copies = self._folded(values["h"], 1) @ params["weight"].mT + params["x.bias"], self.copies[0]
        return ppl.xp.concat([one] * copies, axis=-1)

    def _folded(self, bits: Array, layer: int) -> Array:
        """The sum of a layer's copies."""
        count = self.copies[layer]
        return bits.reshape(*bits.shape[:-1], count, bits.shape[-1] // count).sum(-2)

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Small couplings, and visible biases that fit each column alone."""
        D, H = self.num_visible, self.num_hidden
        return {"weight": 0.01 * rng.normal(size=(D, H)), "h.bias": np.zeros(H), "x.bias": column_logits(x[:, :D])}
