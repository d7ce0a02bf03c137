"""`ppl sample`: rows drawn from the model that a run's directory holds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models import CATALOGUE, InputError

from .callables import inputs_of
from .checks import check_settings
from .explore import generate
from .files import check_archive, write
from .runs import reopen


def sample(
    run: Path, num: int, label: int | None, seed: int, data_dir: str | None, out: Path | None, overwrite: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What was drawn, in words and numbers, and the arrays `x` (draws), `mean` (E[x | z]) and the latents by site.

    Raises:
        InputError: The directory holds no run, the file exists, or the label does not go with the model.
    """
    if str(run) in CATALOGUE and not run.exists():
        raise InputError(f"expected the directory of a fit, got the model '{run}'; fit it first: "
                         f"ppl fit {run} --out runs/{run}, then ppl sample runs/{run}.")  # fmt: skip
    if num < 1:
        raise InputError(f"expected --num to be at least 1, got {num}; ask for more rows.")
    check_settings(seed=seed)
    check_archive(out, overwrite)
    found = reopen(run, data_dir)
    if hasattr(found.model, "energy"):
        return of_energy(found, run, num, label, seed)
    drawn = generate(found, num, condition=condition(found, num, label), seed=seed)
    arrays = {name: np.asarray(value) for name, value in {"x": drawn.draw, "mean": drawn.mean, **drawn.latents}.items()}
    told = {
        "verdict_sentence": f"Drew {num} rows of {arrays['x'].shape[-1]} columns from the {found.engine} fit in {run}.",
        "run": str(run), "num": num, "seed": seed, "label": label, "sites": {name: list(v.shape) for name, v in arrays.items()},
        "mean": float(arrays["x"].mean()),
    }  # fmt: skip
    return told, arrays


def of_energy(
    found: Any, run: Path, num: int, label: int | None, seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """States of chains 1,000 sweeps after those that the run keeps."""
    from .energy_runs import drawn, from_run

    if label is not None:
        raise InputError(f"{type(found.model).__name__} is not conditional on a label; leave out --label.")
    arrays = drawn(from_run(found, run), num, 1000, seed)
    told = {
        "verdict_sentence": f"Drew {num} rows of {arrays['x'].shape[-1]} columns by chains of the {found.engine} fit in {run}.",
        "run": str(run), "num": num, "seed": seed, "label": None, "sites": {name: list(v.shape) for name, v in arrays.items()},
        "mean": float(arrays["x"].mean()),
    }  # fmt: skip
    return told, arrays


def condition(found: Any, num: int, label: int | None) -> dict[str, np.ndarray]:
    """The label of every row, as the model takes it: an input `y`, or a one-hot latent `y`."""
    classes = getattr(found.model, "num_classes", None)
    if label is None:
        return {}
    names = inputs_of(found.model)
    if classes is None or not ({"y", "labels"} & set(names)):
        raise InputError(f"{type(found.model).__name__} is not conditional on a label; leave out --label.")
    if not 0 <= label < classes:
        raise InputError(f"expected --label among 0 to {classes - 1}, got {label}; choose one of those.")
    if "y" in names:
        return {"y": np.full(num, label)}
    return {"y": np.tile(np.eye(classes)[label], (num, 1))}


def write_arrays(out: Path, arrays: dict[str, np.ndarray]) -> None:
    """One `.npz`, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write(out, buffer.getvalue())
