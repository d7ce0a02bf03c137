"""Checks of how a model behaves as an object: seeds, files, equality, and nothing left behind."""

from __future__ import annotations

import random
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ppl_models import InputError, bind

from ..check import _check, rules
from ..checks import check_init
from ..files import load_params, save_params
from .structure import first
from .subject import Skipped, Subject, differing


def same_seed_same_start(s: Subject, engine: str) -> str | None:
    """The same seed gives the same first parameters and the same draws."""
    a, b = s.walk(engine), s.fresh(engine)
    for what, ours, theirs in (("parameter", a.values, b.values), ("draw of", a.draws, b.draws)):
        for name, value in ours.items():
            if name not in theirs or not np.array_equal(value, theirs[name], equal_nan=True):
                return (f"{what} '{name}' is not the same twice with one seed; draw by `sample` or in the `init` of `param` "
                        "only.")  # fmt: skip
    return None


def other_seed_other_draws(s: Subject, engine: str) -> str | None:
    """Another seed gives other draws of every continuous latent."""
    start = s.walk(engine)
    other = s.fresh(engine, seed=7, init=start.values)
    sites = start.of("guide").values()
    names = [x.name for x in sites if x.kind == "latent" and x.distribution != "Delta" and "whole" not in x.support]
    names = [name for name in names if start.of("guide")[name].support.startswith(("real", "numbers", "positive"))]
    if not names:
        raise Skipped("the guide draws nothing continuous")
    for name in names:
        if np.array_equal(start.draws[name], other.draws[name]):
            return f"latent '{name}' is drawn alike with two seeds; give its distribution in the guide some width."
    return None


def pure(s: Subject, engine: str) -> str | None:
    """At given parameters and draws the density is the same bits each time."""
    wrong = differing(s.walk(engine, at=engine), _again(s, engine), 0.0)
    cure = "let the programs depend on their arguments alone"
    return f"{wrong} in two runs at the same parameters and draws; {cure}." if wrong else None


def _again(s: Subject, engine: str) -> Any:
    start = s.walk(engine)
    return s.fresh(engine, init=start.values, values=start.draws)


def data_left_alone(s: Subject, engine: str) -> str | None:
    """The arrays that the programs are given are as before afterwards."""
    with s.session(engine):
        args = s.args(engine)
        before = s.to_numpy(engine, args)
        s.here(engine).walk(*s.bound(engine), args)
        for name, value in s.to_numpy(engine, args).items():
            if not np.array_equal(before[name], value, equal_nan=True):
                return f"the programs write into '{name}'; copy an array before changing it, as in x = x - m for x -= m."
    return None


def starts_inside_constraints(s: Subject, engine: str) -> str | None:
    """First values of parameters are finite and where their constraints say."""
    return first(rules.starts(s.walk(engine), None))


def parameters_survive_a_file(s: Subject, engine: str) -> str | None:
    """Parameters written to a file and read back give the same density, bit by bit."""
    start = s.walk(engine)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "params.safetensors"
        try:
            save_params(path, start.values)
            back = load_params(path)
        except Exception as error:
            return f"the parameters cannot be written ({type(error).__name__}); give them plain names and real numbers."
    for name, value in start.values.items():
        if name not in back or back[name].dtype != value.dtype or not np.array_equal(back[name], value, equal_nan=True):
            return f"parameter '{name}' is not the same in a file; give it a plain name and real numbers."
    wrong = differing(s.fresh(engine, init=back, values=start.draws), s.walk(engine, at=engine), 0.0)
    return f"{wrong} with parameters that were in a file; let nothing but these be learned." if wrong else None


