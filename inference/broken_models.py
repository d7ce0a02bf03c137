"""Models that are wrong in one thing each: what every check of `inference.conformance` is there to find.

`SOUND` passes all; each of `BROKEN` fails the check that it stands under, and those that its `also` names.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ppl_models.language import Language

D, Z = 4, 2
CALLS = itertools.count()


def data(rows: int = 5) -> np.ndarray:
    """Rows of real numbers, (rows, 4)."""
    return np.random.default_rng(0).normal(size=(rows, D))


@dataclass(frozen=True)
class Sound:
    """z ~ N(0, I), x ~ N(W z, I); q(z | x) = N(V x, σ²). Nothing is wrong."""

    data_dim: int = D

    def plate(self, ppl: Language, x: Any, total: int | None) -> Any:
        return ppl.plate("data", total or x.shape[0], subsample=x.shape[0])

    def prior(self, ppl: Language, x: Any) -> Any:
        return ppl.dist.Normal(ppl.xp.zeros(Z), 1.0).to_event(1)

    def loc(self, ppl: Language, z: Any) -> Any:
        return z @ ppl.param("loading", self.weight(ppl, Z, D))

    def decoder(self, ppl: Language, z: Any) -> Any:
        return ppl.dist.Normal(self.loc(ppl, z), 1.0).to_event(1)

    def posterior(self, ppl: Language, x: Any) -> Any:
        scale = ppl.param("scale", lambda *key: ppl.xp.ones(Z), constraint=ppl.constraints.positive)
        return ppl.dist.Normal(x @ ppl.param("encoder", self.weight(ppl, D, Z)), scale).to_event(1)

    def weight(self, ppl: Language, *shape: int) -> Any:
        return lambda *key: ppl.dist.Uniform(ppl.xp.zeros(shape), 1.0).sample(*key)

    def model(self, ppl: Language, x: Any, total: int | None = None) -> None:
        with self.plate(ppl, x, total):
            z = ppl.sample("z", self.prior(ppl, x))
            ppl.sample("x", self.decoder(ppl, z), obs=x)
            self.beside(ppl, x, total)

    def guide(self, ppl: Language, x: Any, total: int | None = None) -> None:
        with self.plate(ppl, x, total):
            ppl.sample("z", self.posterior(ppl, x))
            self.besides(ppl, x)

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        """Further sites of the model, in its plate."""

    def besides(self, ppl: Language, x: Any) -> None:
        """Further sites of the guide, in its plate."""


class DoesNotRun(Sound):
    """A product of matrices that do not fit."""

    def loc(self, ppl: Language, z: Any) -> Any:
        return z @ ppl.param("loading", self.weight(ppl, Z + 1, D))


class ObservesNothing(Sound):
    """Scores no data at all."""

    def model(self, ppl: Language, x: Any, total: int | None = None) -> None:
        with self.plate(ppl, x, total):
            ppl.sample("z", self.prior(ppl, x))


class LatentWithoutGuide(Sound):
    """A latent w that the guide does not draw."""

    def model(self, ppl: Language, x: Any, total: int | None = None) -> None:
        with self.plate(ppl, x, total):
            z, w = ppl.sample("z", self.prior(ppl, x)), ppl.sample("w", self.prior(ppl, x))
            ppl.sample("x", self.decoder(ppl, z + w), obs=x)


class GuideDrawsMore(Sound):
    """The guide draws a w that the model does not have."""

    def besides(self, ppl: Language, x: Any) -> None:
        ppl.sample("w", self.posterior(ppl, x))


class NoEvent(Sound):
    """A global scale vector without `to_event` and without a plate."""

    def model(self, ppl: Language, x: Any, total: int | None = None) -> None:
        w = ppl.sample("w", ppl.dist.Normal(ppl.xp.zeros(D), 1.0))
        with self.plate(ppl, x, total):
            z = ppl.sample("z", self.prior(ppl, x))
            ppl.sample("x", ppl.dist.Normal(self.loc(ppl, z) + w, 1.0).to_event(1), obs=x)

    def guide(self, ppl: Language, x: Any, total: int | None = None) -> None:
        ppl.sample("w", ppl.dist.Normal(ppl.xp.zeros(D), 1.0))
        super().guide(ppl, x, total)


class SitesByRow(Sound):
    """A site of its own where the batch has five rows or more."""

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        if x.shape[0] >= 5:
            ppl.factor("large", 0.0 * x.sum(-1))


class PlateByRow(Sound):
    """The name of the plate tells how many rows it has."""

    def plate(self, ppl: Language, x: Any, total: int | None) -> Any:
        return ppl.plate(f"data{x.shape[0]}", total or x.shape[0], subsample=x.shape[0])


class ParameterByRow(Sound):
    """A parameter for each row of the batch."""

    def posterior(self, ppl: Language, x: Any) -> Any:
        return ppl.dist.Normal(ppl.param("locs", self.weight(ppl, x.shape[0], Z)), 1.0).to_event(1)


class NoTotal(Sound):
    """`model` does not take `total`."""

    def model(self, ppl: Language, x: Any) -> None:  # type: ignore[override]
        super().model(ppl, x)


class LostLatent(Sound):
    """A latent w on which nothing depends."""

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        ppl.sample("w", self.prior(ppl, x))

    def besides(self, ppl: Language, x: Any) -> None:
        ppl.sample("w", self.prior(ppl, x))


class SiteByEngine(Sound):
    """One engine has a factor, of no weight, that the other lacks."""

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        if "numpyro" in str(ppl):
            ppl.factor("extra", 0.0 * x.sum(-1))


class ParameterByEngine(Sound):
    """A parameter has another name on one engine."""

    def posterior(self, ppl: Language, x: Any) -> Any:
        name = "numpyro" if "numpyro" in str(ppl) else "pyro"
        return ppl.dist.Normal(x @ ppl.param(f"{name}.encoder", lambda *key: ppl.xp.ones((D, Z))), 1.0).to_event(1)


class NotFinite(Sound):
    """The logarithm of a negative number."""

    def prior(self, ppl: Language, x: Any) -> Any:
        return ppl.dist.Normal(ppl.xp.log(ppl.xp.zeros(Z) - 1.0), 1.0).to_event(1)


class SinglePrecision(Sound):
    """Computes in float32 whatever the session says."""

    def model(self, ppl: Language, x: Any, total: int | None = None) -> None:
        single = ppl.xp.float32
        with self.plate(ppl, x, total):
            z = ppl.sample("z", self.prior(ppl, x))
            loc = ppl.xp.astype(self.loc(ppl, z), single)
            like = ppl.dist.Normal(loc, ppl.xp.ones(D, dtype=single)).to_event(1)
            ppl.sample("x", like, obs=ppl.xp.astype(x, single))


class ScaledTwice(Sound):
    """Multiplies by total / rows itself, inside the plate that does so too."""

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        ppl.factor("again", ((total or x.shape[0]) / x.shape[0] - 1.0) * x.sum(-1))


class BatchNormalised(Sound):
    """The guide reads each row less the mean of the batch."""

    def posterior(self, ppl: Language, x: Any) -> Any:
        return super().posterior(ppl, x - x.sum(0) / x.shape[0])


class CountsFromTheLeft(Sound):
    """Takes the first axis of z for its rows."""

    def loc(self, ppl: Language, z: Any) -> Any:
        return super().loc(ppl, z) + 0.1 * z.sum(0).sum(-1)[..., None]


class DensityByEngine(Sound):
    """The likelihood is a little wider on one engine."""

    def decoder(self, ppl: Language, z: Any) -> Any:
        return ppl.dist.Normal(self.loc(ppl, z), 1.0 if "numpyro" in str(ppl) else 1.001).to_event(1)


class EvidenceTooLow(Sound):
    """`log_evidence` is below the ELBO: it leaves log 2π out and the scale too small."""

    def log_evidence(self, ppl: Language, x: Any) -> Any:
        return -100.0 - (x**2).sum(-1)


class ClassesWithoutSum(Sound):
    """`classify` gives logits, not log probabilities."""

    def classify(self, ppl: Language, x: Any) -> Any:
        return x @ ppl.param("encoder", self.weight(ppl, D, Z))


class TakesMissing(Sound):
    """Says that it takes missing entries and scores them as NaN."""

    missing: ClassVar[bool] = True


class UnseededStart(Sound):
    """A first value drawn by NumPy, which no seed of the session reaches."""

    def weight(self, ppl: Language, *shape: int) -> Any:
        drawn = np.random.default_rng().uniform(size=shape)
        return lambda *key: ppl.xp.asarray(drawn) + 0.0 * ppl.xp.zeros(shape)


class NoWidth(Sound):
    """The guide draws a point: its distribution has a width that rounds to nothing."""

    def posterior(self, ppl: Language, x: Any) -> Any:
        return ppl.dist.Normal(ppl.xp.ones(Z), 1e-17).to_event(1)


class CountsCalls(Sound):
    """The density is another with every call."""

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        ppl.factor("calls", 1e-13 * (next(CALLS) % 97) + 0.0 * x.sum(-1))


class WritesData(Sound):
    """Centres the rows in place; arrays of JAX cannot be written to, those of PyTorch can."""

    def guide(self, ppl: Language, x: Any, total: int | None = None) -> None:
        super().guide(ppl, x, total)
        x -= 1.0


class StartsOutside(Sound):
    """A rate that must be positive starts at −1; no density reads it yet."""

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        ppl.param("rate", lambda *key: -ppl.xp.ones(Z), constraint=ppl.constraints.positive)


class ReservedName(Sound):
    """A parameter has the one name that a safetensors file keeps for itself."""

    def loc(self, ppl: Language, z: Any) -> Any:
        return z @ ppl.param("__metadata__", self.weight(ppl, Z, D))


class InitialIncomplete(Sound):
    """`initial` leaves a parameter out."""

    def initial(self, x: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"loading": rng.normal(size=(Z, D)), "scale": np.ones(Z)}


class EqualToNone(Sound):
    """Is equal to itself only."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


