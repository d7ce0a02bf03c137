"""Chromatic Gibbs: the units of one colour at once, on any graph (Gonzalez, Low, Gretton and Guestrin 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ppl_models import InputError

from .state import Info, State, always, bernoulli, by_columns, columns, row

Edges = tuple[tuple[int, int], ...]


def coloured(num_units: int, edges: Edges) -> tuple[int, ...]:
    """A colour for each unit, no two neighbours alike: greedy, units of high degree first (Welsh and Powell 1967)."""
    near: list[set[int]] = [set() for _ in range(num_units)]
    for i, j in edges:
        near[i].add(j)
        near[j].add(i)
    colours = [-1] * num_units
    for unit in sorted(range(num_units), key=lambda unit: -len(near[unit])):
        taken = {colours[other] for other in near[unit]}
        colours[unit] = next(colour for colour in range(num_units) if colour not in taken)
    return tuple(colours)


@dataclass(frozen=True)
class ChromaticGibbs:
    """T = Π_c K_c, each K_c drawing all units of colour c from p(x_c | the rest)^β / Z_c: invariant, not reversible.

    `colours` gives each unit its colour, hidden units after the visible; found by `coloured` if left out. Units in `clamp`
    stay as they are. Every pair of a dense machine is an edge, so there each unit has a colour of its own; see
    `SequentialGibbs` for those.

    Raises:
        InputError: Two neighbours have the same colour (the edge is named), or units are missing.
    """

    model: Any
    colours: tuple[int, ...] | None = None
    clamp: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        n, colours = self.model.num_units, self.colours
        if colours is None:
            return
        if len(colours) != n:
            raise InputError(f"expected a colour for each of {n} units, got {len(colours)}; give one to each.")
        for i, j in self.edges:
            if colours[i] == colours[j]:
                raise InputError(f"expected neighbours of different colours, got colour {colours[i]} on both ends of edge "
                                 f"({i}, {j}); give one of them another, or leave `colours` out.")  # fmt: skip

    @property
    def edges(self) -> Edges:
        n, edges = self.model.num_units, self.model.edges
        return tuple((i, j) for i in range(n) for j in range(i)) if edges is None else edges

    @cached_property
    def groups(self) -> tuple[np.ndarray, ...]:
        """The units of each colour that are not clamped."""
        colours = np.array(coloured(self.model.num_units, self.edges) if self.colours is None else self.colours)
        free = ~np.isin(np.arange(self.model.num_units), self.clamp)
        # int32, as `BoltzmannMachine.neighbours` are.
        groups = (np.flatnonzero((colours == colour) & free).astype(np.int32) for colour in range(colours.max() + 1))
        return tuple(group for group in groups if len(group))

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State:
        return State(rng_key, dict(values))

    def step(self, ppl: Any, state: State, params: Any, beta: Any = 1.0) -> tuple[State, Info]:
        rng_key, units = state.rng_key, columns(ppl, self.model, state.values)
        prepared = self.model.prepared(ppl, params)
        for group in self.groups:
            logits = self.model.columns(ppl, prepared, units, group)
            rng_key, bits = bernoulli(ppl, rng_key, row(beta) * logits)
            units = ppl.put(units, group, bits)
        values = by_columns(ppl, self.model, units)
        return State(rng_key, values), always(ppl, values)
