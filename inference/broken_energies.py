"""Energies that are wrong in one thing each: what every check of `inference.conformance.energies` is there to find.

`SOUND` passes all; each of `BROKEN` fails the check that it stands under, and those that its `also` names.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ppl_models import RBM
from ppl_models.language import Language

from .broken_models import Broken

D, H = 6, 3
CALLS = itertools.count()


def data(rows: int = 5) -> np.ndarray:
    """Rows of bits, (rows, 6)."""
    return np.random.default_rng(0).integers(0, 2, (rows, D)).astype(float)


class DoesNotRun(RBM):
    """A product of matrices that do not fit."""

    def energy(self, ppl: Language, params: Any, values: Any) -> Any:
        return super().energy(ppl, {**params, "weight": params["weight"].mT}, values)


class SiteUntold(RBM):
    """The program draws a site that `sites` does not name."""

    def model(self, ppl: Language) -> None:
        super().model(ppl)
        with ppl.plate("more_units", 2):
            ppl.sample("more", ppl.dist.Bernoulli(0.5).mask(False))


class Drawn(RBM):
    """The program of an RBM, with how it draws a site named apart."""

    def site(self, ppl: Language, name: str, size: int) -> Any:
        raise NotImplementedError

    def model(self, ppl: Language) -> None:
        params = self.parameters(ppl)
        values = {name: self.site(ppl, name, size) for name, size in self.sites.items()}
        ppl.factor("energy", -self.energy(ppl, params, values))


class NoPlate(Drawn):
    """Bits without a plate, which stock discrete kernels do not take."""

    def site(self, ppl: Language, name: str, size: int) -> Any:
        return ppl.sample(name, ppl.dist.Bernoulli(0.5).expand((size,)).mask(False))


class Unmasked(Drawn):
    """Scores the fair coins that only draw its bits."""

    def site(self, ppl: Language, name: str, size: int) -> Any:
        with ppl.plate(f"{name}_units", size):
            return ppl.sample(name, ppl.dist.Bernoulli(0.5))


class SiteByEngine(RBM):
    """One engine has a factor, of no weight, that the other lacks."""

    def model(self, ppl: Language) -> None:
        super().model(ppl)
        if "numpyro" in str(ppl):
            ppl.factor("extra", ppl.xp.zeros(()))


class More(RBM):
    """A further parameter, which the energy does not read."""

    name: ClassVar[str] = "rate"

    def rule(self, ppl: Language) -> Any:
        return ppl.constraints.positive

    def first(self, ppl: Language) -> Any:
        return ppl.xp.ones(H)

    def parameters(self, ppl: Language) -> dict[str, Any]:
        rate = ppl.param(self.name, lambda *key: self.first(ppl), constraint=self.rule(ppl))
        return {**super().parameters(ppl), self.name: rate}

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {**super().initial(x, rng), self.name: np.ones(H)}


class ConstraintByEngine(More):
    """A parameter must be positive on one engine alone."""

    def rule(self, ppl: Language) -> Any:
        return ppl.constraints.positive if "numpyro" in str(ppl) else ppl.constraints.real


class UnseededStart(More):
    """A first value drawn by NumPy, which no seed of the session reaches."""

    def first(self, ppl: Language) -> Any:
        return ppl.xp.asarray(np.random.default_rng().uniform(size=H)) + 0.0 * ppl.xp.ones(H)


class StartsOutside(More):
    """A rate that must be positive starts at −1."""

    def first(self, ppl: Language) -> Any:
        return -ppl.xp.ones(H)


class ReservedName(More):
    """A parameter has the one name that a safetensors file keeps for itself."""

    name = "__metadata__"


class Altered(RBM):
    """The energy of an RBM, changed by `alter`."""

    def alter(self, ppl: Language, energy: Any, params: Any, values: Any) -> Any:
        raise NotImplementedError

    def energy(self, ppl: Language, params: Any, values: Any) -> Any:
        return self.alter(ppl, super().energy(ppl, params, values), params, values)


class FlattensBatch(Altered):
    """Makes one dim of several leading ones."""

    def alter(self, ppl: Language, energy: Any, params: Any, values: Any) -> Any:
        return energy.reshape(-1) if energy.ndim > 1 else energy


class EnergyByEngine(Altered):
    """The energy is a little higher on one engine."""

    def alter(self, ppl: Language, energy: Any, params: Any, values: Any) -> Any:
        return energy + (1e-6 if "numpyro" in str(ppl) else 0.0)


class DoublePrecision(Altered):
    """A constant of NumPy in float64, which PyTorch keeps in a session of float32."""

    def alter(self, ppl: Language, energy: Any, params: Any, values: Any) -> Any:
        return energy + (values["x"] * ppl.xp.asarray(np.zeros(D))).sum(-1) if "x" in values else energy


class CountsCalls(Altered):
    """The energy is another with every call."""

    def alter(self, ppl: Language, energy: Any, params: Any, values: Any) -> Any:
        return energy + 1e-12 * (next(CALLS) % 97)


class WritesParameters(Altered):
    """Decays the weights in place; those of JAX are put in their place in the mapping."""

    def alter(self, ppl: Language, energy: Any, params: Any, values: Any) -> Any:
        params["weight"] *= 0.5
        return energy


class OnesForZeros(RBM):
    """Takes hidden bits that are left out for ones."""

    def energy(self, ppl: Language, params: Any, values: Any) -> Any:
        return super().energy(ppl, params, {"h": 1.0 + 0.0 * params["h.bias"], **values})


class HiddenInteract(Altered):
    """A coupling of two hidden units, which `colours` holds to be independent."""

    def alter(self, ppl: Language, energy: Any, params: Any, values: Any) -> Any:
        return energy - values["h"][..., 0] * values["h"][..., 1] if "h" in values else energy

    def logits(self, ppl: Language, params: Any, values: Any, site: str) -> Any:
        out, h = super().logits(ppl, params, values, site), values["h"]
        return out + ppl.xp.stack([h[..., 1], h[..., 0], 0.0 * h[..., 2]], axis=-1) if site == "h" else out


class LogitsWithoutBias(RBM):
    """The log odds of the hidden units leave their bias out."""

    def logits(self, ppl: Language, params: Any, values: Any, site: str) -> Any:
        out = super().logits(ppl, params, values, site)
        return out - params["h.bias"] if site == "h" else out


class VarianceForScale(RBM):
    """`normal` gives the square of the scale."""

    def normal(self, ppl: Language, params: Any, values: Any) -> tuple[Any, Any]:
        loc, scale = super().normal(ppl, params, values)
        return loc, scale**2


class InitialIncomplete(RBM):
    """`initial` leaves a parameter out."""

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {name: value for name, value in super().initial(x, rng).items() if name != "h.bias"}


class NoWidth(RBM):
    """`initial` gives Gaussian units a width by which no row can be divided, though what is drawn there can."""

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {**super().initial(x, rng), "x.scale": np.full(D, 1e-200)}


class EqualToNone(RBM):
    """Is equal to itself only."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


