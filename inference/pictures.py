"""What a report shows of a fitted model: arrays of data beside what the model makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ppl_models import InputError

from . import explore
from .callables import inputs_of
from .svi import Fit

ROWS = 10  # held-out rows shown
REACH = np.linspace(-2.5, 2.5, 11)  # of a traversed dimension


def pictures(fit: Fit, seed: int = 0, *, strict: bool = False) -> dict[str, np.ndarray]:
    """Arrays by name, (n, D) or (rows, columns, D); a picture that the model cannot give, or that is not finite, is left out.

    A picture that fails otherwise is left out too, since a fit is worth more than its report, unless `strict`.

    "data" and "reconstructions", "samples", "manifold" (one latent of size 2), "classes" (rows styles, columns classes),
    "analogies" (each row first as it is), "interpolations", "traversals" (a row a dimension, the most telling first),
    "imputations" (each row whole, with holes, filled in), and "completions" (each row what a conditional model is given of
    it, four draws of the rest, and whole).
    """
    draw: dict[str, Callable[[Fit, int], np.ndarray]] = {
        "data": lambda fit, _: fit.data.heldout[:ROWS],
        "reconstructions": reconstructions,
        "samples": lambda fit, seed: np.asarray(explore.generate(fit, 20, seed=seed).mean),
        "manifold": lambda fit, _: explore.manifold(fit),
        "classes": lambda fit, seed: explore.by_class(fit, 6, seed=seed),
        "analogies": analogies,
        "interpolations": interpolations,
        "traversals": traversals,
        "imputations": imputations,
        "completions": completions,
    }
    if hasattr(getattr(fit.model, "given", None), "columns"):  # x is only a part of the row there
        draw = {name: draw[name] for name in ("data", "completions")}
    out: dict[str, np.ndarray] = {}
    for name, one in draw.items():
        try:
            picture = one(fit, seed)
        except InputError:  # the model has no such picture
            continue
        except Exception:
            if strict:
                raise
            continue
        if name in ("imputations", "completions") or np.isfinite(picture).all():
            out[name] = picture
    return out


def given(fit: Fit, rows: slice = slice(ROWS)) -> dict[str, np.ndarray]:
    """The inputs beside x of some held-out rows."""
    names = inputs_of(fit.model)[1:]
    return {name: value[rows] for name, value in zip(names, fit.data.inputs(names, heldout=True), strict=True)}


def reconstructions(fit: Fit, seed: int) -> np.ndarray:
    """The first held-out rows from their codes."""
    return explore.reconstruct(fit, fit.data.heldout[:ROWS], inputs=given(fit), seed=seed)


def analogies(fit: Fit, seed: int) -> np.ndarray:
    """Held-out rows, each before its style under every class."""
    count = min(6, len(fit.data.heldout))
    grid = explore.analogies(fit, range(count), seed=seed)
    return np.concatenate([fit.data.heldout[:count, None], grid], 1)


def interpolations(fit: Fit, seed: int) -> np.ndarray:
    """From the first held-out rows to the next."""
    count = min(4, len(fit.data.heldout) // 2)
    a, b = (fit.data.heldout[start : start + count] for start in (0, count))
    return explore.interpolate(fit, a, b, 10, inputs=given(fit, slice(count)))


def traversals(fit: Fit, seed: int) -> np.ndarray:
    """Of the first held-out row: the dimensions of the first latent whose posterior means vary most."""
    x, extra = fit.data.heldout[:200], given(fit, slice(200))
    name, code = next(iter(explore.encode(fit, x, inputs=extra, seed=seed).items()))
    spread = code.mean.reshape(len(x), -1).var(0)
    dims = [int(d) for d in np.argsort(-spread)[:6]]
    return explore.traverse(fit, x[0], name, dims, REACH.tolist(), inputs=given(fit, slice(1)))


def imputations(fit: Fit, seed: int) -> np.ndarray:
    """Rows whole, without the lower half of the image (or every other entry), and filled in: (rows, 3, D)."""
    rows, shape = fit.data.heldout[:ROWS].astype(np.float64), fit.data.image_shape
    width = rows.shape[-1]
    hidden = np.arange(width) >= width // 2 if shape is not None else np.arange(width) % 2 == 1
    holes = np.where(hidden, np.nan, rows)
    return np.stack([rows, holes, explore.impute(fit, holes, inputs=given(fit), seed=seed)], 1)


def completions(fit: Fit, seed: int) -> np.ndarray:
    """Rows as the model is given them, completed four times, and whole: (rows, 6, D)."""
    rows = fit.data.heldout[:ROWS].astype(np.float64)
    drawn, seen = explore.complete(fit, rows, 4, seed=seed), rows.copy()
    seen[:, fit.model.given.columns()[0]] = np.nan
    return np.concatenate([seen[:, None], drawn, rows[:, None]], 1)
