"""Where each parameter lies in a flat gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Blocks:
    """A slice of the flat vector for each parameter, in order of name."""

    slices: dict[str, slice]

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> Blocks:
        slices, start = {}, 0
        for name in sorted(shapes):
            slices[name] = slice(start, start + prod(shapes[name]))
            start += prod(shapes[name])
        return cls(slices)

    @property
    def size(self) -> int:
        return max((s.stop for s in self.slices.values()), default=0)
