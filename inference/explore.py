"""What a fitted model does: encode, decode, generate, reconstruct, impute, classify, and walk through its latent space.

Arrays go in and come out as numpy, rows first, at the dtype of the fit. Conditions and labels are inputs beside x, by
name (`y`, `labels`, `lengths`); latents are by site. Where an input is left out, held-out rows give it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ppl_models import Bound, InputError

from .callables import as_bound, inputs_of
from .evaluate import DRAWS
from .evaluate.latent import Latent, Prediction
from .svi import Fit

Arrays = Mapping[str, np.ndarray]


class Posterior(NamedTuple):
    """Mean and scale (sd) of q(z | x) at one site, (N, *event)."""

    mean: np.ndarray
    scale: np.ndarray


def encode(fit: Fit, x: np.ndarray, *, inputs: Arrays | None = None, seed: int = 0, draws: int = DRAWS) -> dict[str, Posterior]:
    """E_q[z | x] and its scale at each site; averaged over `draws` of the latents that q of a site depends on."""
    found = _latents(fit, _args(fit, x, inputs), seed, draws)
    return {name: Posterior(latent.mean, latent.scale) for name, latent in found.items()}


def decode(fit: Fit, latents: Arrays, *, inputs: Arrays | None = None, seed: int = 0) -> np.ndarray:
    """E[x | z], (N, D), for latents by site; sites left out are drawn from the prior."""
    return _mean(fit, _predict(fit, _args(fit, len(next(iter(latents.values()))), inputs), latents, seed))


def generate(fit: Fit, n: int, *, condition: Arrays | None = None, seed: int = 0) -> Prediction:
    """`n` draws of the model: E[x | z], a draw of x, and the latents drawn.

    `condition` fixes inputs (a conditional model's labels `y`, (n,)) or latents (one-hot `y` (n, C) of a
    semi-supervised model), by name.
    """
    condition, names = condition or {}, inputs_of(fit.model)
    found = _predict(fit, *_split(fit, n, condition, {}), seed)
    unknown = set(condition) - set(names) - set(found.latents)
    if unknown:
        raise InputError(f"expected conditions among {', '.join([*names[1:], *found.latents])}, got '{min(unknown)}'; "
                         "choose one of those.")  # fmt: skip
    return found._replace(mean=_mean(fit, found))


def reconstruct(fit: Fit, x: np.ndarray, *, inputs: Arrays | None = None, seed: int = 0) -> np.ndarray:
    """E[x | z] at the posterior mean of z; discrete latents are drawn."""
    args = _args(fit, x, inputs)
    return _mean(fit, _predict(fit, args, _centre(fit, args, seed), seed))


def impute(
    fit: Fit, x: np.ndarray, *, inputs: Arrays | None = None, iterations: int = 50, seed: int = 0, draws: bool = True
) -> np.ndarray:
    """`x` with its missing entries (nan) filled in; entries that are there stay as they are.

    With `draws`, pseudo-Gibbs sampling (Rezende et al. 2014, appendix F): z ~ q(z | x), missing x ~ p(x | z), in turn;
    returned is the mean of E[x | z] over the second half of the iterations. Without, means take the place of draws:
    coordinate ascent to the mode of p(z, missing x | x), which for linear-Gaussian models is the exact conditional mean.
    """
    x = np.array(x, np.float64)
    missing, columns = np.isnan(x), fit.data.x.astype(np.float64).mean(0)
    x[missing] = np.broadcast_to(columns, x.shape)[missing]
    total, kept = np.zeros_like(x), max(1, iterations // 2)
    for i in range(iterations):
        args = _args(fit, x, inputs)
        latents = _draw(fit, args, seed + i) if draws else _centre(fit, args, seed)
        found = _predict(fit, args, latents, seed + i)
        mean = _mean(fit, found)
        if mean.shape != x.shape:
            raise InputError(f"expected a model of all of x, shape {x.shape[1:]}, got one of shape {mean.shape[1:]}; "
                             "it cannot fill in the rest.")  # fmt: skip
        x[missing] = (found.draw if draws else mean)[missing]
        if i >= iterations - kept:
            total += mean / kept
    x[missing] = (total if draws and iterations else x)[missing]
    return x


def complete(fit: Fit, x: np.ndarray, n: int = 1, *, seed: int = 0) -> np.ndarray:
    """`x` with the columns that a conditional model scores replaced by E[x | z, condition], (N, n, D); `n` draws of z.

    Raises:
        InputError: The model is not conditional on columns of x.
    """
    columns = getattr(getattr(fit.model, "given", None), "columns", None)
    if columns is None:
        raise InputError(f"expected a model conditional on some columns of x, got {_title(fit)}; use impute there.")
    out = np.repeat(np.asarray(x, np.float64)[:, None], n, 1)
    for i in range(n):
        out[:, i, columns()[0]] = _mean(fit, _predict(fit, _args(fit, x, None), {}, seed + i))
    return out


def classify(fit: Fit, x: np.ndarray) -> np.ndarray:
    """log q(class | x), (N, classes), nats.

    Raises:
        InputError: The model has no classes.
    """
    if not hasattr(fit.model, "classify"):
        raise InputError(f"expected a model that tells classes apart, got {_title(fit)}, which has no method classify; "
                         "use a semi-supervised or a mixture model.")  # fmt: skip
    with _session(fit) as (engine, _):
        logits = engine.call(fit.model, "classify", fit.params, (np.asarray(x),))
    return logits - np.logaddexp.reduce(logits, -1)[..., None]


def interpolate(fit: Fit, a: np.ndarray, b: np.ndarray, steps: int = 8, *, inputs: Arrays | None = None) -> np.ndarray:
    """E[x | z] along straight lines between the codes of rows `a` and `b`, (N, steps, D); needs continuous latents."""
    n, share = len(a), np.linspace(0, 1, steps)
    ends = [_continuous(fit, _args(fit, part, inputs)) for part in (a, b)]
    lines = {
        name: np.stack([(1 - s) * ends[0][name].mean + s * ends[1][name].mean for s in share], 1).reshape(
            n * steps, *ends[0][name].mean.shape[1:]
        )
        for name in ends[0]
    }
    repeated = {name: np.repeat(value, steps, 0) for name, value in (inputs or {}).items()}
    return decode(fit, lines, inputs=repeated).reshape(n, steps, -1)


def traverse(
    fit: Fit, x: np.ndarray, site: str, dims: Sequence[int], values: Sequence[float], *, inputs: Arrays | None = None
) -> np.ndarray:
    """E[x | z] as one dimension of the code of the row `x` (D,) takes each of `values`, (dims, values, D)."""
    x = np.asarray(x).reshape(1, *fit.data.x.shape[1:])
    codes = _continuous(fit, _args(fit, x, inputs))
    if site not in codes:
        raise InputError(f"expected a latent site among {', '.join(codes)}, got '{site}'; choose one of those.")
    size, count = codes[site].mean[0].size, len(dims) * len(values)
    if not all(0 <= d < size for d in dims):
        raise InputError(f"expected dimensions from 0 to {size - 1} of '{site}', got {list(dims)}; choose among those.")
    moved = {name: np.repeat(latent.mean, count, 0) for name, latent in codes.items()}
    flat = moved[site].reshape(len(dims), len(values), size)
    for i, d in enumerate(dims):
        flat[i, :, d] = values
    repeated = {name: np.repeat(value, count, 0) for name, value in (inputs or {}).items()}
    return decode(fit, moved, inputs=repeated).reshape(len(dims), len(values), -1)


def manifold(fit: Fit, side: int = 15) -> np.ndarray:
    """E[x | z] over the plane of a 2-D latent, (side, side, D), at quantiles of the prior (Kingma and Welling 2014, figure 4).

    Raises:
        InputError: The model has not exactly one continuous latent of size 2.
    """
    from scipy.stats import norm

    codes = _latents(fit, _args(fit, fit.data.heldout[:2], None), 0, 1)
    name, latent = next(iter(codes.items()), (None, None))
    if len(codes) != 1 or name is None or latent is None or latent.value.shape[1:] != (2,) or latent.discrete:
        raise InputError(f"expected one continuous latent of size 2, got {_title(fit)} with others; fit it with latent_dim=2.")
    prior = [np.nan_to_num(part[0], nan=default) for part, default in ((latent.prior_mean, 0), (latent.prior_scale, 1))]
    axis = norm.ppf(np.linspace(0.02, 0.98, side))
    plane = prior[0] + prior[1] * np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    return decode(fit, {name: plane}).reshape(side, side, -1)


def by_class(fit: Fit, n: int, *, seed: int = 0) -> np.ndarray:
    """E[x | z, y] of `n` styles drawn from the prior, each under every class y: (n, classes, D).

    Raises:
        InputError: The model has neither a condition `y` nor a one-hot latent `y`.
    """
    return np.stack([generate(fit, n, condition={"y": np.repeat(c, n, 0)}, seed=seed).mean for c in _classes(fit)], 1)


def analogies(fit: Fit, rows: Sequence[int], *, seed: int = 0) -> np.ndarray:
    """The style of held-out rows under every class, (rows, classes, D): z from a row and its class, x from z and each class.

    The class of a row is its label, or where it has none what `classify` says. Styles are the latents whose prior is the
    same for all rows. Source: Kingma et al. 2014, figure 1.

    Raises:
        InputError: The model has neither a condition `y` nor a one-hot latent `y`.
    """
    x, labels, classes = fit.data.heldout[list(rows)], fit.data.heldout_y, _classes(fit)
    own = classify(fit, x).argmax(1) if labels is None else labels[list(rows)]
    if "y" in inputs_of(fit.model):
        found = _latents(fit, _args(fit, x, {"y": own}), seed)
    else:
        found = _latents(fit, _args(fit, x, None), seed, given={"y": np.concatenate(classes)[own]})
    z = {name: latent.mean for name, latent in found.items() if np.ptp(latent.prior_mean, 0).max() == 0}
    if not z:
        raise InputError(f"expected latents that mean the same under every class, got {_title(fit)} whose priors depend on the "
                         "class; set learned_prior=false.")  # fmt: skip
    grid = [_predict(fit, *_split(fit, len(x), {"y": np.repeat(c, len(x), 0)}, z), seed) for c in classes]
    return np.stack([_mean(fit, drawn) for drawn in grid], 1)


def _classes(fit: Fit) -> list[np.ndarray]:
    """The classes y as the model takes them, each (1, ...): labels as conditions, or one-hot vectors as latents."""
    if "y" in inputs_of(fit.model):
        return list(np.unique(fit.data.inputs(("y",))[0])[:, None])
    y = _latents(fit, _args(fit, fit.data.heldout[:2], None), 0, 1).get("y") if "labels" in inputs_of(fit.model) else None
    if y is None or y.value.ndim != 2:
        raise InputError(f"expected a model with classes y, got {_title(fit)}; use a conditional or semi-supervised model.")
    return list(np.eye(y.value.shape[1])[:, None])


def _split(fit: Fit, n: int, given: Arrays, latents: Arrays) -> tuple[tuple[np.ndarray, ...], Arrays]:
    """Values by name parted into the model's inputs and its latents."""
    names = inputs_of(fit.model)
    args = _args(fit, n, {name: value for name, value in given.items() if name in names})
    return args, {**latents, **{name: value for name, value in given.items() if name not in names}}


