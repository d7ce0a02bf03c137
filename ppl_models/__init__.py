"""What is modelled: declarations that run on Pyro and on NumPyro. No engine is imported before `bind`'s first call."""

from .bayesian_gaussian_mixture import BayesianGaussianMixture
from .conditional_baseline import ConditionalBaseline
from .cvae import CVAE
from .energy import RBM, BoltzmannMachine, DeepBeliefNet, DeepBoltzmannMachine, NeuralEnergy
from .errors import InputError, NumericalError
from .factor_analysis import FactorAnalysis
from .flow_vae import FlowVAE
from .gaussian_mixture import GaussianMixture
from .hierarchical_vae import HierarchicalVAE
from .kmeans import KMeans
from .language import Bound, Language, bind
from .linear_markov import LinearMarkov
from .markov_vae import MarkovVAE
from .mixture_vae import MixtureVAE
from .networks import MLP
from .pca import PCA
from .sbn import SigmoidBeliefNet
from .ssvae_m1 import M1
from .ssvae_m1m2 import M1M2
from .ssvae_m2 import M2
from .vae import VAE

#: The catalogue: every declaration by the name that the command line takes, with the settings that make it that model.
CATALOGUE: dict[str, tuple[type, dict[str, object]]] = {
    "vae": (VAE, {}),
    "iwae": (VAE, {}),
    "hierarchical_vae": (HierarchicalVAE, {}),
    "cvae": (CVAE, {}),
    "conditional_baseline": (ConditionalBaseline, {}),
    "ssvae_m1": (M1, {}),
    "ssvae_m2": (M2, {}),
    "ssvae_m1m2": (M1M2, {}),
    "mixture_vae": (MixtureVAE, {}),
    "markov_vae": (MarkovVAE, {}),
    "flow_vae": (FlowVAE, {}),
    "linear_markov": (LinearMarkov, {}),
    "sbn": (SigmoidBeliefNet, {}),
    "factor_analysis": (FactorAnalysis, {}),
    "ppca": (FactorAnalysis, {"isotropic": True}),
    "pca": (PCA, {}),
    "gaussian_mixture": (GaussianMixture, {}),
    "bayesian_gaussian_mixture": (BayesianGaussianMixture, {}),
    "kmeans": (KMeans, {}),
    "boltzmann_machine": (BoltzmannMachine, {}),
    "hidden_boltzmann_machine": (BoltzmannMachine, {"num_hidden": 16}),
    "rbm": (RBM, {}),
    "deep_belief_net": (DeepBeliefNet, {}),
    "deep_boltzmann_machine": (DeepBoltzmannMachine, {}),
    "neural_energy": (NeuralEnergy, {}),
}

__all__ = ["CATALOGUE", "CVAE", "M1", "M1M2", "M2", "MLP", "PCA", "RBM", "VAE", "BayesianGaussianMixture",
           "BoltzmannMachine", "Bound", "ConditionalBaseline", "DeepBeliefNet", "DeepBoltzmannMachine", "FactorAnalysis",
           "FlowVAE", "GaussianMixture", "HierarchicalVAE", "InputError", "KMeans", "Language", "LinearMarkov", "MarkovVAE",
           "MixtureVAE", "NeuralEnergy", "NumericalError", "SigmoidBeliefNet", "bind"]  # fmt: skip
