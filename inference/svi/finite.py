"""Where training leaves the finite numbers, or a library refuses, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ppl_models import InputError, NumericalError

from ..estimators import STOCK, Spec
from .epoch import Epoch


def require_finite(epoch: Epoch) -> None:
    """Raise `NumericalError` naming the first step that was skipped because it was not finite."""
    bad = np.argwhere(~np.isfinite(epoch.losses))
    if len(bad):
        restart, step = bad[0]
        raise NumericalError(
            f"the loss or its gradient left the finite numbers at step {step + 1} of epoch {epoch.number} (restart {restart}); "
            "lower the learning rate, or use float64."
        )


#: How PyTorch, which checks where JAX returns NaN, names a draw from or a factorisation of what is not finite.
NOT_FINITE = ("`nan`", "p_in >= 0", "std >= 0", "not positive-definite", "singular", "contains non-finite")


def is_not_finite(error: Exception) -> bool:
    """Whether a library refused a number that is not finite, or what follows from one."""
    kinds = isinstance(error, (RuntimeError, ArithmeticError, ValueError)) and not isinstance(error, InputError)
    return kinds and any(word in str(error) for word in NOT_FINITE)


@contextmanager
def explained(estimator: Spec, engine: str) -> Iterator[None]:
    """What a library raises while it trains, as a sentence: parameters gone astray, or an ELBO of its own that refuses.

    Raises:
        NumericalError: A draw or a factorisation met NaN.
        InputError: The library's own ELBO, asked for by name, does not take this model and guide.
    """
    try:
        yield
    except (InputError, NumericalError):
        raise
    except Exception as error:
        if is_not_finite(error):
            reason = str(error).splitlines()[0].split(". ")[0].split(": ")[-1].rstrip(".")
            raise NumericalError(f"a distribution's parameters left the finite numbers ({reason}); lower the learning rate, or "
                                 "use float64.") from error  # fmt: skip
        if isinstance(estimator, str) and estimator in STOCK:
            raise InputError(
                f"estimator '{estimator}' does not apply: {engine}'s {STOCK[estimator]} raises {type(error).__name__} on this "
                "model and guide; leave the estimator out."
            ) from error
        raise
