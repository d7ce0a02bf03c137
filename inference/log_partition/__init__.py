"""log Z of an energy: exact where it can be enumerated, else estimated from both sides, with intervals."""

from .annealed import Annealed, annealed, pooled, schedule
from .exact import exact
from .likelihood import unnormalised

__all__ = ["Annealed", "annealed", "exact", "pooled", "schedule", "unnormalised"]
