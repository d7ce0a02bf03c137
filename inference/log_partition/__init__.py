"""log Z of an energy: exact where it can be enumerated, else estimated from both sides, with intervals."""

from .annealed import Annealed, annealed
from .exact import exact

__all__ = ["Annealed", "annealed", "exact"]
