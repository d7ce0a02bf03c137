"""Energy-based models: p(x) = exp(−E(x)) / Z, with exact conditionals where they have some."""

from .boltzmann import BoltzmannMachine
from .deep_belief_net import DeepBeliefNet
from .layered import DeepBoltzmannMachine
from .neural import NeuralEnergy
from .rbm import RBM
from .replicated import ReplicatedRBM
from .sites import column_logits, free_energy, is_gaussian, summands

__all__ = ["RBM", "BoltzmannMachine", "DeepBeliefNet", "DeepBoltzmannMachine", "NeuralEnergy", "ReplicatedRBM",
           "column_logits", "free_energy", "is_gaussian", "summands"]  # fmt: skip
