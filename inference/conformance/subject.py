"""The model under test: its rows, its programs on each engine, and runs of them that several checks share."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import Bound, InputError, bind

from ..callables import accepts_total, as_bound
from ..check.rows import Rows, enter
from ..check.rules import broken
from ..check.walk import Relations, Site, Walk

ROWS = 5  # looked at
Dtype = str


class Skipped(Exception):
    """A check that does not concern this model, with the reason."""


class Broke(Exception):
    """A run that broke off; the sentence says where."""


class Subject:
    """Runs of one model on few rows.

    `walk` is kept for each set of arguments; `fresh` runs anew.
    """

    def __init__(self, model: Any, data: Any, engines: tuple[str, ...]) -> None:
        self.model, self.engines = model, engines
        rows = self.enter(data)
        self.rows = Rows(rows.batch(ROWS), rows.names, rows.source)
        if self.rows.total < 3:
            raise InputError(f"expected at least 3 rows to look at, got {self.rows.total}; give more data.")
        self._walks: dict[Any, Walk] = {}
        self._relations: dict[str, Relations] = {}

    def enter(self, data: Any) -> Rows:
        return enter(data, self.model)

    @property
    def total(self) -> int:
        return self.rows.total

    @property
    def declared(self) -> bool:
        return not isinstance(self.model, tuple)

    def needs(self, *names: str) -> None:
        """Skip unless the model is a declaration with these methods."""
        if not self.declared:
            raise Skipped("of declarations only, and this is a pair of functions")
        for name in names:
            if not hasattr(self.model, name):
                raise Skipped(f"the declaration has no {name}")

    @property
    def scales(self) -> bool:
        """Whether both programs take `total`."""
        return all(map(accepts_total, self.model if not self.declared else (self.model.model, self.model.guide)))

    def bound(self, engine: str, total: int | None = None) -> Bound:
        if self.scales:
            return as_bound(self.model, engine, self.total if total is None else total)
        return bind(self.model, engine) if self.declared else Bound(*self.model)

    def here(self, engine: str) -> Any:
        return import_module(f"inference.check._{engine}")

    def session(self, engine: str, dtype: Dtype = "float64") -> Any:
        return import_module(f"inference._{engine}").session(dtype, "cpu")

    def arrays(self, engine: str, values: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """In the session's dtype."""
        array = import_module(f"inference._{engine}").array
        return None if values is None else {name: array(np.asarray(value)) for name, value in values.items()}

    def args(self, engine: str, rows: tuple[np.ndarray, ...] | None = None) -> tuple:
        array = import_module(f"inference._{engine}").array
        return tuple(array(part) for part in (self.rows.arrays if rows is None else rows))

    def to_numpy(self, engine: str, args: tuple) -> dict[str, np.ndarray]:
        """Copies of the engine's arrays, by name."""
        found = import_module(f"inference._{engine}").to_numpy(dict(zip(self.rows.names, args, strict=True)))
        return {name: np.array(value) for name, value in found.items()}

    def fresh(
        self, engine: str, *, size: int | None = None, rows: tuple[np.ndarray, ...] | None = None, total: int | None = None,
        dtype: Dtype = "float64", seed: int = 0, init: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None, **how: Any,
    ) -> Walk:  # fmt: skip
        """One run; `init` and `values` are arrays of NumPy.

        Raises:
            Broke: It broke off.
        """
        given = rows if rows is not None else self.rows.batch(self.total if size is None else size)
        with self.session(engine, dtype):
            told = {"seed": seed, "init": self.arrays(engine, init), "values": self.arrays(engine, values), **how}
            walk = self.here(engine).walk(*self.bound(engine, total), self.args(engine, given), **told)
        if walk.failure is not None:
            raise Broke(str(broken(walk.failure)))
        return walk

    def walk(self, engine: str, **how: Any) -> Walk:
        """A run that is kept; `at` an engine fixes parameters and draws to those of its first run."""
        key = (engine, *sorted(how.items()))
        if key not in self._walks:
            options = dict(how)
            if (at := options.pop("at", None)) is not None:
                first = self.walk(at)
                own = self.walk(engine).draws if at != engine else first.draws
                # An engine's bits may be whole numbers where the other's are floats.
                draws = {n: v.astype(own[n].dtype) if n in own else v for n, v in first.draws.items()}
                options |= {"init": first.values, "values": draws}
            self._walks[key] = self.fresh(engine, **options)
        return self._walks[key]

    def breaks(self, engine: str) -> bool:
        """Whether guide and model do not run at all."""
        try:
            self.walk(engine)
        except (Broke, InputError):
            return True
        return False

    def relations(self, engine: str) -> Relations:
        """What the model's sites read."""
        if engine not in self._relations:
            with self.session(engine):
                self._relations[engine] = self.here(engine).relations(self.bound(engine).model, self.args(engine))
        return self._relations[engine]

    def data_dim_of(self, site: Site) -> int | None:
        """The dim (negative) of the plate around a site that holds the rows, None if there is none."""
        held = [frame.dim for frame in site.frames if frame.rows == self.total]
        return max(held, default=None)


def same(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """|a − b| ≤ tolerance · max(1, |b|) at every entry."""
    if a.shape != b.shape:
        return False
    with np.errstate(invalid="ignore"):  # of inf, which may be the same in both
        near = (a == b) | np.isfinite(b) & (np.abs(a - b) <= tolerance * np.maximum(1, np.abs(b)))
    return bool(near.all() or np.array_equal(a, b, equal_nan=True))


def differing(a: Walk, b: Walk, tolerance: float, common: bool = False) -> str | None:
    """The first site, or `common` site, whose density is not the same in both, as the beginning of a sentence."""
    for x in a.sites:
        y = next((y for y in b.sites if (y.name, y.role) == (x.name, x.role)), None)
        if y is None and common:
            continue
        if y is None:
            return f"site '{x.name}' of the {x.role} is missing"
        if not same(x.log_prob, y.log_prob, tolerance):
            if x.log_prob.shape != y.log_prob.shape:
                return f"log_prob of site '{x.name}' of the {x.role} has shape {x.log_prob.shape} and {y.log_prob.shape}"
            spot = np.unravel_index(int(np.argmax(np.abs(x.log_prob - y.log_prob))), x.log_prob.shape)
            ours, theirs = float(x.log_prob[spot]), float(y.log_prob[spot])
            return f"log density of site '{x.name}' of the {x.role} is {ours:.6g} and {theirs:.6g}"
    return None
