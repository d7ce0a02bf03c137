"""Kinds of bad input, each as a function from a good case to what is tried and the words that must come back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from inference import check, em, fit, fit_energy
from ppl_models import CATALOGUE, RBM, VAE, BoltzmannMachine, NeuralEnergy
from ppl_models.datasets import from_arrays
from ppl_models.likelihoods import Categorical, ContinuousBernoulli

ROWS, COLUMNS, CLASSES = 12, 4, 3
SMALL: Mapping[str, dict[str, Any]] = {
    "latent_dim": {"latent_dim": 2}, "hidden": {"hidden": (3,)}, "num_classes": {"num_classes": CLASSES},
    "num_components": {"num_components": 2}, "num_hidden": {"num_hidden": 3}, "recurrent": {"recurrent": 3},
    "transition_hidden": {"transition_hidden": 3}, "prior_hidden": {"prior_hidden": (3,)},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """A model beside good data: `arrays` in the order of its `inputs`."""

    name: str
    model: Any
    arrays: Sequence[np.ndarray]
    inputs: tuple[str, ...]
    support: str  # "bits", "reals", "unit" or "classes"

    @property
    def x(self) -> Any:
        return self.arrays[0]

    @property
    def sequences(self) -> bool:
        return "lengths" in self.inputs

    @property
    def kind(self) -> str:
        """How it is fitted: "svi", "energy" or "em"."""
        return "energy" if hasattr(self.model, "energy") else "svi" if hasattr(self.model, "guide") else "em"

    def data(self, **changed: Any) -> Any:
        """What `check` takes, with some arrays changed."""
        parts = tuple(changed.get(name, part) for name, part in zip(self.inputs, self.arrays, strict=True))
        return parts[0] if len(parts) == 1 else parts


class Attempt(NamedTuple):
    """What is tried on an engine, and words that the refusal must have: all of them."""

    run: Callable[[str], Any]
    words: tuple[str, ...]


@dataclass
class Kind:
    """A kind of bad input; `make` gives an attempt, or why the kind does not concern the case."""

    name: str
    make: Callable[[Case], Attempt | str]
    about: str = field(default="data")


def cases() -> list[Case]:
    """Every model of the catalogue, small, and some variants with another support."""
    rng, found = np.random.default_rng(0), list[Case]()
    models = {name: small(cls, preset) for name, (cls, preset) in CATALOGUE.items()}
    models |= {
        "vae-categorical": VAE(COLUMNS, 2, (3,), Categorical(CLASSES)),
        "vae-continuous-bernoulli": VAE(COLUMNS, 2, (3,), ContinuousBernoulli()),
        "rbm-normal": RBM(COLUMNS, 3, visible="normal"),
        "neural_energy-normal": NeuralEnergy(COLUMNS, (3,), visible="normal"),
        "boltzmann_machine-ising": BoltzmannMachine(COLUMNS, spins="ising"),
    }  # fmt: skip
    for name, model in models.items():
        likelihood, inputs = getattr(model, "likelihood", None), tuple(getattr(model, "inputs", ("x",)))
        kinds = {"Bernoulli": "bits", "Categorical": "classes", "ContinuousBernoulli": "unit"}
        support = kinds.get(type(likelihood).__name__, "reals")
        shape = (ROWS, 3, COLUMNS) if "lengths" in inputs else (ROWS, COLUMNS)
        draws = {
            "bits": lambda s=shape: rng.integers(0, 2, s).astype(float), "reals": lambda s=shape: rng.normal(size=s),
            "unit": lambda s=shape: rng.uniform(size=s), "classes": lambda s=shape: rng.integers(0, CLASSES, s).astype(float),
        }  # fmt: skip
        given = {"x": draws[support](), "y": np.arange(ROWS) % CLASSES, "labels": np.arange(ROWS) % CLASSES,
                 "lengths": 1 + np.arange(ROWS) % 3}  # fmt: skip
        if "lengths" in inputs:
            given["x"] = given["x"] * (np.arange(3) < given["lengths"][:, None])[..., None]
        found.append(Case(name, model, tuple(given[n] for n in inputs), inputs, support))
    return found


def small(cls: type, preset: Mapping[str, Any]) -> Any:
    """The declaration of few columns and units."""
    names = set(cls.__dataclass_fields__)  # type: ignore[attr-defined]
    settings: dict[str, Any] = {}
    for name, values in SMALL.items():
        settings |= values if name in names else {}
    if cls.__name__ == "HierarchicalVAE":
        settings |= {"latent_dim": (2, 2), "hidden": (3, 3)}
    if cls.__name__ in ("DeepBeliefNet", "DeepBoltzmannMachine"):
        settings |= {"hidden": (3, 2)}
    settings |= {name: value if name != "num_hidden" else 2 for name, value in preset.items()}
    return cls(data_dim=COLUMNS, **settings)


# --- the rows ---------------------------------------------------------------------------------------------------------


def rows(change: Callable[[np.ndarray], Any], *words: str, sequences: bool = True) -> Callable[[Case], Attempt | str]:
    """The rows replaced; `words` must come back."""

    def make(case: Case) -> Attempt | str:
        if case.sequences and not sequences:
            return "sequences have another shape"
        data = case.data(x=change(case.x.copy()))
        return Attempt(lambda engine: check(case.model, data, engine=engine), words)

    return make


def spot(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """One entry of row 3 replaced."""

    def change(x: np.ndarray) -> np.ndarray:
        x[(3, *(0,) * (x.ndim - 2), 1)] = value
        return x

    return change


def outside(value: float, *supports: str) -> Callable[[Case], Attempt | str]:
    """A value that the support of the rows lacks."""

    def make(case: Case) -> Attempt | str:
        if case.support not in supports:
            return f"{value} is a value of {case.support}"
        return rows(spot(value), "row", "column 1", f"{value:g}")(case)

    return make


def huge(case: Case) -> Attempt | str:
    """1e30 where it is a number like others: its square is none in float32."""
    if case.support != "reals":
        return "refused as out of the support, which is a kind of its own"
    if case.kind != "svi":
        return "no density is looked at beside the energy" if case.kind == "energy" else "no density"
    if hasattr(case.model, "initial"):
        return "it starts at the scale of the data"
    return rows(lambda x: x * 1e30 + 1e30, "site 'x'", "log density")(case)


def sparse(x: np.ndarray) -> Any:
    """A matrix of scipy that numpy does not open."""
    from scipy.sparse import csr_array

    return csr_array(x.reshape(len(x), -1))


class Untouchable:
    """An array whose values cannot be had, as a tensor with gradients."""

    shape, ndim, dtype = (ROWS, COLUMNS), 2, np.dtype(float)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


def structured(x: np.ndarray) -> np.ndarray:
    """Rows of named fields."""
    return np.zeros(len(x), dtype=[("a", float), ("b", float)])


def ragged(x: np.ndarray) -> Any:
    """A list whose rows are not equally long."""
    return [[1.0, 0.0], [1.0], *([1.0, 0.0] for _ in range(len(x) - 2))]


# --- labels and lengths -----------------------------------------------------------------------------------------------


def label(change: Callable[[np.ndarray], Any], *words: str, known: bool = False) -> Callable[[Case], Attempt | str]:
    """The labels replaced; with `known`, only of models that need all of them."""

    def make(case: Case) -> Attempt | str:
        name = next((n for n in ("y", "labels") if n in case.inputs), None)
        if name is None:
            return "the model reads no labels"
        if known and name == "labels":
            return "labels may be unknown"
        data = case.data(**{name: change(case.arrays[case.inputs.index(name)].copy())})
        return Attempt(lambda engine: check(case.model, data, engine=engine), words)

    return make


def length(change: Callable[[np.ndarray], Any], *words: str) -> Callable[[Case], Attempt | str]:
    """The lengths replaced."""

    def make(case: Case) -> Attempt | str:
        if not case.sequences:
            return "the model reads no sequences"
        data = case.data(lengths=change(case.arrays[1].copy()))
        return Attempt(lambda engine: check(case.model, data, engine=engine), words)

    return make


def alone(case: Case) -> Attempt | str:
    """The rows without what belongs to each of them."""
    if len(case.inputs) == 1:
        return "the model reads rows alone"
    if "labels" in case.inputs:
        return "labels may be unknown"
    return Attempt(lambda engine: check(case.model, case.x, engine=engine), ())


def too_many(case: Case) -> Attempt | str:
    """An array too many."""
    data = (*case.arrays, case.x)
    return Attempt(lambda engine: check(case.model, data, engine=engine), (f"{len(data)} arrays",))


def held(change: Callable[[np.ndarray], Any], *words: str) -> Callable[[Case], Attempt | str]:
    """The held-out rows replaced."""

    def make(case: Case) -> Attempt | str:
        if case.sequences:
            return "a file holds no sequences"
        y = None if len(case.arrays) == 1 else case.arrays[1]

        def run(engine: str) -> Any:
            held_y = None if y is None else y[:3]
            data = from_arrays(case.x, heldout=change(case.x[:3].copy()), y=y, heldout_y=held_y)
            return check(case.model, data, engine=engine)

        return Attempt(run, words)

    return make


# --- settings ---------------------------------------------------------------------------------------------------------


def setting(name: str, value: Any, *words: str) -> Callable[[Case], Attempt | str]:
    """A setting of `check`."""
    return lambda case: Attempt(
        lambda engine: check(case.model, case.data(), **{"engine": engine, name: value}), words or (name, repr(value))
    )


def training(name: str, value: Any) -> Callable[[Case], Attempt | str]:
    """A setting of the function that fits the model."""

    def make(case: Case) -> Attempt | str:
        takes = {
            "svi": "epochs batch lr seed restarts dtype patience beta anneal num_particles",
            "em": "iterations seed restarts dtype",
            "energy": "epochs batch lr seed dtype noise method",
        }[case.kind].split()  # fmt: skip
        if name not in takes:
            return f"not a setting of its {case.kind}"
        function: Callable[..., Any] = {"svi": fit, "energy": fit_energy, "em": em}[case.kind]
        data = case.x if len(case.arrays) == 1 or case.sequences else from_arrays(case.x, y=case.arrays[1])
        return Attempt(lambda engine: function(case.model, data, **{"engine": engine, name: value}), (name,))

    return make


def estimator(case: Case) -> Attempt | str:
    """One that does not apply: to a draw of the wrong sort, to a model without latents or without a guide."""
    if case.kind == "em":
        return "EM takes no estimator"
    if case.kind == "energy":
        score = "score"
        return Attempt(lambda engine: check(case.model, case.data(), engine=engine, estimator=score), (score, "leave it out"))
    if case.name == "conditional_baseline":
        spec: Any = {"z": "score"}
        return Attempt(lambda engine: check(case.model, case.data(), engine=engine, estimator=spec), ("'z'",))
    guide = check(case.model, case.data(), engine="pyro").table
    latents = [line for line in guide if line.role == "guide"]
    if not latents:
        spec = {"z": "score"}
        return Attempt(lambda engine: check(case.model, case.data(), engine=engine, estimator=spec), ("'z'",))
    discrete = [line for line in latents if line.distribution in ("Bernoulli", "Categorical", "OneHotCategorical")]
    site, name = (discrete[0].site, "pathwise") if discrete else (latents[0].site, "enumerate")
    spec = {site: name}
    return Attempt(
        lambda engine: check(case.model, case.data(), engine=engine, estimator=spec), (f"'{name}' does not apply", f"'{site}'")
    )


def pattern(case: Case) -> Attempt | str:
    """An estimator for a site that is not there."""
    if case.kind != "svi":
        return "no estimator is taken"
    spec: Any = {"nowhere": "score"}
    return Attempt(lambda engine: check(case.model, case.data(), engine=engine, estimator=spec), ("'nowhere'",))


def initial(change: Callable[[dict[str, np.ndarray], str], None], *words: str) -> Callable[[Case], Attempt | str]:
    """Values to start from, changed in one parameter."""

    def make(case: Case) -> Attempt | str:
        if case.kind == "em":
            return "EM starts by itself"
        shapes = check(case.model, case.data(), engine="pyro").params
        values = {name: np.full(shape, 0.5) for name, shape in shapes.items()}
        if not values:
            return "nothing is learned"
        name = next(iter(values))
        change(values, name)
        return Attempt(lambda engine: check(case.model, case.data(), engine=engine, init=values), (words or (f"'{name}'",)))

    return make


def drop(values: dict[str, np.ndarray], name: str) -> None:
    """Leave the parameter out."""
    del values[name]


def add(values: dict[str, np.ndarray], name: str) -> None:
    """Put in one that the model does not have."""
    values["nowhere"] = np.zeros(2)


def stretch(values: dict[str, np.ndarray], name: str) -> None:
    """Give the parameter another shape."""
    values[name] = np.zeros((7, 7, 7))


def poison(values: dict[str, np.ndarray], name: str) -> None:
    """Give the parameter NaN."""
    values[name] = np.full_like(values[name], math.nan)


def other_model(make: Callable[[Case], Any], *words: str) -> Callable[[Case], Attempt | str]:
    """Something else in the model's place."""
    return lambda case: Attempt(lambda engine: check(make(case), case.data(), engine=engine), words)


