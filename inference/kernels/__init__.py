"""Kernels that leave an energy's p(x)^β as it is: pure `init` and `step`, many chains at once, one text for both engines."""

from .block_gibbs import BlockGibbs
from .chromatic_gibbs import ChromaticGibbs, coloured
from .cooling import Cooling, geometric_schedule, linear_schedule, logarithmic_schedule
from .discrete_langevin import DiscreteLangevin
from .gibbs_with_gradients import GibbsWithGradients
from .ladder import ladder
from .langevin import Langevin
from .metropolis import Metropolis
from .sequential_gibbs import SequentialGibbs
from .state import Info, State
from .step_size import Stepped, pilot, swept
from .tempering import Tempering

#: Every kernel, by the name that `ppl list kernels` shows.
KERNELS: dict[str, type] = {
    "block-gibbs": BlockGibbs,
    "chromatic-gibbs": ChromaticGibbs,
    "sequential-gibbs": SequentialGibbs,
    "metropolis": Metropolis,
    "gibbs-with-gradients": GibbsWithGradients,
    "tempering": Tempering,
    "cooling": Cooling,
    "langevin": Langevin,
    "discrete-langevin": DiscreteLangevin,
}

__all__ = ["KERNELS", "BlockGibbs", "ChromaticGibbs", "Cooling", "DiscreteLangevin", "GibbsWithGradients", "Info", "Langevin",
           "Metropolis", "SequentialGibbs", "State", "Stepped", "Tempering", "coloured", "geometric_schedule", "ladder",
           "linear_schedule", "logarithmic_schedule", "pilot", "swept"]  # fmt: skip
