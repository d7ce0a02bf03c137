"""An energy given by a network, over bits or reals (LeCun et al. 2006; Grathwohl et al. 2021 for bits)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log, pi, sqrt
from typing import Literal

import numpy as np

from ..errors import InputError
from ..language import Array, Language
from ..likelihoods import Bernoulli, Likelihood, Normal
from ..networks import constant, nonlinearity, uniform
from .sites import binary_site, column_logits


@dataclass(frozen=True)
class NeuralEnergy:
    """E(x) = −f(x) − Σᵢ log pᵢ(xᵢ), p ∝ exp(−E); f a dense network to one number, pᵢ independent columns.

    pᵢ is Bernoulli of log odds `x.bias`, or if `visible` is "normal", N(`x.bias`, `x.scale`²): with a bounded f (activation
    tanh or sigmoid) such a p always has a finite Z, and f has only what couples the columns to learn. Z = E_Π pᵢ[exp f], so
    that log Z is 0 where f is.
    Site: `x` (data_dim,), bits or reals, plate `x_units`; factor `energy`. Parameters: `net.i.weight`, `net.i.bias`, `x.bias`
    and, of reals, `x.scale`.

    Raises:
        InputError: The kind of units is unknown.
    """

    data_dim: int
    hidden: tuple[int, ...] = (128,)
    visible: Literal["bernoulli", "normal"] = "bernoulli"
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if self.visible not in ("bernoulli", "normal"):
            raise InputError(f"expected visible units bernoulli or normal, got '{self.visible}'; choose one of those.")

    @property
    def likelihood(self) -> Likelihood:
        """How a unit by itself is scored, for the baseline of independent columns."""
        return Normal("per-dim") if self.visible == "normal" else Bernoulli()

    @property
    def sites(self) -> dict[str, int]:
        return {"x": self.data_dim}

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.data_dim, *self.hidden, 1)

    @property
    def readout(self) -> tuple[str, str]:
        """The parameters of the last layer: f is linear in them, and 0 where they are."""
        return f"net.{len(self.hidden)}.weight", f"net.{len(self.hidden)}.bias"

    def parameters(self, ppl: Language) -> dict[str, Array]:
        D, out = self.data_dim, dict[str, Array]()
        for i, (a, b) in enumerate(pairwise(self.widths)):
            out[f"net.{i}.weight"] = ppl.param(f"net.{i}.weight", uniform(ppl, sqrt(6 / (a + b)), a, b))
            out[f"net.{i}.bias"] = ppl.param(f"net.{i}.bias", constant(ppl, 0.0, b))
        out["x.bias"] = ppl.param("x.bias", constant(ppl, 0.0, D))
        if self.visible == "normal":
            out["x.scale"] = ppl.param("x.scale", constant(ppl, 1.0, D), constraint=ppl.constraints.positive)
        return out

    def model(self, ppl: Language) -> None:
        params = self.parameters(ppl)
        if self.visible == "normal":
            with ppl.plate("x_units", self.data_dim):
                x = ppl.sample("x", ppl.dist.Normal(params["x.bias"], params["x.scale"]).mask(False))
        else:
            x = binary_site(ppl, "x", self.data_dim)
        ppl.factor("energy", -self.energy(ppl, params, {"x": x}))

    def energy(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
        """E, nats, shape of the leading dims."""
        x, act = values["x"], nonlinearity(ppl, self.activation)
        f = x @ params["net.0.weight"] + params["net.0.bias"]
        for i in range(1, len(self.hidden) + 1):
            f = act(f) @ params[f"net.{i}.weight"] + params[f"net.{i}.bias"]
        return -f[..., 0] - self.base(ppl, params, x)

    def base(self, ppl: Language, params: Mapping[str, Array], x: Array) -> Array:
        """Σᵢ log pᵢ(xᵢ), nats, shape of the leading dims."""
        if self.visible == "bernoulli":
            return x @ params["x.bias"] - ppl.softplus(params["x.bias"]).sum(-1)
        z = (x - params["x.bias"]) / params["x.scale"]
        return -(z**2).sum(-1) / 2 - ppl.xp.log(params["x.scale"]).sum(-1) - self.data_dim / 2 * log(2 * pi)

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A base that fits each column alone, and a network of Glorot's scale whose last layer is small."""
        out = dict[str, np.ndarray]()
        for i, (a, b) in enumerate(pairwise(self.widths)):
            bound = (0.1 if i == len(self.hidden) else 1.0) * sqrt(6 / (a + b))
            out |= {f"net.{i}.weight": rng.uniform(-bound, bound, (a, b)), f"net.{i}.bias": np.zeros(b)}
        if self.visible == "bernoulli":
            return out | {"x.bias": column_logits(x)}
        x = np.asarray(x, float)
        return out | {"x.bias": x.mean(0), "x.scale": np.maximum(x.std(0), 1e-3)}
