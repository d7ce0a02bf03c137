"""Rows of `ppl list`: what there is, by kind."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc, getmodule
from typing import Any

from ppl_models import CATALOGUE
from ppl_models.datasets import DATASETS
from ppl_models.language import ENGINES

from .estimators import ESTIMATORS, STOCK
from .kernels import KERNELS
from .methods import PRESETS, methods


def models() -> list[dict[str, Any]]:
    """One row a declaration, from the first lines of its file and of its class."""
    out = []
    for name, (cls, preset) in CATALOGUE.items():
        module = (getmodule(cls).__doc__ or "").splitlines()[0].rstrip(".")
        given = {**preset, **PRESETS.get(name, {})}
        summary = module + (f"; with {', '.join(f'{k}={v}' for k, v in given.items())}" if given else "")
        density = (getdoc(cls) or "").splitlines()[0]
        out.append({"name": name, "engines": list(ENGINES), "summary": summary, "density": density, "methods": methods(cls)})
    return out


def estimators() -> list[dict[str, Any]]:
    """One row an estimator, from the first line of its file: its formula and source."""
    out = []
    for name, make in ESTIMATORS.items():
        estimator = make()
        told = getattr(estimator, "control", None) or estimator
        summary = (getmodule(type(told)).__doc__ or "").splitlines()[0]
        out.append({"name": name, "engines": list(ENGINES), "summary": summary, "unbiased_for": list(estimator.unbiased_for)})
    for name, cls in STOCK.items():
        out.append(
            {
                "name": name,
                "engines": list(ENGINES),
                "summary": f"the library's own {cls}, as it is",
                "unbiased_for": ["elbo"],
            }
        )
    return out


def kernels() -> list[dict[str, Any]]:
    """One row a kernel, from the first lines of its file and of its class."""
    out = []
    for name, cls in KERNELS.items():
        summary = (getmodule(cls).__doc__ or "").splitlines()[0].rstrip(".")
        transition = (getdoc(cls) or "").splitlines()[0]
        out.append({"name": name, "engines": list(ENGINES), "summary": summary, "transition": transition})
    return out


def datasets() -> list[dict[str, Any]]:
    """One row a data set."""
    return [{"name": name, "engines": list(ENGINES), "summary": summary} for name, summary in DATASETS.items()]


ROWS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "models": models,
    "estimators": estimators,
    "kernels": kernels,
    "datasets": datasets,
}


def rows(kind: str) -> list[dict[str, Any]]:
    """The rows of one kind."""
    return ROWS[kind]()