def _args(fit: Fit, x: np.ndarray | int, inputs: Arrays | None) -> tuple[np.ndarray, ...]:
    """What the model takes: rows, or so many blank ones, and its other inputs.

    Unless given, labels are unknown, sequences have full length, and blank rows take the conditions of held-out rows.
    """
    given, blank = inputs or {}, isinstance(x, int)
    conditional = hasattr(getattr(fit.model, "given", None), "columns")  # on columns of x, which held-out rows then give
    empty = np.resize(fit.data.heldout, (x, *fit.data.x.shape[1:])) * conditional if isinstance(x, int) else x
    rows = np.asarray(empty, np.float64)
    if rows.shape[1:] != fit.data.x.shape[1:]:
        raise InputError(f"expected rows of shape {fit.data.x.shape[1:]}, got {rows.shape[1:]}; give rows like the data.")
    out: list[np.ndarray] = [rows]
    for name in inputs_of(fit.model)[1:]:
        if name in given:
            value = np.asarray(given[name])
        elif name == "labels":
            value = np.full(len(rows), -1)
        elif name == "lengths":
            value = np.full(len(rows), fit.data.x.shape[1])
        elif blank:
            held = fit.data.inputs((name,), heldout=True)[0]
            value = np.resize(held, (len(rows), *held.shape[1:]))
        else:
            raise InputError(f"expected the input '{name}' beside x, got none; pass inputs={{'{name}': ...}}.")
        if len(value) != len(rows):
            raise InputError(f"expected {len(rows)} entries of '{name}', one a row, got {len(value)}; give as many.")
        out.append(value)
    return tuple(out)


