"""How a model is inferred: training, gradient estimators and their comparison. No engine is imported before it is used."""

from __future__ import annotations

from . import explore
from .check import Checked, check
from .compare import Comparison, compare
from .conformance import check_model, checks
from .coordinate_ascent import coordinate_ascent
from .em import em
from .energy_training import EnergyFit, fit_energy
from .estimators import DoublyReparameterised, Enumerate, LeaveOneOut, PathOnly, Pathwise, Relaxed, RunningMean, Score
from .evaluate import Evaluation, evaluate
from .gradients import probe
from .mcmc import Draws, mcmc
from .svi import Fit, fit

__all__ = ["Checked", "Comparison", "DoublyReparameterised", "Draws", "EnergyFit", "Enumerate", "Evaluation", "Fit",
           "LeaveOneOut", "PathOnly", "Pathwise", "Relaxed", "RunningMean", "Score", "check", "check_model", "checks",
           "compare", "coordinate_ascent", "em", "evaluate", "explore", "fit", "fit_energy", "mcmc", "probe"]  # fmt: skip
