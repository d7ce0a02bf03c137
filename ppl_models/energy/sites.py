"""What every declaration of an energy over binary sites shares: how it stands as a probabilistic program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..language import Array, Language


def binary_site(ppl: Language, name: str, size: int) -> Array:
    """Bits (size,) as 0.0 and 1.0 that add nothing to the log density; in a plate, so that stock discrete kernels take them."""
    with ppl.plate(f"{name}_units", size):
        return ppl.sample(name, ppl.dist.Bernoulli(0.5).mask(False))


def flat(ppl: Language, sites: Mapping[str, int], values: Mapping[str, Array]) -> Array:
    """The sites side by side, (..., units)."""
    return values[next(iter(sites))] if len(sites) == 1 else ppl.xp.concat([values[name] for name in sites], axis=-1)


def by_site(sites: Mapping[str, int], units: Array) -> dict[str, Array]:
    """The inverse of `flat`."""
    out, start = {}, 0
    for name, size in sites.items():
        out[name], start = units[..., start : start + size], start + size
    return out


def free_energy(ppl: Language, model: Any, params: Mapping[str, Array], values: Mapping[str, Array]) -> Array:
    """F = −log Σ exp(−E) over the sites not given, nats; these must be independent given the others."""
    energy, logits = summands(ppl, model, params, values)
    return energy - sum(ppl.softplus(part).sum(-1) for part in logits.values())


def summands(
    ppl: Language, model: Any, params: Mapping[str, Array], values: Mapping[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """Of F = E₀ − Σ softplus(l): E at zero bits of the sites not given, and their log odds l by site.

    So F is because E is of degree one in each of their bits. E₀ and l are linear in the parameters where E is.
    """
    absent = [name for name in model.sites if name not in values]
    return model.energy(ppl, params, values), {name: model.logits(ppl, params, values, name) for name in absent}


def is_gaussian(model: Any) -> bool:
    """Whether the visible units are real-valued and Gaussian by themselves, not bits."""
    return getattr(model, "visible", "bernoulli") == "normal"


def column_logits(x: np.ndarray) -> np.ndarray:
    """The log odds of each column's mean, as if one 0 and one 1 more had been seen."""
    x = np.asarray(x, float)
    mean = (x.sum(0) + 1) / (len(x) + 2)
    return np.log(mean) - np.log1p(-mean)
