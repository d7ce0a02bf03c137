"""What is modelled: declarations that run on Pyro and on NumPyro. No engine is imported before `bind`'s first call."""

from .errors import InputError, NumericalError
from .factor_analysis import FactorAnalysis
from .gaussian_mixture import GaussianMixture
from .language import Bound, Language, bind
from .networks import MLP
from .sbn import SigmoidBeliefNet
from .vae import VAE

#: The catalogue: every declaration by the name that the command line takes, with the settings that make it that model.
CATALOGUE: dict[str, tuple[type, dict[str, object]]] = {
    "vae": (VAE, {}),
    "sbn": (SigmoidBeliefNet, {}),
    "factor_analysis": (FactorAnalysis, {}),
    "ppca": (FactorAnalysis, {"isotropic": True}),
    "gaussian_mixture": (GaussianMixture, {}),
}

__all__ = ["CATALOGUE", "MLP", "VAE", "Bound", "FactorAnalysis", "GaussianMixture", "InputError", "Language",
           "NumericalError", "SigmoidBeliefNet", "bind"]  # fmt: skip
