"""The step at which training stopped, on disk: the minibatch, the parameters and the random state that make it happen again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models import InputError

from ..callables import as_bound
from ..estimators import Spec
from ..files import load_params, to_json, write
from .nonfinite import Failure, first_bad

TENSORS, FACTS = "nonfinite.safetensors", "nonfinite.json"


def save(folder: Path, failure: Failure, about: Mapping[str, Any]) -> None:
    """Write the bundle; `about` is what else its reader needs: the model and data as asked for, the estimator, the versions."""
    from safetensors.numpy import save as packed

    folder.mkdir(parents=True, exist_ok=True)
    # Whatever is not finite is kept too: it may be what went wrong.
    write(folder / TENSORS, packed({name: np.asarray(value, order="C") for name, value in failure.tensors.items()}))
    facts = {"sentence": failure.sentence, "epoch": failure.epoch, "step": failure.step, "restart": failure.restart,
             "batch": failure.batch.tolist(), "site": failure.site, "what": failure.what, **failure.facts, **about}  # fmt: skip
    write(folder / FACTS, to_json(facts))


def reproduce(folder: Path, model: Any, *, engine: str, estimator: Spec = None, bound: str = "elbo", num_particles: int = 1,
              total: int | None = None, dtype: str = "float32") -> tuple[str, str, float]:  # fmt: skip
    """Run the step of a bundle again: the first site, input or parameter that is not finite, what is wrong there, and the loss.

    Args:
        folder: Of the bundle.
        model: The declaration or pair that was trained.
        engine: "numpyro" or "pyro", as in training.
        estimator: As in training.
        bound: As in training.
        num_particles: As in training.
        total: Data that the minibatch stood for.
        dtype: As in training.

    Raises:
        InputError: The folder holds no whole bundle.
    """
    tensors = load_params(folder / TENSORS)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / FACTS} cannot be read ({error}); give the folder that training wrote.") from None
    shared, trainer = import_module(f"inference._{engine}"), import_module(f"inference.svi._{engine}")
    with shared.session(dtype):
        pair = as_bound(model, engine, total)
        elbo = trainer.make(estimator, bound=bound, num_particles=num_particles)
        found = list(trainer.again(*pair, tensors, facts, elbo))
    site, what = first_bad(found[:-1])
    return site, what, float(found[-1][2])
