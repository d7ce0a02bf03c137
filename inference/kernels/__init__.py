"""Kernels that leave an energy's p(x)^β as it is: pure `init` and `step`, many chains at once, one text for both engines."""

from .block_gibbs import BlockGibbs
from .chromatic_gibbs import ChromaticGibbs, coloured
from .gibbs_with_gradients import GibbsWithGradients
from .metropolis import Metropolis
from .sequential_gibbs import SequentialGibbs
from .state import Info, State
from .tempering import Tempering

__all__ = ["BlockGibbs", "ChromaticGibbs", "GibbsWithGradients", "Info", "Metropolis", "SequentialGibbs", "State",
           "Tempering", "coloured"]  # fmt: skip