@dataclass(unsafe_hash=True)
class Changeable:
    """Can be changed after it has been compiled."""

    data_dim: int = D
    beside, besides = Sound.beside, Sound.besides  # type: ignore[assignment]
    plate, prior, loc, decoder = Sound.plate, Sound.prior, Sound.loc, Sound.decoder  # type: ignore[assignment]
    posterior, weight, model, guide = Sound.posterior, Sound.weight, Sound.model, Sound.guide  # type: ignore[assignment]


@dataclass(frozen=True)
class Silent(Sound):
    """Does not print one of its settings."""

    width: float = field(default=1.0, repr=False)


class AnyColumns(Sound):
    """Has no `data_dim`, and takes rows of any width by their sum."""

    def loc(self, ppl: Language, z: Any) -> Any:
        return z.sum(-1)[..., None] * ppl.param("loading", self.weight(ppl, 1))

    def posterior(self, ppl: Language, x: Any) -> Any:
        return ppl.dist.Normal(x.sum(-1)[..., None] * ppl.param("encoder", self.weight(ppl, Z)), 1.0).to_event(1)


class SeedsNumPy(Sound):
    """Sets the seed of NumPy's global generator."""

    def guide(self, ppl: Language, x: Any, total: int | None = None) -> None:
        np.random.seed(0)  # noqa: NPY002
        super().guide(ppl, x, total)


