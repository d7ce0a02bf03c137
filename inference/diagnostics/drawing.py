"""One engine at work on the draws of one fit: which rows it sees when, and densities summed in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError

from ..callables import as_bound
from .layout import Structure, selection

BLOCK = 4096  # rows at a time, where all rows count and only some are looked at

Arrays = Mapping[str, np.ndarray]


class Source(NamedTuple):
    """Where draws come from."""

    model: Any
    engine: str
    data: Any
    inputs: tuple[str, ...]
    by_rows: bool  # the callables take some rows as well as all
    chains: list[dict[str, np.ndarray]]  # parameters
    best: int


@dataclass(frozen=True, eq=False)
class Work:
    """One engine at work on one source."""

    engine: Any
    source: Source
    args: tuple[np.ndarray, ...]
    looked: np.ndarray
    num_draws: int
    chunk: int | None

    def bound(self, num_rows: int) -> Any:
        """Callables at scale one for so many rows."""
        return as_bound(self.source.model, self.source.engine, num_rows)

    def structure(self, rows: np.ndarray, guided: bool) -> Structure:
        model, guide = self.bound(len(rows))
        return self.engine.structure(model, guide if guided else None, self.source.chains[0], self.part(rows))

    def part(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(a[rows] for a in self.args)

    def rows(self, found: Structure) -> tuple[np.ndarray, ...]:
        """The rows that `found` is the structure of."""
        return self.args if found.num_rows == len(self.args[0]) else self.part(self.looked)

    def blocks(self, all_rows: bool) -> list[np.ndarray]:
        """The rows that are not looked at, in blocks of one size, the last filled up with its own first row."""
        if not all_rows:
            return []
        rest = np.setdiff1d(np.arange(len(self.args[0])), self.looked)
        size = min(BLOCK, len(rest))
        return [rest[i : i + size] for i in range(0, len(rest), size)] if size else []

    def chain(
        self, params: Arrays, given: Arrays | None, found: Structure, cut: Arrays, blocks: list[np.ndarray],
        picked: np.ndarray, seed: int, more: int,
    ) -> dict[str, Any]:  # fmt: skip
        """All draws of one chain, the densities summed in double precision."""
        model, guide = self.bound(found.num_rows)
        keep = {site.name: selection(site, cut) for site in found.sites}
        whole = {s.name: (None,) * len(s.layout.dims) for s in found.latents if not s.in_plate} if blocks else {}
        guide = guide if given is None else None
        out = self.engine.run(model, guide, params, self.rows(found), given or {}, found, {**keep, **whole}, self.num_draws,
                              seed, self.chunk)  # fmt: skip
        sums = {name: out[name].astype(np.float64) for name in ("p", "q", "p_rows", "q_rows")}
        p, q = (sums[name] + sums[f"{name}_rows"].sum(-1) for name in "pq")
        for i, rows in enumerate(blocks):
            filled = np.concatenate([rows, np.repeat(rows[:1], len(blocks[0]) - len(rows))])
            args, pair = self.part(filled), self.bound(len(filled))
            shape = self.structure(filled, True)
            none = {site.name: (np.zeros(0, int),) + (None,) * (len(site.layout.dims) - 1) if site.layout.dims else ()
                    for site in shape.sites}  # fmt: skip
            shared = {name: out["latents"][name] for name in whole}
            told = self.engine.run(*pair, params, args, shared, shape, none, self.num_draws, more + i, self.chunk)
            p, q = (v + told[f"{n}_rows"][:, : len(rows)].astype(np.float64).sum(-1) for n, v in (("p", p), ("q", q)))
        for name in whole:  # cut at last: the blocks had to have them whole
            for axis, indices in enumerate(keep[name]):
                out["latents"][name] = out["latents"][name] if indices is None else out["latents"][name].take(indices, axis + 1)
        rows = {name: sums[name][:, picked] for name in ("p_rows", "q_rows")}
        likelihood = {name: value[:, picked] for name, value in out["likelihood"].items()}
        return {**out, **rows, "log_p": p, "log_q": q, "likelihood": likelihood, "p": sums["p"], "q": sums["q"]}

    def prior(self, params: Arrays, found: Structure, cut: Arrays, seed: int) -> dict[str, Any]:
        """As many draws of the prior and what it predicts; nothing where a prior has no sampler."""
        keep = {site.name: selection(site, cut) for site in found.sites}
        if not all(site.can_draw for site in found.latents):
            return {"latents": {}, "predicted": {}}
        model = self.bound(found.num_rows).model
        return self.engine.run(model, None, params, self.rows(found), {}, found, keep, self.num_draws, seed, self.chunk)


def check_latents(found: Structure, guided: bool, model: Any) -> None:
    """Raise `InputError` unless there are latents, and the guide draws each of them."""
    name = "this pair" if isinstance(model, tuple) else type(model).__name__
    if not found.latents:
        raise InputError(f"{name} draws no latents: its parameters are points and nothing has a posterior; use a model that "
                         "draws them (marginal=False where there is that setting).")  # fmt: skip
    if guided and found.unknown:
        raise InputError(f"latent '{found.unknown[0]}' of the model has no site in the guide; draw '{found.unknown[0]}' there, "
                         "for example from its exact posterior, or sum it out of the model.")  # fmt: skip
