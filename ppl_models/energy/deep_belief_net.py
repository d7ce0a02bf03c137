"""Deep belief net: a restricted Boltzmann machine with a directed net below it (Hinton, Osindero and Teh 2006)."""

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
from .sites import binary_site, column_logits


@dataclass(frozen=True)
class DeepBeliefNet:
    """p(x, h) = p_RBM(h_{L−1}, h_L) ∏_{l<L} p(h_{l−1} | h_l) with h₀ = x, over bits; p(h_{l−1} | h_l) = Bern(σ(W_l h_l + b)).

    As an energy, E = E_RBM(h_{L−1}, h_L) − Σ_{l<L} log p(h_{l−1} | h_l): log Z is that of the RBM at the top alone.
    Recognition of the layers below the top is q(h_l | h_{l−1}) = Bern(σ(h_{l−1} W_l + r_l)), with the weights of the way down.
    Sites, of 0.0 and 1.0: `x` (data_dim,), `h1`, `h2`, … of the `hidden` widths, in plates `x_units` …; factor `energy`, of
    the two top layers. Parameters: `x.bias`, `h1.bias`, … and `h1.weight` (data_dim, hidden[0]), …; `h1.recognition`, … (r_l)
    of all hidden layers but the last, in which no density of the model shares. With one hidden layer it is an RBM.
    Source: Hinton et al. 2006, sections 2 to 4.

    Raises:
        InputError: There is no hidden layer.
    """

    data_dim: int
    hidden: tuple[int, ...] = (500, 500)

    def __post_init__(self) -> None:
        if not self.hidden:
            raise InputError("expected at least one hidden layer, got none; set hidden=500,500 or the like.")

    @property
    def likelihood(self) -> Bernoulli:
        """How a visible unit by itself is scored, for the baseline of independent columns."""
        return Bernoulli()

    @property
    def sites(self) -> dict[str, int]:
        return {"x": self.data_dim} | {f"h{i + 1}": size for i, size in enumerate(self.hidden)}

    @property
    def rbms(self) -> tuple[RBM, ...]:
        """What greedy training fits, from the data upwards; the last is the top."""
        return tuple(RBM(below, size) for below, size in pairwise(self.sites.values()))

    @property
    def top(self) -> RBM:
        """The undirected part: an RBM whose visible units are the last layer but one."""
        return self.rbms[-1]

    @property
    def directed(self) -> tuple[tuple[str, str], ...]:
        """Pairs (layer, the layer that it is drawn from), the lowest first."""
        return tuple(pairwise(tuple(self.sites)[:-1]))

    def top_parameters(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `top`, by its names."""
        below, last = tuple(self.sites)[-2:]
        return {"weight": params[f"{last}.weight"], "x.bias": params[f"{below}.bias"], "h.bias": params[f"{last}.bias"]}

    def parameters(self, ppl: Language) -> dict[str, Array]:
        out = {f"{name}.bias": ppl.param(f"{name}.bias", constant(ppl, 0.0, size)) for name, size in self.sites.items()}
        for (_, below), (name, size) in pairwise(self.sites.items()):
            out[f"{name}.weight"] = ppl.param(f"{name}.weight", constant(ppl, 0.0, below, size))
        for _, name in self.directed:
            out[f"{name}.recognition"] = ppl.param(f"{name}.recognition", constant(ppl, 0.0, self.sites[name]))
        return out

    def model(self, ppl: Language) -> None:
        params = self.parameters(ppl)
        values = {name: binary_site(ppl, name, self.sites[name]) for name in tuple(self.sites)[-2:]}
        ppl.factor("energy", -self._top_energy(ppl, params, values))
        for name, above in reversed(self.directed):
            with ppl.plate(f"{name}_units", self.sites[name]):
                logits = self.down(ppl, params, name, values[above])
                values[name] = ppl.sample(name, ppl.dist.Bernoulli(logits=logits))

    def _top_energy(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
        below, last = tuple(self.sites)[-2:]
        return self.top.energy(ppl, self.top_parameters(params), {"x": values[below], "h": values[last]})

    def energy(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
        """E, nats, shape of the leading dims."""
        out = self._top_energy(ppl, params, values)
        for name, above in self.directed:
            logits = self.down(ppl, params, name, values[above])
            out = out - (values[name] * logits - ppl.softplus(logits)).sum(-1)
        return out

    def down(self, ppl: Language, params: Mapping[str, Array], name: str, above: Array) -> Array:
        """log odds of a layer's units given the layer above, (..., size): p(h_{l−1} | h_l)."""
        source = dict(self.directed)[name]
        return above @ params[f"{source}.weight"].mT + params[f"{name}.bias"]

    def up(self, ppl: Language, params: Mapping[str, Array], name: str, below: Array) -> Array:
        """log odds of a hidden layer's units given the layer below, (..., size): q(h_l | h_{l−1}), of the last layer p."""
        last = tuple(self.sites)[-1]
        return below @ params[f"{name}.weight"] + params[f"{name}.bias" if name == last else f"{name}.recognition"]

    def generate(self, ppl: Any, rng_key: Any, params: Mapping[str, Array], values: Mapping[str, Array]) -> tuple[Any, Any]:
        """The next key, and all sites of states of the top: the layers below drawn downwards, (..., size) each.

        `ppl` are the words of a kernel, which hand randomness on.
        """
        out = dict(values)
        for name, above in reversed(self.directed):
            logits = self.down(ppl, params, name, out[above])
            rng_key, u = ppl.uniform(rng_key, logits)
            rng_key, out[name] = ppl.flip(rng_key, u, logits)
        return rng_key, {name: out[name] for name in self.sites}

    def stacked(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The net that the parameters of `rbms` make: each below the top gives its way down, and its way up for recognition."""
        names, out = tuple(self.sites), dict[str, Any]()
        for i, (below, name) in enumerate(pairwise(names)):
            out |= {f"{below}.bias": parts[i]["x.bias"], f"{name}.weight": parts[i]["weight"]}
            out[f"{name}.bias" if name == names[-1] else f"{name}.recognition"] = parts[i]["h.bias"]
        return out

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Small couplings, and visible biases that fit each column alone."""
        out = {f"{name}.bias": np.zeros(size) for name, size in self.sites.items()} | {"x.bias": column_logits(x)}
        for (_, below), (name, size) in pairwise(self.sites.items()):
            out[f"{name}.weight"] = 0.01 * rng.normal(size=(below, size))
        return out | {f"{name}.recognition": np.zeros(self.sites[name]) for _, name in self.directed}
