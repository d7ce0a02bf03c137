"""Energy-based models: p(x) = exp(−E(x)) / Z, with exact conditionals where they have some."""

from .boltzmann import BoltzmannMachine
from .layered import DeepBoltzmannMachine
from .neural import NeuralEnergy
from .rbm import RBM
from .sites import free_energy, summands

__all__ = ["RBM", "BoltzmannMachine", "DeepBoltzmannMachine", "NeuralEnergy", "free_energy", "summands"]
