"""What a fitted model is worth: log p(x) of held-out rows, the bound's gap, and how its latents are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np

from ppl_models import Bound, InputError, NumericalError
from ppl_models.binarisation import DONE

from .. import estimate
from ..callables import as_bound, inputs_of
from ..checks import check_settings
from ..estimate import Estimate
from ..svi import Fit
from .latent import Latent
from .stream import Weighed

THRESHOLD = 0.01  # of Var_x(E_q[z]), above which a unit is active: Burda et al. 2016, section 5.2
DRAWS = 16  # of a latent's parents, where q of one latent depends on another


@dataclass(frozen=True)
class Evaluation:
    """log p(x) of held-out rows, and how the model uses its latents.

    Attributes:
        log_likelihood: Mean over rows, nats per datum. The interval is over rows; as each row has draws of its own, it
            holds the error of importance sampling too.
        kind: "exact", or "importance-sampled": then the value is L_K = E[log 1/K Σₖ p(x, zₖ) / q(zₖ | x)], a lower
            bound on log p(x) in expectation that rises with K (Burda et al. 2016, eq. 8 and theorem 1).
        bound: What `log_likelihood` is called, "log p(x)" or "L_5000".
        num_samples: K.
        standard_error_sampling: Of importance sampling alone, the rows fixed; nats per datum. 0 where exact.
        standard_error_rows: Of the choice of rows alone; nats per datum.
        shortfall: By about how much L_K is below log p(x), half the mean squared error of a row; nats per datum.
        elbo: Mean one-sample ELBO of the same rows and draws, nats per datum.
        gap: log_likelihood − elbo, nats per datum, which is the mean KL(q(z | x) ‖ p(z | x)) up to the shortfall.
        effective_samples: (Σ w)² / Σ w² of K, the median over rows.
        rows: How many held-out rows were judged.
        binarisation: What was done to the data, in words.
        kl: By site, mean over rows of KL(q(z | x) ‖ p(z)) in nats: an entry a dimension where both factorise, else one.
        active_units: By site, how many dimensions have Var_x(E_q[z | x]) above `threshold`.
        variances: By site, that variance of each dimension.
        threshold: Of `active_units`.
    """

    log_likelihood: Estimate
    kind: Literal["exact", "importance-sampled"]
    bound: str
    num_samples: int
    standard_error_sampling: float
    standard_error_rows: float
    shortfall: float
    elbo: Estimate
    gap: Estimate
    effective_samples: float
    rows: int
    binarisation: str
    kl: dict[str, np.ndarray]
    active_units: dict[str, int]
    variances: dict[str, np.ndarray]
    threshold: float = THRESHOLD

    def to_json(self) -> Mapping[str, Any]:
        estimates = {name: getattr(self, name) for name in ("log_likelihood", "elbo", "gap")}
        sites = {name: {site: v.tolist() for site, v in getattr(self, name).items()} for name in ("kl", "variances")}
        return asdict(self) | estimates | sites


class Rows(NamedTuple):
    """log p(x) of each row and its standard error, (N,), nats."""

    log_likelihood: np.ndarray
    standard_error: np.ndarray


def log_likelihood_rows(
    fit: Fit, *, num_samples: int = 5000, rows: int | None = None, seed: int = 0, dtype: str = "float32",
    device: str | None = None, chunk: int | None = None,
) -> Rows:  # fmt: skip
    """log p̂(x) = log 1/K Σₖ p(x, zₖ) / q(zₖ | x) of each held-out row by importance sampling, in nats.

    Args and errors as `evaluate`; a closed form is not looked for.
    """
    with opened(fit, num_samples, rows, seed, dtype, device, chunk) as work:
        found = weigh(work, fit, num_samples, seed, chunk)
    return Rows(found.log_p, found.standard_error)


def evaluate(
    fit: Fit, *, num_samples: int = 5000, rows: int | None = None, seed: int = 0, dtype: str = "float32",
    device: str | None = None, chunk: int | None = None,
) -> Evaluation:  # fmt: skip
    """Judge a fit on its held-out rows: log p(x) in closed form where there is one, else by importance sampling.

    Args:
        fit: A trained model.
        num_samples: K, importance samples a row.
        rows: Judge the first so many held-out rows; None takes all.
        seed: Of the draws.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        chunk: (row, sample) pairs held in memory at a time; None suits the device.

    Raises:
        InputError: A setting cannot be used, or the model has latents outside the plate over the data.
        NumericalError: log p(x) of a row is not finite.
    """
    with opened(fit, num_samples, rows, seed, dtype, device, chunk) as work:
        sampled = weigh(work, fit, num_samples, seed, chunk)
        latents = work.engine.latents(*work.bound, fit.params, work.args, seed, DRAWS)
        exact = work.shared.log_evidence(fit.model, fit.params, work.args)
    log_p = sampled.log_p if exact is None else exact
    return Evaluation(
        log_likelihood=estimate.mean(log_p),
        kind="importance-sampled" if exact is None else "exact",
        bound=f"L_{num_samples}" if exact is None else "log p(x)",
        num_samples=num_samples,
        **errors(log_p, sampled.standard_error if exact is None else np.zeros(len(log_p))),
        elbo=estimate.mean(sampled.elbo),
        gap=estimate.mean(log_p - sampled.elbo),
        effective_samples=float(np.median(sampled.effective)),
        rows=len(log_p),
        binarisation=DONE[fit.data.binarisation],
        **usage(latents),
    )


def errors(log_p: np.ndarray, standard_error: np.ndarray) -> dict[str, float]:
    """The two sources of error of the mean, and the bias of log p̂ to second order."""
    n, sampling = len(log_p), float(np.sqrt((standard_error**2).sum()) / len(log_p))
    both = log_p.var(ddof=1) / n if n > 1 else np.inf
    rows = float(np.sqrt(max(both - sampling**2, 0))) if np.isfinite(sampling) else float("nan")
    shortfall = float((standard_error**2).mean() / 2)
    return {"standard_error_sampling": sampling, "standard_error_rows": rows, "shortfall": shortfall}


def usage(latents: Mapping[str, Latent]) -> dict[str, Any]:
    """KL and active units of each site (discrete numbers without a mean have no units)."""
    kl = {name: latent.kl.mean(0) for name, latent in latents.items()}
    variances = {
        name: np.maximum(latent.mean.var(0) - latent.noise.mean(0), 0)
        for name, latent in latents.items() if np.isfinite(latent.mean).all() and latent.mean.ndim > 1
    }  # fmt: skip
    return {"kl": kl, "variances": variances, "active_units": {n: int((v > THRESHOLD).sum()) for n, v in variances.items()}}


class Work(NamedTuple):
    """What judging a fit needs, once its session is open."""

    shared: Any  # the engine's module of `inference`
    engine: Any  # and that of `inference.evaluate`
    bound: Bound
    args: tuple[np.ndarray, ...]


@contextmanager
def opened(
    fit: Fit, num_samples: int, rows: int | None, seed: int, dtype: str, device: str | None, chunk: int | None
) -> Iterator[Work]:
    """A session of the fit's engine with its held-out rows at hand; the settings are checked first."""
    check_settings(seed=seed, dtype=dtype)
    for name, value in (("num_samples", num_samples), ("rows", rows), ("chunk", chunk)):
        if value is not None and not (isinstance(value, (int, np.integer)) and value >= 1):
            raise InputError(f"expected {name} to be a whole number of at least 1, got {value!r}; change that setting.")
    args = tuple(part[:rows] for part in fit.data.inputs(inputs_of(fit.model), heldout=True))
    shared, engine = (import_module(f"{package}._{fit.engine}") for package in ("inference", "inference.evaluate"))
    with shared.session(dtype, device):
        yield Work(shared, engine, as_bound(fit.model, fit.engine), args)


def weigh(work: Work, fit: Fit, num_samples: int, seed: int, chunk: int | None) -> Weighed:
    """The importance weights of every row, summed up."""
    found = work.engine.weigh(*work.bound, fit.params, work.args, num_samples, seed, chunk)
    if not np.isfinite(found.log_p).all():
        row = int(np.argmin(np.isfinite(found.log_p)))
        raise NumericalError(f"expected a finite log p(x), got {found.log_p[row]} for held-out row {row} (counting from 0); "
                             "use float64, or look at that row.")  # fmt: skip
    return found
