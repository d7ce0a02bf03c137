"""How a declaration can be fitted: the methods by name, and what each needs of it."""

from __future__ import annotations

from typing import Any

from ppl_models import InputError

#: By name: what a declaration must offer, and what the method is.
METHODS: dict[str, tuple[tuple[str, ...], str]] = {
    "svi": (("model", "guide"), "stochastic variational inference"),
    "em": (("expected", "maximise"), "expectation maximisation"),
    "cavi": (("expected", "maximise", "model"), "mean-field coordinate ascent"),
    "mcmc": (("model",), "the libraries' No-U-Turn sampler"),
}


#: What a catalogue name stands for beyond its declaration: how it is trained.
PRESETS: dict[str, dict[str, Any]] = {"iwae": {"bound": "iwae"}}


def methods(declaration: Any) -> list[str]:
    """The methods that fit a declaration (or its class), the natural one first."""
    offered = [name for name, (needs, _) in METHODS.items() if all(hasattr(declaration, need) for need in needs)]
    # Draws are of what has a prior; coordinate ascent climbs the ELBO of a guide over it, EM log p(x) of what has none.
    apart = {"em"} if getattr(declaration, "bayesian", False) else {"mcmc", "cavi"}
    return [name for name in offered if name not in apart]


def bound_of(name: str, bound: str | None) -> str:
    """The bound asked for, else the one that the catalogue name stands for."""
    return bound if bound is not None else PRESETS.get(name, {}).get("bound", "elbo")


def check_method(declaration: Any, name: str, method: str | None) -> str:
    """`method` if it fits the declaration; where none is given, the first that does.

    Raises:
        InputError: It is unknown or does not.
    """
    if method is None:
        return methods(declaration)[0]
    if method not in METHODS:
        raise InputError(f"expected --method {', '.join(METHODS)}, got '{method}'; choose one of those.")
    if method not in (offered := methods(declaration)):
        raise InputError(f"{name} cannot be fitted by {method} ({METHODS[method][1]}); its methods are {', '.join(offered)}.")
    return method
