"""What a training step moves, and by which weight: KL annealing, alternating updates, frozen parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ppl_models import InputError


@dataclass(frozen=True)
class Schedule:
    """E[log p(x | z)] − βₜ KL(q(z) ‖ p(z)), βₜ rising linearly to `beta` over the first `anneal` epochs (Bowman et al. 2016).

    `alternate`: each step moves first the guide's own parameters, then the model's, on the same minibatch with fresh draws.
    `freeze`: patterns of the names of parameters that stay as they are.
    """

    beta: float = 1.0
    anneal: int = 0
    alternate: bool = False
    freeze: tuple[str, ...] = ()

    def weight(self, step: int, steps_an_epoch: int) -> float | None:
        """βₜ at a step counted from 0 (an array of the engine will do), or None where it is 1 throughout."""
        if self.anneal == 0:
            return None if self.beta == 1 else self.beta
        share = (step + 1) / (self.anneal * steps_an_epoch)
        return self.beta * (share + 1 - abs(share - 1)) / 2  # min(share, 1) for numbers and arrays alike

    def groups(self, names: Iterable[str], model_names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """The parameters that move together, in order of their updates.

        Raises:
            InputError: A pattern matches no parameter, everything is frozen, or the guide has nothing of its own to move.
        """
        names = tuple(names)
        for pattern in self.freeze:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise InputError(f"no parameter matches the frozen '{pattern}'; the parameters are {', '.join(names)}.")
        moving = tuple(n for n in names if not any(fnmatchcase(n, pattern) for pattern in self.freeze))
        if not moving and names:
            raise InputError("every parameter is frozen; leave out a pattern.")
        if not self.alternate:
            return (moving,)
        guide = tuple(name for name in moving if name not in set(model_names))
        model = tuple(name for name in moving if name in set(model_names))
        if not guide or not model:
            side = "guide" if not guide else "model"
            raise InputError(f"alternating updates need parameters on both sides, but the {side} has none of its own to move; "
                             "use the joint step.")  # fmt: skip
        return guide, model