@dataclass(unsafe_hash=True)
class Changeable:
    """Can be changed after it has been compiled."""

    data_dim: int = D

    def __getattr__(self, name: str) -> Any:
        return getattr(RBM(D, H), name)


@dataclass(frozen=True)
class Silent(RBM):
    """Does not print one of its settings."""

    width: float = field(default=1.0, repr=False)


@dataclass(frozen=True)
class AnyColumns:
    """Has no `data_dim`, and takes the first columns of rows of any width."""

    num_hidden: int = H

    def __getattr__(self, name: str) -> Any:
        if name == "data_dim":
            raise AttributeError(name)
        return getattr(RBM(D, self.num_hidden), name)

    def energy(self, ppl: Language, params: Any, values: Any) -> Any:
        first = {name: value[..., :D] for name, value in values.items()}
        return RBM(D, self.num_hidden).energy(ppl, params, first)

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return RBM(D, self.num_hidden).initial(x[:, :D], rng)


class SeedsNumPy(RBM):
    """Sets the seed of NumPy's global generator."""

    def model(self, ppl: Language) -> None:
        np.random.seed(0)  # noqa: NPY002
        super().model(ppl)


SOUND = RBM(D, H)

#: By the name of the check that the energy fails.
BROKEN: Mapping[str, Broken] = {
    "runs": Broken(DoesNotRun(D, H)),
    "has_its_sites": Broken(SiteUntold(D, H)),
    "shapes_fit_plates": Broken(NoPlate(D, H)),
    "engines_agree_on_sites": Broken(SiteByEngine(D, H)),
    "engines_agree_on_parameters": Broken(ConstraintByEngine(D, H)),
    "density_is_minus_energy": Broken(Unmasked(D, H)),
    "batches_by_row": Broken(FlattensBatch(D, H)),
    "engines_agree_on_energy": Broken(EnergyByEngine(D, H)),
    "energy_is_finite": Broken(NoWidth(D, H, "normal")),
    "float32_and_float64": Broken(DoublePrecision(D, H), engine="pyro"),
    "logits_are_differences": Broken(LogitsWithoutBias(D, H)),
    "colours_are_independent": Broken(HiddenInteract(D, H)),
    "colours_left_out_are_zeros": Broken(OnesForZeros(D, H)),
    "normal_is_conditional": Broken(VarianceForScale(D, H, "normal")),
    "same_seed_same_start": Broken(UnseededStart(D, H)),
    "pure": Broken(CountsCalls(D, H), ("parameters_survive_a_file",)),
    "arguments_left_alone": Broken(WritesParameters(D, H)),
    "starts_inside_constraints": Broken(StartsOutside(D, H)),
    "parameters_survive_a_file": Broken(ReservedName(D, H)),
    "initial_fits": Broken(InitialIncomplete(D, H)),
    "equal_by_value": Broken(EqualToNone(D, H)),
    "frozen": Broken(Changeable()),
    "repr_tells_settings": Broken(Silent(D, H)),
    "columns_are_counted": Broken(AnyColumns()),
    "leaves_no_global_state": Broken(SeedsNumPy(D, H)),
}
