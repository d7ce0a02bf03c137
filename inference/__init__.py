"""How a model is inferred: training, gradient estimators and their comparison. No engine is imported before it is used."""

from __future__ import annotations

from .estimators import Enumerate, LeaveOneOut, PathOnly, Pathwise, RunningMean, Score
from .gradients import probe
from .svi import Fit, fit

__all__ = ["Enumerate", "Fit", "LeaveOneOut", "PathOnly", "Pathwise", "RunningMean", "Score", "fit", "probe"]
