"""log Z of an energy: exact where it can be enumerated, else estimated from both sides, with intervals."""

from . import directed
from .annealed import Annealed, annealed, pooled, schedule
from .exact import exact
from .layered import log_likelihood, summed
from .likelihood import unnormalised

__all__ = ["Annealed", "annealed", "directed", "exact", "log_likelihood", "pooled", "schedule", "summed", "unnormalised"]
