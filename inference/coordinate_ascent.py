"""Mean-field coordinate ascent: EM whose parameters are those of q, and whose objective is the ELBO.

A declaration offers it by EM's methods: `expected` sets the local factors of q to their best given the global ones, and
gives the expected statistics and the ELBO there; `maximise` gives the global factors' parameters. Neither step can lower
the ELBO. Source: Bishop 2006, section 10.1.1; Hoffman, Blei, Wang and Paisley 2013, section 2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .em import em
from .svi import Fit


def coordinate_ascent(
    model: Any, data: Any, *, engine: str = "numpyro", iterations: int = 1000, tolerance: float = 1e-7, seed: int = 0,
    restarts: int = 1, dtype: str = "float32", device: str | None = None, init: Any = None,
) -> Fit:  # fmt: skip
    """Climb the ELBO of all training rows; settings as those of `em`.

    Returns:
        A `Fit` whose `params` are the guide's, whose `history` rows hold train_elbo (nats per datum) after each iteration,
        and whose `restarts` are final values of the same.

    Raises:
        InputError: A setting or the data cannot be used, or the declaration does not offer coordinate ascent.
        NumericalError: The ELBO left the finite numbers, or an iteration lowered it.
    """
    found = em(model, data, engine=engine, iterations=iterations, tolerance=tolerance, seed=seed, restarts=restarts,
               dtype=dtype, device=device, init=init)  # fmt: skip
    rows = [{"train_elbo" if name == "train_log_likelihood" else name: v for name, v in row.items()} for row in found.history]
    return replace(found, history=rows, manifest={**found.manifest, "method": "coordinate ascent"})
