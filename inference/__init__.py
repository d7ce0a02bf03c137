"""How a model is inferred: training, gradient estimators and their comparison. No engine is imported before it is used."""

from __future__ import annotations

from . import explore
from .check import Checked, check
from .compare import Comparison, compare
from .conformance import check_model, checks
from .coordinate_ascent import coordinate_ascent
from .em import em
from .energy_training import EnergyFit, fit_energy
from .estimators import (
    Arm,
    Disarm,
    DoublyReparameterised,
    Enumerate,
    LeaveOneOut,
    LocalEnumeration,
    MeasureValued,
    Nvil,
    Ovis,
    PathOnly,
    Pathwise,
    Rebar,
    ReinMax,
    Relax,
    Relaxed,
    RunningMean,
    Score,
    StraightThrough,
    Vimco,
    WakeSleep,
)
from .evaluate import Evaluation, evaluate
from .gradients import probe
from .mcmc import Draws, mcmc
from .svi import Fit, fit

__all__ = [
    "Arm", "Checked", "Comparison", "Disarm", "DoublyReparameterised", "Draws", "EnergyFit", "Enumerate", "Evaluation", "Fit",
    "LeaveOneOut", "LocalEnumeration", "MeasureValued", "Nvil", "Ovis", "PathOnly", "Pathwise", "Rebar", "ReinMax", "Relax",
    "Relaxed", "RunningMean", "Score", "StraightThrough", "Vimco", "WakeSleep", "check", "check_model", "checks", "compare",
    "coordinate_ascent", "em", "evaluate", "explore", "fit", "fit_energy", "mcmc", "probe",
]  # fmt: skip