def initial_fits(s: Subject, engine: str) -> str | None:
    """`initial` gives every parameter, in its shape and constraint, and a finite density; the same for the same seed."""
    s.needs("initial")
    made = [dict(s.model.initial(*s.rows.arrays, np.random.default_rng(0))) for _ in range(2)]
    shapes = {param.name: param.value.shape for param in s.walk(engine, numbers=False).params}
    try:
        check_init(made[0], shapes)
    except InputError as error:
        return str(error)
    for name, value in made[0].items():
        if not np.array_equal(value, made[1][name]):
            return f"`initial` gives '{name}' two values with one seed; draw by its `rng` only."
    walk = s.fresh(engine, init=made[0])
    return first([*rules.starts(walk, made[0]), *rules.densities(walk)])


def equal_by_value(s: Subject, engine: str) -> str | None:
    """Two declarations with the same settings are equal and have one hash, so that one compiled program serves both."""
    s.needs()
    twin = replace(s.model) if is_dataclass(s.model) and not isinstance(s.model, type) else s.model
    try:
        alike = bind(twin, engine) == bind(s.model, engine) and hash(bind(twin, engine)) == hash(bind(s.model, engine))
    except TypeError as error:
        return f"the declaration cannot be hashed ({error}); let its fields be numbers, strings, tuples or frozen dataclasses."
    return None if alike else "an equal declaration is not equal; let it be a dataclass with eq, its fields compared by value."


def frozen(s: Subject, engine: str) -> str | None:
    """A declaration is a frozen dataclass."""
    s.needs()
    settings = getattr(type(s.model), "__dataclass_params__", None)
    return None if settings is not None and settings.frozen else "the declaration can be changed; make it a frozen dataclass."


def repr_tells_settings(s: Subject, engine: str) -> str | None:
    """`repr` names every setting with its value, for reports and manifests."""
    s.needs()
    text = repr(s.model)
    settings = [f.name for f in fields(s.model)] if is_dataclass(s.model) else []
    silent = [name for name in settings if f"{name}={getattr(s.model, name)!r}" not in text]
    return f"repr does not tell the setting '{silent[0]}'; leave repr to the dataclass." if silent else None


def columns_are_counted(s: Subject, engine: str) -> str | None:
    """Data with one more column are refused."""
    s.needs()
    x = s.rows.arrays[0]
    wider = np.concatenate([x, x[..., :1]], -1)
    others = s.rows.arrays[1:]
    found = _check(s.model, (wider, *others) if others else wider, engine, None, s.total, 0, None)
    cure = "give the declaration a field data_dim"
    return None if found.problems else f"{wider.shape[-1]} columns are taken as {x.shape[-1]} are; {cure}."


def leaves_no_global_state(s: Subject, engine: str) -> str | None:
    """A run leaves random states, dtypes, stores and handlers as they were."""
    def state() -> dict[str, Any]:
        numpy = np.random.get_state(legacy=False)  # noqa: NPY002
        return {"numpy's random state": repr(numpy), "Python's random state": random.getstate(), **s.here(engine).state()}

    s.walk(engine)
    kept = np.random.get_state(legacy=False)  # noqa: NPY002
    try:
        np.random.seed(2**31 - 1)  # noqa: NPY002  # what sets one seed each time is to be seen
        before = state()
        s.fresh(engine)
        after = state()
    finally:
        np.random.set_state(kept)  # noqa: NPY002
    changed = [name for name in before if before[name] != after[name]]
    cure = "draw by `sample` or in the `init` of `param` only, and set nothing"
    return f"a run changes {changed[0]}; {cure}." if changed else None


def default_estimator_applies(s: Subject, engine: str) -> str | None:
    """The gradient estimators chosen by default apply to every latent."""
    start = s.walk(engine)
    if first(rules.coverage(start)):
        raise Skipped("guide and model do not match")
    with s.session(engine):
        try:
            s.here(engine).try_estimator(None, *s.bound(engine), s.args(engine), start.values)
        except InputError as error:
            return str(error)
    return None


CHECKS = (same_seed_same_start, other_seed_other_draws, pure, data_left_alone, starts_inside_constraints,
          parameters_survive_a_file, initial_fits, equal_by_value, frozen, repr_tells_settings, columns_are_counted,
          leaves_no_global_state, default_estimator_applies)  # fmt: skip
