"""What `ppl check` tells."""

from __future__ import annotations

from typing import Any

from ppl_models import InputError

from ..data import describe
from ..estimators import Spec
from . import Checked, check


def of_source(source: Any, estimator: Spec, bound: str, batch: int | None) -> tuple[dict[str, Any], str]:
    """A check of what was asked for: as JSON knows it, and as text.

    Args:
        source: The `Source` of model and data.
        estimator: Of gradients; None is the choice for each site.
        bound: "elbo" or "iwae".
        batch: Rows to look at.

    Raises:
        InputError: The data or the estimator cannot be used; what is wrong with the model itself is told instead.
    """
    declaration, data = source.open()
    found = check(declaration, data, engine=source.engine, estimator=estimator, bound=bound, batch=batch, seed=source.seed,
                  raises=False)  # fmt: skip
    for problem in found.problems:
        if problem.about != "model":
            raise InputError(str(problem))
    told = {
        "verdict_sentence": sentence(found, source.model, data.name), "model": source.model, "engine": source.engine,
        "settings": {name: str(value) for name, value in vars(declaration).items()}, "data": describe(data),
        "estimator": estimator or "default", "problems": [str(problem) for problem in found.problems],
        "sites": [line._asdict() for line in found.table], "params": found.params, "edges": found.edges, "graph": found.graph,
        "rows": found.rows[0],
    }  # fmt: skip
    return told, "\n".join(filter(None, [found.text(), "", *(f"- {p}" for p in found.problems), told["verdict_sentence"]]))


def sentence(found: Checked, model: str, data: str) -> str:
    """What was found, in one sentence."""
    if found.problems:
        return f"{model} is not fine on {data}: {found.problems[0]}"
    learned = sum(_size(shape) for shape in found.params.values())
    return f"fine: {model} on {data} runs, with {learned:,} parameters to learn in {len(found.params)} arrays."


def _size(shape: tuple[int, ...]) -> int:
    out = 1
    for n in shape:
        out *= n
    return out
