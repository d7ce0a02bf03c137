"""Gibbs of one unit after the other on a dense machine, fields brought up to date in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_models import InputError

from .state import Info, State, always, row


@dataclass(frozen=True)
class SequentialGibbs:
    """T = Π_i K_i, i = 0, 1, …, each K_i drawing unit i from p(xᵢ | the rest)^β / Zᵢ: invariant, not reversible.

    Delayed updates: one product gives the fields of the next `block` units, and within the block each flip corrects only
    the block's own fields. The transition is that of the plain scan, whatever the block; `block=1` is the plain scan.

    Raises:
        InputError: The block has no unit, or the machine has edges: their colours make larger blocks.
    """

    model: Any
    block: int = 64

    def __post_init__(self) -> None:
        if self.block < 1:
            raise InputError(f"expected a block of at least 1 unit, got {self.block!r}; use 64.")
        if self.model.edges is not None:
            raise InputError("expected a machine that couples every pair, got one with edges; use ChromaticGibbs.")

    def init(self, ppl: Any, rng_key: Any, values: Any) -> State:
        return State(rng_key, dict(values))

    def step(self, ppl: Any, state: State, params: Any, beta: Any = 1.0) -> tuple[State, Info]:
        model, rng_key = self.model, state.rng_key
        units, prepared = ppl.copy(model.join(ppl, state.values)), model.prepared(ppl, params)
        for first in range(0, model.num_units, self.block):
            here = slice(first, min(first + self.block, model.num_units))
            fields, old = model.logits(ppl, prepared, units, here), ppl.copy(units[..., here])
            within, size = prepared["coupling"][here, here], here.stop - here.start
            rng_key, u = ppl.uniform(rng_key, fields)

            def draw(i: Any, carry: Any, old: Any = old, within: Any = within, u: Any = u) -> Any:
                rng_key, fields, bits = carry
                rng_key, bit = ppl.flip(rng_key, u[..., i], row(beta) * fields[..., i])
                change = model.spin(bit) - model.spin(old[..., i])
                return rng_key, fields + change[..., None] * within[i], ppl.put(bits, i, bit)

            rng_key, _, bits = ppl.loop(size, draw, (rng_key, fields, ppl.copy(old)))
            units = ppl.put(units, here, bits)
        values = model.split(units)
        return State(rng_key, values), always(ppl, values)
