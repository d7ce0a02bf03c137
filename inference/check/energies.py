"""A declaration of an energy beside its data: its sites and parameters, and a finite energy where training starts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError
from ppl_models.language import language

from ..checks import check_init
from ..data import prepare
from ..energy_training import as_bits
from .rows import tables
from .rules import Problem
from .walk import Param, Walk


class Seen(NamedTuple):
    """What one run of the declaration showed."""

    walk: Walk
    problems: tuple[Problem, ...]


def refuse_estimator(estimator: Any) -> None:
    """Raise `InputError` if a gradient estimator is named."""
    if estimator is not None:
        raise InputError(f"estimator {estimator!r} is for models with a guide, and an energy has none; leave it out, and "
                         "choose a method of `fit_energy`.")  # fmt: skip


def look(model: Any, data: Any, here: Any, shared: Any, engine: str, batch: int, seed: int, init: Any) -> Seen:
    """Run the program of an energy, and the energy itself at rows of the data with fair coins for hidden bits.

    Raises:
        InputError: The data cannot be used.
    """
    if tables(data):
        raise InputError(f"an energy reads x alone, but {len(data)} arrays came; give one.")
    rows = as_bits(prepare(data, model), model, seed)
    rng = np.random.default_rng(seed)
    values = dict(model.initial(rows.x, rng)) if init is None else dict(init)
    program = Bare(model, engine)
    walk: Walk = here.walk(program, nothing, (), seed=seed)
    if walk.failure is not None:
        return Seen(walk, ())
    problems, shapes = [], {param.name: param.value.shape for param in walk.params}
    try:
        check_init(values, shapes)
    except InputError as error:
        return Seen(walk, (Problem(str(error)),))
    x = rows.x[: max(1, batch)]
    states = {name: x if name == "x" else rng.integers(0, 2, (len(x), size)) for name, size in model.sites.items()}
    arrays = {name: shared.array(np.asarray(value, float)) for name, value in states.items()}
    params = {name: shared.array(np.asarray(value, float)) for name, value in values.items()}
    energy = np.asarray(here.evaluate(lambda p, v: model.energy(language(engine), p, v), params, arrays))  # type: ignore[arg-type]
    if energy.shape != (len(x),):
        problems.append(Problem(f"the energy of {len(x)} states was expected to have shape ({len(x)},) but has {energy.shape}; "
                                "sum over the last dim of each site and keep the others."))  # fmt: skip
    elif not np.isfinite(energy).all():
        row = int(np.argmax(~np.isfinite(energy)))
        problems.append(Problem(f"the energy is {energy[row]} at training row {row} (counting from 0) of {rows.name} at the "
                                "start; check the values that `initial` gives."))  # fmt: skip
    started = tuple(Param(p.name, np.asarray(values[p.name]), p.constraint, p.inside, p.roles) for p in walk.params)
    return Seen(Walk(walk.sites, started), tuple(problems))


class Bare:
    """The program of an energy as a callable without data."""

    def __init__(self, model: Any, engine: str) -> None:
        self.model, self.engine = model, engine

    def __call__(self) -> None:
        self.model.model(language(self.engine))  # type: ignore[arg-type]


def nothing() -> None:
    """A guide that draws nothing."""
