"""How a declaration can be fitted: the methods by name, and what each needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppl_models import InputError

#: By name: what a declaration must offer, and what the method is.
METHODS: dict[str, tuple[tuple[str, ...], str]] = {
    "svi": (("model", "guide"), "stochastic variational inference"),
    "em": (("expected", "maximise"), "expectation maximisation"),
    "cavi": (("expected", "maximise", "model"), "mean-field coordinate ascent"),
    "mcmc": (("model",), "the libraries' No-U-Turn sampler"),
    "greedy": (("energy", "top"), "one restricted Boltzmann machine after the other"),
    "pcd": (("energy",), "persistent contrastive divergence"),
    "cd": (("energy",), "contrastive divergence"),
    "exact": (("energy",), "the likelihood's own gradient, all states enumerated"),
    "pseudo-likelihood": (("energy", "prepared"), "each unit given the others"),
    "score-matching": (("energy", "visible"), "denoising score matching, of energies over reals"),
}


#: How energies are fitted.
ENERGY = ("greedy", "pcd", "cd", "exact", "pseudo-likelihood", "score-matching")

#: What a catalogue name stands for beyond its declaration: how it is trained.
PRESETS: dict[str, dict[str, Any]] = {"iwae": {"bound": "iwae"}}


def methods(declaration: Any) -> list[str]:
    """The methods that fit a declaration (or its class), the natural one first."""
    offered = [name for name, (needs, _) in METHODS.items() if all(hasattr(declaration, need) for need in needs)]
    # Draws are of what has a prior; coordinate ascent climbs the ELBO of a guide over it, EM log p(x) of what has none.
    apart = {"em"} if getattr(declaration, "bayesian", False) else {"mcmc", "cavi"}
    if hasattr(declaration, "top"):
        apart |= {"pcd", "cd", "exact"}  # a directed net's hidden units, given x, are neither summed nor drawn
    return [name for name in offered if name not in apart]


def bound_of(name: str, bound: str | None) -> str:
    """The bound asked for, else the one that the catalogue name stands for."""
    return bound if bound is not None else PRESETS.get(name, {}).get("bound", "elbo")


#: What only stochastic variational inference takes: by name, the flag and its value where it is left out.
SVI_ONLY: dict[str, tuple[str, Any]] = {
    "estimator": ("--estimator", None), "batch": ("--batch", None), "lr": ("--lr", 1e-3), "patience": ("--patience", None),
    "bound": ("--bound", "elbo"), "num_particles": ("--particles", None), "beta": ("--beta", 1.0), "anneal": ("--anneal", 0),
    "alternate": ("--alternate", False), "rhat": ("--converged", None), "seconds": ("--max-seconds", None),
    "steps": ("--max-steps", None),
}  # fmt: skip


#: What only energies take.
ENERGY_ONLY = {"chains": "--chains", "sweeps": "--sweeps", "noise": "--noise", "greedy": "--greedy"}


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Raise `InputError` naming the first option that the method has no use for."""
    for name, (flag, default) in SVI_ONLY.items():
        if method in ENERGY and name in ("batch", "lr"):
            continue
        if method != "svi" and options.get(name, default) != default:
            raise InputError(f"{flag} is for --method svi and this fit is by {method}; leave one of them out.")
    for name, flag in ENERGY_ONLY.items():
        if method not in ENERGY and options.get(name) is not None:
            raise InputError(f"{flag} is for energies and this fit is by {method}; leave it out.")
    if method not in ENERGY and method != "svi" and options.get("checkpoint_every") is not None:
        raise InputError(f"--checkpoint-every is for svi and energies, and {method} runs as one program; leave it out.")
    if method in ENERGY and method != "score-matching" and options.get("noise") is not None:
        raise InputError(f"--noise is for --method score-matching and this fit is by {method}; leave one of them out.")
    if method in ENERGY and options.get("restarts", 1) != 1:
        raise InputError(f"--restarts is not for {method}, which keeps chains instead; leave it out.")


def samples_of(declaration: Any, name: str, asked: int | None, kept: bool) -> int:
    """Importance samples of log p(x): those asked for; else 100 for a run that is kept, where rows have their own latents.

    Raises:
        InputError: A number below 0, or any where p(x) of one row is not defined.
    """
    local = hasattr(declaration, "guide") and not getattr(declaration, "bayesian", False)
    if asked is None:
        return 100 if kept and local else 0
    if asked < 0:
        raise InputError(f"expected --evaluate to be a whole number of at least 0, got {asked}; change that setting.")
    if asked and not local:
        raise InputError(f"--evaluate is for models in which p(x) of a row is defined, which {name} is not; leave it out.")
    return asked


def check_method(declaration: Any, name: str, method: str | None, compared: bool = False) -> str:
    """`method` if it fits the declaration; where none is given, the first that does.

    Raises:
        InputError: It is unknown or does not, or the fits are to be `compared` and it gives them no bound to compare by.
    """
    if compared and (method in ("cavi", "mcmc") or not hasattr(declaration, "model")):
        what = method if method in ("cavi", "mcmc") else name
        raise InputError(f"several values are compared by a held-out bound, and {what} has none; give one value at a time.")
    if method is None:
        return methods(declaration)[0]
    if method not in METHODS:
        raise InputError(f"expected --method {', '.join(METHODS)}, got '{method}'; choose one of those.")
    if method not in (offered := methods(declaration)):
        raise InputError(f"{name} cannot be fitted by {method} ({METHODS[method][1]}); its methods are {', '.join(offered)}.")
    return method
