"""What a conditional model is given: a label, or some quadrants of an image (Sohn, Lee and Yan 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar, Literal

from .errors import InputError
from .language import Array, Language
from .networks import one_hot

Kind = Literal["labels", "quadrants"]


@dataclass(frozen=True)
class Label:
    """The condition is the label y as a one-hot vector (num_classes,), the target the whole row (data_dim,)."""

    data_dim: int
    num_classes: int
    inputs: ClassVar[tuple[str, ...]] = ("x", "y")

    @property
    def widths(self) -> tuple[int, int]:
        """Of target and condition."""
        return self.data_dim, self.num_classes

    def split(self, ppl: Language, x: Array, y: Array) -> tuple[Array, Array]:
        """Target and condition of each row."""
        return x, one_hot(ppl, y, self.num_classes)


@dataclass(frozen=True)
class Quadrants:
    """The condition is one quadrant of a square image or more, the target its other pixels, both in the image's order.

    One is the lower left, two are the left half, three are all but the upper right.

    Raises:
        InputError: There is no such number of quadrants, or the rows are not square images with an even side.
    """

    data_dim: int
    count: int
    inputs: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        side = isqrt(self.data_dim)
        if self.count not in (1, 2, 3):
            raise InputError(f"expected 1, 2 or 3 observed quadrants, got {self.count!r}; set quadrants to one of those.")
        if side**2 != self.data_dim or side % 2:
            raise InputError(f"expected square images with an even side, got rows of {self.data_dim} pixels; crop or pad them, "
                             "or set condition=labels.")  # fmt: skip

    @property
    def widths(self) -> tuple[int, int]:
        """Of target and condition."""
        return self.data_dim * (4 - self.count) // 4, self.data_dim * self.count // 4

    def columns(self) -> tuple[list[int], list[int]]:
        """The pixels of target and condition."""
        side = isqrt(self.data_dim)
        target, condition = [], []
        for pixel in range(self.data_dim):
            lower, left = pixel // side >= side // 2, pixel % side < side // 2
            seen = {1: lower and left, 2: left, 3: lower or left}[self.count]
            (condition if seen else target).append(pixel)
        return target, condition

    def split(self, ppl: Language, x: Array) -> tuple[Array, Array]:
        """Target and condition of each row."""
        target, condition = (ppl.xp.asarray(columns) for columns in self.columns())
        return x[..., target], x[..., condition]


def condition(kind: Kind, data_dim: int, num_classes: int, quadrants: int) -> Label | Quadrants:
    """The condition of that kind.

    Raises:
        InputError: The kind is unknown, or the rows do not have such quadrants.
    """
    if kind not in ("labels", "quadrants"):
        raise InputError(f"expected condition labels or quadrants, got '{kind}'; choose one of those.")
    return Label(data_dim, num_classes) if kind == "labels" else Quadrants(data_dim, quadrants)