@contextmanager
def _session(fit: Fit) -> Iterator[tuple[Any, Bound]]:
    """The engine's part of `inference.evaluate` and the model, in a session like the fit's."""
    shared, engine = (import_module(f"{package}._{fit.engine}") for package in ("inference", "inference.evaluate"))
    device = str(fit.manifest.get("device") or "").partition(" ")[0] or None
    with shared.session(fit.manifest.get("dtype", "float32"), device):
        yield engine, as_bound(fit.model, fit.engine)


def _latents(
    fit: Fit, args: tuple[np.ndarray, ...], seed: int = 0, draws: int = DRAWS, given: Arrays | None = None
) -> dict[str, Latent]:
    with _session(fit) as (engine, bound):
        return engine.latents(*bound, fit.params, args, seed, draws, given)


def _predict(fit: Fit, args: tuple[np.ndarray, ...], latents: Arrays, seed: int) -> Prediction:
    with _session(fit) as (engine, bound):
        return engine.predict(bound.model, fit.params, args, latents, seed)


def _draw(fit: Fit, args: tuple[np.ndarray, ...], seed: int) -> Arrays:
    return {name: latent.value for name, latent in _latents(fit, args, seed, 1).items()}


def _centre(fit: Fit, args: tuple[np.ndarray, ...], seed: int) -> Arrays:
    """Posterior means, those of continuous latents given draws of the discrete ones."""
    found = _latents(fit, args, seed)
    drawn = {name: latent.value for name, latent in found.items() if latent.discrete}
    if drawn and len(drawn) < len(found):
        found = _latents(fit, args, seed, given=drawn)
    return drawn | {n: v.mean if np.isfinite(v.mean).all() else v.value for n, v in found.items() if n not in drawn}


def _continuous(fit: Fit, args: tuple[np.ndarray, ...]) -> dict[str, Latent]:
    codes = _latents(fit, args)
    for name, latent in codes.items():
        if latent.discrete or not np.isfinite(latent.mean).all():
            raise InputError(f"expected continuous latents with a mean, got '{name}' of {_title(fit)}; use another model to "
                             "walk between codes.")  # fmt: skip
    return codes


def _mean(fit: Fit, found: Prediction) -> np.ndarray:
    if found.mean is None or not np.isfinite(found.mean).all():
        raise InputError(f"expected a model whose x has a finite mean, got {_title(fit)}; look at its draws instead.")
    return np.asarray(found.mean, np.float64)


def _title(fit: Fit) -> str:
    return "a pair of functions" if isinstance(fit.model, tuple) else type(fit.model).__name__
