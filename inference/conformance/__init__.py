"""What every model must do, as named checks for a test suite: of the catalogue, of a user's declaration, of a pair.

    @pytest.mark.parametrize("check", checks(), ids=str)
    def test_my_model(check):
        check_model(MyModel(data_dim=6), x, only=check)

An energy has checks of its own: `checks(energy=True)` in the first line, and `check_model(RBM(6, 3), x, only=check)`.
Each check fails on a model of `inference.broken_models`, or on an energy of `inference.broken_energies`, that is wrong in
this and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from ppl_models import InputError
from ppl_models.language import ENGINES, check_engine

from . import behaviour, density, energies, structure
from .energy_subject import EnergySubject
from .subject import Broke, Skipped, Subject

__all__ = ["Check", "Result", "check_model", "checks"]

Outcome = Literal["passed", "failed", "skipped"]


class Check(NamedTuple):
    """A named check; `sentence` says what must hold, `together` whether it compares the engines and so runs once."""

    name: str
    sentence: str
    run: Callable[[Any, str], str | None]
    together: bool = False

    def __str__(self) -> str:
        return self.name


class Result(NamedTuple):
    """What one check found on one engine; `reason` is the sentence of a failure or of what was skipped."""

    check: str
    engine: str
    outcome: Outcome
    reason: str = ""


def checks(*, energy: bool = False) -> list[Check]:
    """All checks of a model and its guide, or of an `energy`; those of structure first."""
    rows = energies.CHECKS if energy else (*structure.CHECKS, *density.CHECKS, *behaviour.CHECKS)
    return [Check(f.__name__, (f.__doc__ or "").strip(), f, f.__name__.startswith("engines_agree")) for f in rows]


def check_model(
    model: Any, data: Any, *, engine: str | None = None, only: str | Check | Iterable[str | Check] | None = None,
    raises: bool = True,
) -> list[Result]:  # fmt: skip
    """Run the checks on a model, on the first 5 rows of its data; nothing is compiled.

    Args:
        model: A declaration, an energy among them, or `Bound(model, guide)` of one engine's own functions; what needs a
            declaration is skipped there.
        data: What `fit` takes, or a tuple of the arrays that the model reads; at least 3 rows.
        engine: "numpyro" or "pyro"; None is both that are installed. A pair of functions has one.
        only: A check or its name, or several; all if left out.
        raises: Raise at the first failure; else tell all.

    Returns:
        A row for each check and engine.

    Raises:
        InputError: A check is unknown or the data cannot be used; or a check failed, and `raises`.
    """
    energy = not isinstance(model, tuple) and hasattr(model, "energy")
    parts = ("energy", "model", "initial", "sites") if energy else ("model", "guide")
    if not isinstance(model, tuple) and not all(hasattr(model, part) for part in parts):
        raise InputError(f"expected a declaration with {', '.join(parts)}, or a pair of model and guide, got "
                         f"{type(model).__name__}; write what it lacks, or see `check`.")  # fmt: skip
    if engine is None and isinstance(model, tuple):
        raise InputError("a pair of functions belongs to one engine, and none was named; give engine='numpyro' or 'pyro'.")
    engines = (check_engine(engine),) if engine else tuple(name for name in ENGINES if _installed(name))
    subject, told = (EnergySubject if energy else Subject)(model, data, engines), list[Result]()
    for check in _chosen(only, energy):
        for name in engines[:1] if check.together else engines:
            result = _run(check, subject, "both" if check.together and len(engines) > 1 else name, name)
            if raises and result.outcome == "failed":
                raise InputError(f"{type(model).__name__} fails {check.name} on {result.engine}: {result.reason}")
            told.append(result)
    return told


def _run(check: Check, subject: Subject, told: str, engine: str) -> Result:
    try:
        reason = check.run(subject, engine)
    except Skipped as skipped:
        return Result(check.name, told, "skipped", str(skipped))
    except (Broke, InputError) as broke:
        if check.name != "runs" and any(subject.breaks(name) for name in subject.engines):
            return Result(check.name, told, "skipped", "the programs do not run")
        reason = str(broke)
    return Result(check.name, told, "failed" if reason else "passed", reason or "")


def _chosen(only: str | Check | Iterable[str | Check] | None, energy: bool) -> list[Check]:
    known = {check.name: check for check in checks(energy=energy)}
    if only is None:
        return list(known.values())
    names = [str(only)] if isinstance(only, (str, Check)) else [str(name) for name in only]
    for name in names:
        if name not in known:
            raise InputError(f"expected a check among {', '.join(known)}, got '{name}'; choose one of those.")
    return [known[name] for name in names]


def _installed(engine: str) -> bool:
    try:
        check_engine(engine)
    except InputError:
        return False
    return True
