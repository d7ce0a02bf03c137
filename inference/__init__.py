"""How a model is inferred: training, gradient estimators and their comparison. No engine is imported before it is used."""

from __future__ import annotations

from .compare import Comparison, compare
from .estimators import Enumerate, LeaveOneOut, PathOnly, Pathwise, RunningMean, Score
from .gradients import probe
from .svi import Fit, fit

__all__ = [
    "Comparison",
    "Enumerate",
    "Fit",
    "LeaveOneOut",
    "PathOnly",
    "Pathwise",
    "RunningMean",
    "Score",
    "compare",
    "fit",
    "probe",
]