class TooManyValues(Sound):
    """Three latents of 40 values each: together more than can be enumerated, which is the default for each."""

    def beside(self, ppl: Language, x: Any, total: int | None) -> None:
        chosen: Any = sum(self._choices(ppl))
        ppl.factor("chosen", 0.01 * chosen * x.sum(-1))

    def besides(self, ppl: Language, x: Any) -> None:
        self._choices(ppl)

    def _choices(self, ppl: Language) -> list[Any]:
        return [ppl.sample(f"k{i}", ppl.categorical(ppl.xp.zeros(40))) for i in range(3)]


class Broken(NamedTuple):
    """A model, the further checks that it cannot but fail, and on which engine alone it fails, if on one."""

    model: Any
    also: tuple[str, ...] = ()
    engine: str | None = None


SOUND = Sound()

#: By the name of the check that the model fails.
BROKEN: Mapping[str, Broken] = {
    "runs": Broken(DoesNotRun()),
    "observes_its_data": Broken(ObservesNothing(), ("latents_reach_data",)),
    "guide_covers_latents": Broken(LatentWithoutGuide()),
    "guide_draws_latents_only": Broken(GuideDrawsMore()),
    "shapes_fit_plates": Broken(NoEvent(), ("particles_broadcast",)),
    "sites_free_of_batch": Broken(SitesByRow()),
    "plates_free_of_batch": Broken(PlateByRow()),
    "parameters_free_of_batch": Broken(ParameterByRow()),
    "total_is_taken": Broken(NoTotal()),
    "latents_reach_data": Broken(LostLatent()),
    "engines_agree_on_sites": Broken(SiteByEngine()),
    "engines_agree_on_parameters": Broken(ParameterByEngine()),
    "density_is_finite": Broken(NotFinite()),
    "float32_and_float64": Broken(SinglePrecision()),
    "scaled_once": Broken(ScaledTwice()),
    "rows_are_independent": Broken(BatchNormalised()),
    "particles_broadcast": Broken(CountsFromTheLeft()),
    "engines_agree_on_density": Broken(DensityByEngine()),
    "elbo_below_evidence": Broken(EvidenceTooLow()),
    "classes_sum_to_one": Broken(ClassesWithoutSum()),
    "missing_values": Broken(TakesMissing()),
    "same_seed_same_start": Broken(UnseededStart()),
    "other_seed_other_draws": Broken(NoWidth()),
    "pure": Broken(CountsCalls(), ("parameters_survive_a_file",)),
    "data_left_alone": Broken(WritesData(), ("engines_agree_on_density",), engine="pyro"),
    "starts_inside_constraints": Broken(StartsOutside()),
    "parameters_survive_a_file": Broken(ReservedName()),
    "initial_fits": Broken(InitialIncomplete()),
    "equal_by_value": Broken(EqualToNone()),
    "frozen": Broken(Changeable()),
    "repr_tells_settings": Broken(Silent()),
    "columns_are_counted": Broken(AnyColumns(None)),  # type: ignore[arg-type]
    "leaves_no_global_state": Broken(SeedsNumPy()),
    "default_estimator_applies": Broken(TooManyValues()),
}
