"""Restricted Boltzmann machine (Smolensky 1986), with binary or Gaussian visible units, centred or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import InputError
from ..language import Array, Language
from ..likelihoods import Bernoulli, Likelihood, Normal
from ..networks import constant
from .sites import binary_site, column_logits

Visible = Literal["bernoulli", "normal"]


@dataclass(frozen=True)
class RBM:
    """E(x, h) = −(x − μ)ᵀ W (h − λ) − bᵀ (x − μ) − cᵀ (h − λ), p ∝ exp(−E).

    With Gaussian x, E(x, h) = ½ ‖(x − b) / σ‖² − ((x − μ) / σ)ᵀ W (h − λ) − cᵀ (h − λ).
    The offsets μ and λ change no law that W, b and c could not express without them; centred on the data's means they
    make the gradient better conditioned (Melchior, Fischer and Wiskott 2016). They are zero unless `centred`.
    Sites: `x` (data_dim,), bits, or reals if `visible` is "normal", and bits `h` (num_hidden,); plates `x_units`, `h_units`;
    factor `energy`. Parameters: `weight` (data_dim, num_hidden), `x.bias`, `h.bias`; `x.scale` if normal; and, moved by
    averaging and not by gradients, `x.offset`, `h.offset` if centred.
    Source: Hinton 2012, eq. 1 and section 13.2; Melchior et al. 2016, eq. 4.

    Raises:
        InputError: The kind of visible units is unknown.
    """

    data_dim: int
    num_hidden: int = 500
    visible: Visible = "bernoulli"
    centred: bool = False

    def __post_init__(self) -> None:
        if self.visible not in ("bernoulli", "normal"):
            raise InputError(f"expected visible units bernoulli or normal, got '{self.visible}'; choose one of those.")

    @property
    def likelihood(self) -> Likelihood:
        """How a visible unit by itself is scored, for the baseline of independent columns."""
        return Normal("per-dim") if self.visible == "normal" else Bernoulli()

    @property
    def sites(self) -> dict[str, int]:
        return {"x": self.data_dim, "h": self.num_hidden}

    @property
    def colours(self) -> tuple[tuple[str, ...], ...]:
        """Sites that are independent given the others."""
        return ("h",), ("x",)

    def parameters(self, ppl: Language) -> dict[str, Array]:
        D, H = self.data_dim, self.num_hidden
        shapes = {"weight": (D, H), "x.bias": (D,), "h.bias": (H,)}
        shapes |= {"x.offset": (D,), "h.offset": (H,)} if self.centred else {}
        out = {name: ppl.param(name, constant(ppl, 0.0, *shape)) for name, shape in shapes.items()}
        if self.visible == "normal":
            out["x.scale"] = ppl.param("x.scale", constant(ppl, 1.0, D), constraint=ppl.constraints.positive)
        return out

    def model(self, ppl: Language) -> None:
        params = self.parameters(ppl)
        if self.visible == "normal":
            with ppl.plate("x_units", self.data_dim):
                # A proper base, taken back below: its draws are where samplers start.
                x = ppl.sample("x", ppl.dist.Normal(params["x.bias"], params["x.scale"]).mask(False))
        else:
            x = binary_site(ppl, "x", self.data_dim)
        h = binary_site(ppl, "h", self.num_hidden)
        ppl.factor("energy", -self.energy(ppl, params, {"x": x, "h": h}))

    def _centred(self, params: Mapping[str, Array], name: str, value: Any) -> Any:
        return value - params[f"{name}.offset"] if self.centred else value

    def _scaled(self, params: Mapping[str, Array], x: Array) -> Array:
        return x / params["x.scale"] if self.visible == "normal" else x

    def energy(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
        """E, nats, shape of the leading dims; the bits of a site left out are zeros."""
        x, h = (self._centred(params, name, values.get(name, 0.0)) for name in ("x", "h"))
        out: Any = 0.0
        if self.visible == "normal":
            out = -(((values["x"] - params["x.bias"]) / params["x.scale"]) ** 2).sum(-1) / 2
        elif "x" in values or self.centred:
            out = x @ params["x.bias"]
        if "h" in values or self.centred:
            out = out + h @ params["h.bias"]
        if len(values) == 2 or self.centred:
            # A vector h, the offset's share or a single state, needs no product of matrices.
            x = self._scaled(params, x)
            out = out + (x @ (params["weight"] @ h) if h.ndim == 1 else ((x @ params["weight"]) * h).sum(-1))
        return -out

    def logits(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array], site: str) -> Array:
        """log odds of the bits of a site given the other, (..., size)."""
        if site == "h":
            return self._scaled(params, self._centred(params, "x", values["x"])) @ params["weight"] + params["h.bias"]
        return self._centred(params, "h", values["h"]) @ params["weight"].mT + params["x.bias"]

    def normal(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> tuple[Array, Array]:
        """Location and scale of Gaussian x given h, (..., data_dim)."""
        scale = params["x.scale"]
        return params["x.bias"] + scale * (self._centred(params, "h", values["h"]) @ params["weight"].mT), scale

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Small couplings, visible biases that fit each column alone, and offsets at the means (Hinton 2012, section 8)."""
        mean = np.asarray(x, float).mean(0)
        out = {"weight": 0.01 * rng.normal(size=(self.data_dim, self.num_hidden)), "h.bias": np.zeros(self.num_hidden)}
        if self.visible == "normal":
            out |= {"x.bias": mean, "x.scale": np.maximum(np.asarray(x, float).std(0), 1e-3)}
        else:
            out["x.bias"] = column_logits(x)
        return out | ({"x.offset": mean, "h.offset": np.full(self.num_hidden, 0.5)} if self.centred else {})

    def recentred(
        self, ppl: Language, params: Mapping[str, Array], x: Array, rate: float
    ) -> dict[str, Array]:
        """The offsets moved towards the means over rows x by `rate`, and biases that keep the law as it was."""
        h = ppl.sigmoid(self.logits(ppl, params, {"x": x}, "h"))
        x_step = rate * (x.sum(0) / x.shape[0] - params["x.offset"])
        h_step = rate * (h.sum(0) / x.shape[0] - params["h.offset"])
        scaled = x_step / params["x.scale"] if self.visible == "normal" else x_step
        x_gain = params["weight"] @ h_step
        return {
            **params, "x.offset": params["x.offset"] + x_step, "h.offset": params["h.offset"] + h_step,
            "x.bias": params["x.bias"] + (params["x.scale"] * x_gain if self.visible == "normal" else x_gain),
            "h.bias": params["h.bias"] + scaled @ params["weight"],
        }  # fmt: skip
