"""The energy under test: its rows as bits, its program without data, and its energy at parameters of scale 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from ppl_models import Bound, InputError
from ppl_models.language import language

from ..check.energies import Bare, nothing
from ..check.rows import Rows, rows_of, tables
from ..check.walk import first_line
from ..data import prepare
from ..energy_training import as_bits
from .subject import Broke, Dtype, Subject


class EnergySubject(Subject):
    """Runs of one energy; its program draws every site and takes no data."""

    def enter(self, data: Any) -> Rows:
        if tables(data):
            raise InputError(f"an energy reads x alone, but {len(data)} arrays came; give one.")
        return rows_of(self.model, as_bits(prepare(data, self.model), self.model, 0), ("x",))

    @property
    def scales(self) -> bool:
        return False

    def bound(self, engine: str, total: int | None = None) -> Bound:
        return Bound(Bare(self.model, engine), nothing)

    def args(self, engine: str, rows: tuple[np.ndarray, ...] | None = None) -> tuple:
        return ()

    @cached_property
    def start(self) -> dict[str, np.ndarray]:
        """The values of `initial`, those of the program where it leaves one out."""
        made = self.model.initial(*self.rows.arrays, np.random.default_rng(0))
        return {name: np.asarray(made.get(name, value)) for name, value in self.walk(self.engines[0]).values.items()}

    @cached_property
    def params(self) -> dict[str, np.ndarray]:
        """Parameters of scale 1 in the coordinates of training, so that each lies inside its constraint."""
        engine, rng = self.engines[0], np.random.default_rng(1)
        evaluate = self.here(engine).evaluate
        with self.session(engine):
            coordinates = import_module(f"inference._{engine}").coordinates(*self.bound(engine), (), {})
            free = evaluate(coordinates.free, self.arrays(engine, self.start))
            drawn = {name: rng.normal(size=np.shape(value)) for name, value in free.items()}
            return plain(evaluate(coordinates.constrain, self.arrays(engine, drawn)))

    @cached_property
    def bits(self) -> tuple[str, ...]:
        """Sites of 0 and 1; the others are of real numbers."""
        sites = self.walk(self.engines[0], numbers=False).of("model")
        return tuple(name for name in self.model.sites if name not in sites or sites[name].support == "0 or 1")

    def states(self, *lead: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Values of every site: fair coins, or draws of N(0, 1)."""
        rng = np.random.default_rng(seed)
        shapes = {name: (*lead, size) for name, size in self.model.sites.items()}
        return {n: rng.integers(0, 2, k).astype(float) if n in self.bits else rng.normal(size=k) for n, k in shapes.items()}

    def evaluate(
        self, engine: str, fn: Callable[..., Any], values: Mapping[str, np.ndarray],
        params: Mapping[str, np.ndarray] | None = None, dtype: Dtype = "float64",
    ) -> Any:  # fmt: skip
        """`fn(ppl, params, values)` in arrays of NumPy.

        Raises:
            Broke: It broke off.
        """
        ppl: Any = language(engine)  # type: ignore[arg-type]
        with self.session(engine, dtype):
            given = (self.arrays(engine, self.params if params is None else params), self.arrays(engine, values))
            try:
                return plain(self.here(engine).evaluate(lambda p, v: fn(ppl, p, v), *given))
            except Exception as error:
                shapes = ", ".join(f"{name} {value.shape}" for name, value in values.items())
                raise Broke(f"`{fn.__name__}` cannot be computed at sites of shapes {shapes} ({first_line(error)}); let it "
                            "take any leading dims.") from error  # fmt: skip

    def energy(self, engine: str, values: Mapping[str, np.ndarray], **how: Any) -> np.ndarray:
        return self.evaluate(engine, self.model.energy, values, **how)

    def logits(self, engine: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Log odds of the bits of each site given all others."""
        model = self.model

        def logits(ppl: Any, params: Any, values: Any) -> Any:
            if hasattr(model, "prepared"):  # flat, of a graph without layers
                return model.split(model.logits(ppl, model.prepared(ppl, params), model.join(ppl, values)))
            return {name: model.logits(ppl, params, values, name) for name in self.bits}

        return self.evaluate(engine, logits, values)


def plain(found: Any) -> Any:
    """Copies of an engine's arrays, in the mappings and tuples that hold them."""
    if isinstance(found, Mapping):
        return {name: plain(value) for name, value in found.items()}
    return tuple(map(plain, found)) if isinstance(found, tuple) else np.asarray(found).copy()
