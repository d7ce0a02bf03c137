"""Bias, variance and cost of gradient estimators: pure functions of raw gradients (replicate, parameter).

Bias is tested, not eyeballed. With vⱼ one of 64 fixed random sign vectors, or the exact gradient g of one parameter
block scaled to length 1, zⱼ = vⱼ·(ḡ − g) / s.e. The signs are not scaled down: E[(v·b)²] = ‖b‖², so that a bias of
any direction shows in nearly full size. The family of all zⱼ of a comparison has a false-alarm rate of 1e-6. What the
test could have seen is reported beside it: the minimal detectable bias, (z_crit + 1.28) · max s.e. / ‖g‖.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from .estimate import Estimate, mean
from .gradients.blocks import Blocks

Verdict = Literal["exact", "unbiased", "biased", "inconclusive"]
PROJECTIONS = 64
FAMILY_WISE = 1e-6
DETECTABLE = 0.02  # a smaller share of ‖g‖ need not be detectable for the verdict "unbiased"
POWER = 1.28  # 90 % of detecting the minimal detectable bias


class Reference(NamedTuple):
    """The gradient that estimators are held to, and what is not known of it."""

    kind: Literal["enumerated", "closed-form", "long-run"]
    gradient: np.ndarray  # (parameters,) float64
    variance_trace: float = 0.0  # tr Cov of its mean: 0 unless a long run
    errors: np.ndarray | None = None  # standard error of each projection: None if exact

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.gradient))

    @property
    def relative_error(self) -> float:
        return float(np.sqrt(self.variance_trace)) / self.norm if self.norm else 0.0


def directions(gradient: np.ndarray, blocks: Blocks, seed: int = 0) -> np.ndarray:
    """The columns vⱼ, (parameters, 64 + blocks): random signs, then each block's unit gradient."""
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), (len(gradient), PROJECTIONS))
    own = np.zeros((len(gradient), len(blocks.slices)), np.float32)
    for column, where in enumerate(blocks.slices.values()):
        length = np.linalg.norm(gradient[where])
        own[where, column] = gradient[where] / length if length > 0 else 0.0
    return np.concatenate([signs, own], axis=1)


@dataclass
class Moments:
    """Running sums over chunks of gradients, so that no more than a chunk is held."""

    directions: np.ndarray
    count: int = 0
    lost: int = 0  # gradients that were not finite
    total: np.ndarray | float = 0.0
    projected: list[np.ndarray] = field(default_factory=list)
    traces: list[float] = field(default_factory=list)  # unbiased tr Cov of each chunk

    def add(self, gradients: np.ndarray) -> None:
        """Take in a chunk (replicates ≥ 2, parameters)."""
        self.count += len(gradients)
        self.lost += int((~np.isfinite(gradients).all(1)).sum())
        self.total = self.total + gradients.sum(0, dtype=np.float64)
        self.projected.append(gradients @ self.directions)
        self.traces.append(float(gradients.var(0, dtype=np.float64, ddof=1).sum()))

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self.total) / self.count

    @property
    def errors(self) -> np.ndarray:
        """Standard error of each projected mean."""
        return np.concatenate(self.projected).std(0, ddof=1, dtype=np.float64) / np.sqrt(self.count)

    @property
    def noiseless(self) -> bool:
        """Whether all gradients were equal to rounding."""
        return max(self.traces) <= 1e-10 * max(float(self.mean @ self.mean), 1e-300)


class Judgement(NamedTuple):
    """What the gradients say of an estimator at one point."""

    verdict: Verdict
    bias_max_abs_z: float
    bias_relative: Estimate
    minimal_detectable_bias: float
    variance_trace: Estimate
    snr: float | None


def judge(moments: Moments, reference: Reference, family: int) -> Judgement:
    """Judge an estimator; `family` is how many judgements share the false-alarm rate."""
    from scipy.stats import t

    norm = max(reference.norm, 1e-300)
    tests = moments.directions.shape[1] * family
    critical = float(t.isf(FAMILY_WISE / tests / 2, moments.count - 1))
    errors = np.sqrt(moments.errors**2 + (0.0 if reference.errors is None else reference.errors**2))
    difference = moments.mean - reference.gradient
    projected = np.abs(difference @ moments.directions.astype(np.float64))
    # Rounding of single precision is no bias: it shows where nothing else is left of the error.
    rounding = 2e-5 * norm
    z = np.maximum(projected - rounding, 0.0) / np.maximum(errors, 1e-12 * norm)
    noise = np.sqrt(mean(np.array(moments.traces)).value / moments.count + reference.variance_trace)
    distance = float(np.linalg.norm(difference))
    bias = float(np.sqrt(max(distance**2 - noise**2, 0.0)))
    relative = Estimate(bias / norm, max(distance - 1.96 * noise, 0.0) / norm, (bias + 1.96 * noise) / norm)
    detectable = (critical + POWER) * float(errors.max()) / norm
    trace = mean(np.array(moments.traces))
    if len(moments.traces) == 1:
        trace = Estimate(trace.value, trace.value if moments.noiseless else 0.0, trace.value if moments.noiseless else np.inf)
    trace = trace._replace(low=max(trace.low, 0.0))
    verdict: Verdict = "inconclusive"
    if z.max() > critical:
        verdict = "biased"
    elif moments.noiseless and relative.value < 1e-3:
        verdict = "exact"
    elif detectable <= DETECTABLE:
        verdict = "unbiased"
    snr = None if moments.noiseless else norm / float(np.sqrt(trace.value))
    return Judgement(verdict, float(z.max()), relative, detectable, trace, snr)
