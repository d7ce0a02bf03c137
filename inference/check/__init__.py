"""Look at a model, its guide and its data before anything is compiled, and say what is wrong in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ppl_models import InputError
from ppl_models.language import check_engine

from ..callables import as_bound, can_subsample
from ..checks import check_estimator, check_settings
from ..estimators import Spec
from ..svi import starts as started
from . import energies, rules
from .graph import arrows, edges, mermaid
from .rows import BATCH, Rows, enter
from .rules import Problem
from .walk import Relations, Walk

__all__ = ["Checked", "Line", "Problem", "check"]


class Line(NamedTuple):
    """A site in the shape table; shapes as both libraries print them."""

    site: str
    role: str
    kind: str
    distribution: str
    plates: tuple[str, ...]
    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    log_prob_shape: tuple[int, ...]
    params: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        problems: Sentences, the most basic first; none if all is fine. Each is a `str` with `about`: "data", "model" or
            "estimator".
        table: The sites of the model, then of the guide, in order, with the parameters that each reads.
        params: Shapes of all parameters by name.
        edges: Pairs (parent, site) of the model.
        graph: The model as a Mermaid flowchart.
        rows: How many rows were looked at, and how many there are.
    """

    problems: tuple[Problem, ...]
    table: tuple[Line, ...] = ()
    params: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    edges: tuple[tuple[str, str], ...] = ()
    graph: str = ""
    rows: tuple[int, int] = (0, 0)

    @property
    def fine(self) -> bool:
        return not self.problems

    def text(self) -> str:
        """The table and the graph for a terminal."""
        head = ("site", "of", "kind", "distribution", "plates", "batch", "event", "log_prob", "parameters")
        lines: list[tuple[str, ...]] = [head]
        for line in self.table:
            learned = ", ".join(f"{name} {_shape(shape)}" for name, shape in line.params.items())
            shapes = map(_shape, (line.batch_shape, line.event_shape, line.log_prob_shape))
            lines.append((line.site, line.role, line.kind, line.distribution, ", ".join(line.plates), *shapes, learned))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        table = ("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
        names = [line.site for line in self.table if line.role == "model"]
        return "\n".join([*table, "", arrows(list(self.edges), names)]).rstrip()


def check(
    model: Any, data: Any, *, engine: str = "numpyro", estimator: Spec = None, bound: str = "elbo", batch: int | None = None,
    seed: int = 0, init: Mapping[str, np.ndarray] | None = None, raises: bool = True,
) -> Checked:  # fmt: skip
    """Run model and guide once on a batch of the data, and name what is wrong with them, site by site.

    Nothing is compiled: on NumPyro the traced program is run by NumPy. Data and supports, shapes and plates, latents without
    a partner, densities that are not finite, first values outside their constraint, parameters and sites that depend on the
    batch, and estimators that do not apply.

    Args:
        model: A declaration, an energy among them, or `Bound(model, guide)` of the engine's own functions.
        data: What `fit` takes, or a tuple of the arrays that the model reads.
        engine: "numpyro" or "pyro".
        estimator: As for `fit`; None is the choice for each site.
        bound: "elbo" or "iwae", for which the estimator is.
        batch: Rows to look at; by default 128, of a pair of functions all that fit in a million numbers.
        seed: Of first values and draws.
        init: As for `fit`.
        raises: Raise the first problem; else collect all.

    Raises:
        InputError: A setting cannot be used; or something is wrong, and `raises`.
    """
    check_settings(batch=batch, seed=seed, bound=bound)
    check_engine(engine)
    check_estimator(estimator)
    found = _check(model, data, engine, estimator, batch, seed, init, bound)
    if raises and found.problems:
        raise InputError(str(found.problems[0]))
    return found


def _check(
    model: Any, data: Any, engine: str, estimator: Spec, batch: int | None, seed: int, init: Any, bound: str = "elbo"
) -> Checked:  # fmt: skip
    here, shared = (import_module(f"inference.{part}_{engine}") for part in ("check.", ""))
    energy, declared = hasattr(model, "energy"), not isinstance(model, tuple)
    if energy:
        energies.refuse_estimator(estimator)
    elif declared and not hasattr(model, "guide") and hasattr(model, "maximise"):
        return _of_em(model, data, shared, seed)
    if not energy:
        as_bound(model, engine)  # refuses what is no model before any data are read
    with shared.session("float32", "cpu"):
        try:
            if energy:
                seen = energies.look(model, data, here, shared, engine, batch or BATCH, seed, init)
                program = energies.Bare(model, engine)
                failed = (rules.broken(seen.walk.failure),) if seen.walk.failure else ()
                return _told(seen.walk, (*failed, *seen.problems), here, (program, energies.nothing), (), (0, 0))
            rows = enter(data, model)
        except InputError as error:
            return Checked((Problem(str(error), "data"),))
        pair = as_bound(model, engine, rows.total)
        size = rows.size(model, batch)
        args = tuple(map(shared.array, rows.batch(size, np.float32)))
        init = started(model, rows.arrays, (seed,), init)[0]
        if told := tuple(rules.unfit(init or {})):
            return Checked(told, rows=(size, rows.total))
        values = None if init is None else {name: shared.array(np.asarray(value)) for name, value in init.items()}
        walk: Walk = here.walk(*pair, args, seed=seed, init=_fitting(values, pair, args, here, init))
        if walk.failure is not None:
            return Checked((rules.broken(walk.failure),), rows=(size, rows.total))
        other_size = size - 1 if size > 1 else 2
        other_args = tuple(map(shared.array, rows.batch(other_size, np.float32)))
        other: Walk = here.walk(*pair, other_args, seed=seed, numbers=False)
        problems = _problems(walk, other, rows, (size, other_size), init, can_subsample(model))
        if not problems:
            problems = _estimator_problem(estimator, pair, args, walk, here, bound)
        return _told(walk, problems, here, pair, args, (size, rows.total))


def _fitting(values: Any, bound: Any, args: tuple, here: Any, init: Any) -> Any:
    """The values to start from where they are the model's parameters in name and shape; else nothing, and a problem follows."""
    if values is None:
        return None
    shapes = {p.name: p.value.shape for p in here.walk(*bound, args, numbers=False).params}
    return values if shapes == {name: np.shape(value) for name, value in init.items()} else None


def _problems(walk: Walk, other: Walk, rows: Rows, at: tuple[int, int], init: Any, subsamples: bool) -> tuple[Problem, ...]:
    found = [*rules.coverage(walk), *rules.shapes(walk)]
    if other.failure is not None:
        told = rules.broken(other.failure)
        found.append(Problem(f"at {at[1]} rows a batch in place of {at[0]}, {told}"))
    else:
        found += [*rules.sizes(walk, other, at), *rules.plates(walk, other, at, rows.total, subsamples)]
    found += [*rules.supports(walk, rows), *rules.starts(walk, init)]
    # Outside its support or its constraint a density is of no use: the reason has been told.
    return tuple(found if found else rules.densities(walk))


def _estimator_problem(
    estimator: Spec, pair: Any, args: tuple, walk: Walk, here: Any, bound: str
) -> tuple[Problem, ...]:  # fmt: skip
    try:
        here.try_estimator(estimator, *pair, args, walk.values, bound)
    except InputError as error:
        return (Problem(str(error), "estimator"),)
    return ()


def _told(
    walk: Walk, problems: Sequence[Problem], here: Any, bound: Sequence[Any], args: tuple, rows: tuple[int, int]
) -> Checked:  # fmt: skip
    shapes = {param.name: tuple(param.value.shape) for param in walk.params}
    reads = {}
    for role, program in zip(("model", "guide"), bound, strict=True):
        try:
            reads[role] = here.relations(program, args)
        except Exception:  # what cannot be followed is left out; it has been run
            reads[role] = Relations({}, {})
    table = tuple(
        Line(site.name, site.role, site.kind, site.distribution, site.plates, site.batch_shape, site.event_shape,
             tuple(site.log_prob.shape), {n: shapes[n] for n in reads[site.role].params.get(site.name, ()) if n in shapes})
        for role in ("model", "guide") for site in walk.of(role).values()
    )  # fmt: skip
    return Checked(tuple(problems), table, shapes, tuple(edges(walk, reads["model"])), mermaid(walk, reads["model"]), rows)


def _of_em(model: Any, data: Any, shared: Any, seed: int) -> Checked:
    """A limit without a density, fitted by EM alone: its data and finite values to start from."""
    with shared.session("float64", "cpu"):
        try:
            rows = enter(data, model)
            values = dict(model.initial(rows.arrays[0], np.random.default_rng(seed)))
        except InputError as error:
            return Checked((Problem(str(error), "data"),))
    shapes = {name: np.shape(value) for name, value in values.items()}
    bad = [name for name, value in values.items() if not np.isfinite(value).all()]
    problems = tuple(Problem(f"parameter '{name}' does not start at finite numbers; check `initial`.") for name in bad)
    return Checked(problems, params=shapes, rows=(rows.total, rows.total))


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) if shape else "()"
