"""log Z of an energy: exact where it can be enumerated, else estimated from both sides, with intervals."""

from . import directed
from .annealed import Annealed, annealed, pooled, schedule
from .bridge import bridge
from .exact import exact
from .layered import log_likelihood, summed
from .likelihood import unnormalised
from .raised import Raised, raised
from .torus import torus_edges, torus_log_partition

__all__ = ["Annealed", "Raised", "annealed", "bridge", "directed", "exact", "log_likelihood", "pooled", "raised", "schedule",
           "summed", "torus_edges", "torus_log_partition", "unnormalised"]  # fmt: skip
