"""Boltzmann machine on any graph, with or without hidden units (Ackley, Hinton and Sejnowski 1985)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import InputError
from ..language import Array, Language
from ..likelihoods import Bernoulli
from ..networks import constant
from .sites import binary_site, by_site, column_logits, flat

Spins = Literal["binary", "ising"]


class Neighbours(NamedTuple):
    """Of each unit, (units, degree), padded to the largest degree by unit 0 and an edge after the last; `count` without."""

    unit: np.ndarray
    edge: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class BoltzmannMachine:
    """E(x, h) = −Σ_{i<j} Jᵢⱼ sᵢ sⱼ − Σᵢ bᵢ sᵢ, p ∝ exp(−E / T); s = (x, h) of bits ("binary"), or 2 (x, h) − 1 ("ising").

    `edges` are pairs (i, j) of units, hidden ones counted after the visible; None couples every pair.
    Sites, of 0.0 and 1.0: `x` (data_dim,) and, with hidden units, `h` (num_hidden,), plates `x_units` and `h_units`; factor
    `energy`. Parameters: `bias` (units,) and `coupling`, (edges,) or, of all pairs, (units, units) read strictly below the
    diagonal. Source: Ackley et al. 1985, eqs 1 to 5.

    Raises:
        InputError: An edge is a loop, occurs twice or names a unit that is not there; T is not positive.
    """

    data_dim: int
    num_hidden: int = 0
    edges: tuple[tuple[int, int], ...] | None = None
    spins: Spins = "binary"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.spins not in ("binary", "ising"):
            raise InputError(f"expected spins binary or ising, got '{self.spins}'; choose one of those.")
        if not self.temperature > 0:
            raise InputError(f"expected a temperature above 0, got {self.temperature!r}; give one, or divide the parameters.")
        seen = set()
        for number, (i, j) in enumerate(self.edges or ()):
            pair = (min(i, j), max(i, j))
            if i == j or pair in seen or not (0 <= pair[0] and pair[1] < self.num_units):
                raise InputError(f"expected edges between two of {self.num_units} units, each pair once, got ({i}, {j}) as "
                                 f"edge {number}; leave it out.")  # fmt: skip
            seen.add(pair)

    @property
    def num_units(self) -> int:
        return self.data_dim + self.num_hidden

    @property
    def likelihood(self) -> Bernoulli:
        """How a visible unit by itself is scored, for the baseline of independent columns."""
        return Bernoulli()

    @property
    def sites(self) -> dict[str, int]:
        return {"x": self.data_dim} | ({"h": self.num_hidden} if self.num_hidden else {})

    def parameters(self, ppl: Language) -> dict[str, Array]:
        n = self.num_units
        shape = (n, n) if self.edges is None else (len(self.edges),)
        return {"coupling": ppl.param("coupling", constant(ppl, 0.0, *shape)), "bias": ppl.param("bias", constant(ppl, 0.0, n))}

    def model(self, ppl: Language) -> None:
        params = self.parameters(ppl)
        values = {name: binary_site(ppl, name, size) for name, size in self.sites.items()}
        ppl.factor("energy", -self.energy(ppl, params, values))

    def energy(self, ppl: Language, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
        """E / T, nats, shape of the leading dims."""
        s = self.spin(flat(ppl, self.sites, values))
        if self.edges is None:
            pairs = ((s @ ppl.xp.tril(params["coupling"], k=-1)) * s).sum(-1)
        else:
            first, second = np.array(self.edges, int).reshape(-1, 2).T
            pairs = (s[..., first] * s[..., second]) @ params["coupling"]
        return -(pairs + s @ params["bias"]) / self.temperature

    def spin(self, bits: Array) -> Array:
        return bits if self.spins == "binary" else 2.0 * bits - 1.0

    @property
    def _step(self) -> float:
        """By how much the spin of a flipped bit changes, over T: what turns fields into log odds."""
        return (1.0 if self.spins == "binary" else 2.0) / self.temperature

    def symmetric(self, ppl: Language, params: Mapping[str, Array]) -> Array:
        """The couplings as a symmetric matrix (units, units) with a zero diagonal."""
        if self.edges is None:
            below = ppl.xp.tril(params["coupling"], k=-1)
            return below + below.mT
        first, second = np.array(self.edges, int).reshape(-1, 2).T
        entry = np.full((self.num_units, self.num_units), len(self.edges))
        entry[first, second] = entry[second, first] = np.arange(len(self.edges))
        return self._padded(ppl, params)[entry]

    def _padded(self, ppl: Language, params: Mapping[str, Array]) -> Array:
        """The couplings of the edges, and a zero for what is no edge."""
        return ppl.xp.concat([params["coupling"], ppl.xp.zeros_like(params["bias"][:1])], axis=0)

    def prepared(self, ppl: Language, params: Mapping[str, Array]) -> dict[str, Array]:
        """What `logits` and `columns` read, to be made once for many calls, as log odds.

        Couplings (units, units or degree) and biases.
        """
        dense = self.edges is None
        coupling = self.symmetric(ppl, params) if dense else self._padded(ppl, params)[self.neighbours.edge]
        return {"coupling": coupling * self._step, "bias": params["bias"] * self._step}

    def logits(self, ppl: Language, prepared: Mapping[str, Array], units: Array) -> Array:
        """log p(bit = 1 | the others) − log p(bit = 0 | the others) of the flat bits, (..., units)."""
        return ppl.xp.moveaxis(self.columns(ppl, prepared, ppl.xp.moveaxis(units, -1, 0)), 0, -1)

    def columns(self, ppl: Language, prepared: Mapping[str, Array], units: Array, which: Any = slice(None)) -> Array:
        """`logits` with the units in front, (units, ...), where those of many chains lie side by side: of all, some or one."""
        s, bias, coupling = self.spin(units), prepared["bias"][which], prepared["coupling"][which]
        bias = bias.reshape(*bias.shape, *(1,) * (s.ndim - 1))
        if self.edges is None:
            return ppl.xp.tensordot(coupling, s, axes=1) + bias
        near = self.neighbours.unit
        if isinstance(which, slice):
            which = np.arange(self.num_units)[which]
        if isinstance(which, np.ndarray):
            most = self.neighbours.count[which].max()
            near, coupling = near[which, :most], coupling[:, :most]
            out = bias + 0.0 * s[:1]
            for i in range(most):  # whole rows a neighbour: a gather of all at once is many times slower on a CPU
                out = out + coupling[(..., i, *(None,) * (s.ndim - 1))] * s[near[:, i]]
            return out
        near = ppl.xp.asarray(near)[which]
        return (coupling.reshape(*coupling.shape, *(1,) * (s.ndim - 1)) * s[near]).sum(near.ndim - 1) + bias

    @cached_property
    def neighbours(self) -> Neighbours:
        lists: list[list[tuple[int, int]]] = [[] for _ in range(self.num_units)]
        for number, (i, j) in enumerate(self.edges or ()):
            lists[i].append((j, number))
            lists[j].append((i, number))
        degree = max(1, *map(len, lists))
        # int32, since of an int64 array that lives on JAX may keep a narrowed copy, and use it under x64 too.
        padded = np.array([row + [(0, len(self.edges or ()))] * (degree - len(row)) for row in lists], np.int32)
        return Neighbours(padded[..., 0], padded[..., 1], np.array([len(row) for row in lists]))

    def split(self, units: Array) -> dict[str, Array]:
        """Flat bits by site."""
        return by_site(self.sites, units)

    def join(self, ppl: Language, values: Mapping[str, Array]) -> Array:
        """The sites' bits side by side, (..., units)."""
        return flat(ppl, self.sites, values)

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Small couplings, and visible biases that fit each column alone."""
        n, scale = self.num_units, self.temperature / (1.0 if self.spins == "binary" else 2.0)
        bias = np.concatenate([column_logits(x) * scale, np.zeros(self.num_hidden)])
        shape = (n, n) if self.edges is None else (len(self.edges),)
        # Hidden units that start alike would stay alike.
        return {"bias": bias, "coupling": (0.01 if self.num_hidden else 0.0) * rng.normal(size=shape)}
