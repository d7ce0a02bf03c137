"""Gibbs of one unit after the other on a dense machine, fields brought up to date in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ppl_models import InputError

from .state import Info, State, always, by_columns, columns, row


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
        model = self.model
        prepared, units = model.prepared(ppl, params), columns(ppl, model, state.values)
        blocks, rest = divmod(model.num_units, self.block)

        def scan(first: Any, carry: Any, size: int) -> Any:
            rng_key, units = carry
            here = {name: ppl.cut(value, first, size) for name, value in prepared.items()}
            fields, old = model.columns(ppl, here, units), ppl.copy(ppl.cut(units, first, size))
            within = ppl.cut(here["coupling"].mT, first, size).mT
            rng_key, u = ppl.uniform(rng_key, fields)

            def draw(i: Any, carry: Any) -> Any:
                rng_key, fields, bits = carry
                rng_key, bit = ppl.flip(rng_key, u[i], row(beta) * fields[i])
                change = model.spin(bit) - model.spin(old[i])
                return rng_key, fields + within[i].reshape(size, *(1,) * change.ndim) * change, ppl.put(bits, i, bit)

            rng_key, _, bits = ppl.loop(size, draw, (rng_key, fields, ppl.copy(old)))
            return rng_key, ppl.paste(units, first, bits)

        carry = state.rng_key, units
        if blocks:
            carry = ppl.loop(blocks, lambda block, carry: scan(self.block * block, carry, self.block), carry)
        rng_key, units = scan(self.block * blocks, carry, rest) if rest else carry
        values = by_columns(ppl, model, units)
        return State(rng_key, values), always(ppl, values)
