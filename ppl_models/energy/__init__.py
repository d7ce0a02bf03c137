"""Energy-based models: p(x) = exp(−E(x)) / Z, with exact conditionals where they have some."""

from .boltzmann import BoltzmannMachine
from .layered import DeepBoltzmannMachine
from .neural import NeuralEnergy
from .rbm import RBM
from .sites import column_logits, free_energy, is_gaussian, summands

__all__ = ["RBM", "BoltzmannMachine", "DeepBoltzmannMachine", "NeuralEnergy", "column_logits", "free_energy",
           "is_gaussian", "summands"]  # fmt: skip