def wider(case: Case) -> Any:
    """The same declaration for more columns than there are."""
    return type(case.model)(**{**vars(case.model), "data_dim": COLUMNS + 2})


def mismatched(case: Case) -> Attempt | str:
    """The declaration of other columns in place of the model."""
    if any(name.startswith("_") for name in vars(case.model)):
        return "settings are derived"
    return other_model(wider, f"data_dim={COLUMNS + 2}", f"{COLUMNS}")(case)


KINDS: list[Kind] = [
    Kind("nan", rows(spot(math.nan), "nan", "row 3", "column 1")),
    Kind("inf", rows(spot(math.inf), "inf", "row 3", "column 1")),
    Kind("-inf", rows(spot(-math.inf), "-inf", "row 3", "column 1")),
    Kind("no rows", rows(lambda x: x[:0], "shape", "(0")),
    Kind("no columns", rows(lambda x: x[..., :0], "shape", ", 0)")),
    Kind("one dimension", rows(lambda x: x.reshape(-1), "shape", "(")),
    Kind("one dimension too many", rows(lambda x: x[None], "shape")),
    Kind("a scalar", rows(lambda x: np.float64(3.0), "shape", "()")),
    Kind("a column too many", rows(lambda x: np.concatenate([x, x[..., :1]], -1), "data_dim=4", "has 5")),
    Kind("a column too few", rows(lambda x: x[..., :-1], "data_dim=4", "has 3")),
    Kind("one row", rows(lambda x: x[:1], "1", sequences=False)),
    Kind("objects", rows(lambda x: x.astype(object), "dtype object")),
    Kind("strings", rows(lambda x: x.astype(str), "dtype <U")),
    Kind("bytes", rows(lambda x: x.astype("S8"), "dtype |S8")),
    Kind("complex", rows(lambda x: x.astype(complex), "complex128")),
    Kind("dates", rows(lambda x: x.astype("datetime64[s]"), "datetime64")),
    Kind("time spans", rows(lambda x: x.astype("timedelta64[s]"), "timedelta64")),
    Kind("records", rows(structured, "dtype [(")),
    Kind("ragged rows", rows(ragged, "array")),
    Kind("None", rows(lambda x: None, "dtype object")),
    Kind("a mapping", rows(lambda x: {"a": 1}, "dtype object")),
    Kind("a string", rows(lambda x: "rows.csv", "dtype <U8")),
    Kind("a function", rows(lambda x: len, "dtype object")),
    Kind("a generator", rows(lambda x: (row for row in x), "dtype object")),
    Kind("masked values", rows(lambda x: np.ma.masked_equal(x, x.flat[0]), "masked", sequences=False)),
    Kind("a sparse matrix", rows(sparse, "dtype object")),
    Kind("values that cannot be had", rows(lambda x: Untouchable(), "requires grad")),
    Kind("beyond float32", rows(spot(1e39), "1e+39", sequences=False)),
    Kind("beyond int64", rows(lambda x: [[2**70] * x.shape[-1]] * len(x), "dtype object")),
    Kind("a negative value", outside(-1.0, "bits", "unit", "classes")),
    Kind("a value above one", outside(1.5, "bits", "unit", "classes")),
    Kind("a class too high", outside(7.0, "bits", "unit", "classes")),
    Kind("a fraction of a class", outside(0.5, "classes")),
    Kind("a scale of 1e30", huge),
    Kind("labels of other length", label(lambda y: y[:-1], "label", "11")),
    Kind("labels with fractions", label(lambda y: y + 0.5, "integer labels", "row 0")),
    Kind("labels with nan", label(lambda y: np.where(y == 1, np.nan, y), "integer labels", "nan", "row 1")),
    Kind("labels as strings", label(lambda y: y.astype(str), "dtype <U")),
    Kind("one-hot labels", label(lambda y: np.eye(CLASSES)[y], "shape (12, 3)")),
    Kind("a label too high", label(lambda y: y + CLASSES, "num_classes", "5")),
    Kind("a negative label", label(lambda y: y - 1, "label for every row", "-1", known=True)),
    Kind("labels beyond int32", label(lambda y: y + 2**40, "2**31", "row 0")),
    Kind("a length of zero", length(lambda n: n - 1, "lengths", "from 1 to 3")),
    Kind("a length beyond the steps", length(lambda n: n + 3, "lengths", "from 1 to 3")),
    Kind("lengths with fractions", length(lambda n: n + 0.5, "lengths", "whole number")),
    Kind("lengths of other length", length(lambda n: n[:-1], "lengths", "12")),
    Kind("rows without labels or lengths", alone),
    Kind("an array too many", too_many),
    Kind("held-out rows of other width", held(lambda x: x[:, :-1], "heldout", "3")),
    Kind("held-out rows with nan", held(lambda x: np.where(np.eye(*x.shape) > 0, np.nan, x),
                                        "heldout", "row 0, column 0")),
    Kind("an unknown engine", setting("engine", "stan", "'stan'", "numpyro, pyro"), "engine"),
    Kind("an unknown estimator", setting("estimator", "scor", "'scor'", "did you mean 'score'?"), "estimator"),
    Kind("an estimator that does not apply", estimator, "estimator"),
    Kind("an estimator of no site", pattern, "estimator"),
    Kind("no batch", setting("batch", 0), "batch"),
    Kind("half a batch", setting("batch", 2.5), "batch"),
    Kind("a negative seed", setting("seed", -1), "seed"),
    Kind("a seed in words", setting("seed", "one"), "seed"),
    Kind("an unknown bound", setting("bound", "elbow"), "bound"),
    Kind("a start without a parameter", initial(drop), "init"),
    Kind("a start with a parameter too many", initial(add, "'nowhere'"), "init"),
    Kind("a start of other shape", initial(stretch, "(7, 7, 7)"), "init"),
    Kind("a start at nan", initial(poison, "nan"), "init"),
    *(Kind(f"{name}={value!r}", training(name, value), name) for name, value in [
        ("epochs", -1), ("epochs", 1.5), ("epochs", "ten"), ("batch", 0), ("batch", True), ("lr", 0.0), ("lr", math.nan),
        ("lr", "fast"), ("seed", 2**31), ("seed", 0.5), ("restarts", 0), ("dtype", "float16"), ("patience", 0), ("beta", -1.0),
        ("anneal", -1), ("num_particles", 0), ("iterations", 0), ("noise", 0.0), ("method", "vi"),
    ]),
    Kind("no model", other_model(lambda case: object(), "expected a declaration", "object"), "model"),
    Kind("three functions", other_model(lambda case: (len, len, len), "pair"), "model"),
    Kind("a declaration of other width", mismatched, "model"),
]  # fmt: skip

#: Good input in unusual clothes, which must be taken.
TWINS: Mapping[str, Callable[[np.ndarray], Any]] = {
    "not contiguous": lambda x: np.repeat(x, 2, -1)[..., ::2], "Fortran order": np.asfortranarray, "float32": np.float32,
    "float16": np.float16, "lists": lambda x: x.tolist(), "a constant column": lambda x: np.concatenate(
        [x[..., :-1], np.broadcast_to(x[:1].max(), (*x.shape[:-1], 1)) if x.ndim == 2 else x[..., -1:]], -1),
    "read-only": lambda x: np.broadcast_to(x, x.shape), "big endian": lambda x: x.astype(">f8"),
    "long double": lambda x: x.astype(np.longdouble),
}  # fmt: skip
