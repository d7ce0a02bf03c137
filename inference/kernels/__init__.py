"""Kernels that leave an energy's p(x)^β as it is: pure `init` and `step`, many chains at once, one text for both engines."""

from .block_gibbs import BlockGibbs
from .chromatic_gibbs import ChromaticGibbs, coloured
from .discrete_langevin import DiscreteLangevin
from .gibbs_with_gradients import GibbsWithGradients
from .langevin import Langevin
from .metropolis import Metropolis
from .sequential_gibbs import SequentialGibbs
from .state import Info, State
from .step_size import Stepped, pilot
from .tempering import Tempering

#: Every kernel, by the name that `ppl list kernels` shows.
KERNELS: dict[str, type] = {
    "block-gibbs": BlockGibbs,
    "chromatic-gibbs": ChromaticGibbs,
    "sequential-gibbs": SequentialGibbs,
    "metropolis": Metropolis,
    "gibbs-with-gradients": GibbsWithGradients,
    "tempering": Tempering,
    "langevin": Langevin,
    "discrete-langevin": DiscreteLangevin,
}

__all__ = ["KERNELS", "BlockGibbs", "ChromaticGibbs", "DiscreteLangevin", "GibbsWithGradients", "Info", "Langevin",
           "Metropolis", "SequentialGibbs", "State", "Stepped", "Tempering", "coloured", "pilot"]  # fmt: skip
