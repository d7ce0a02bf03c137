"""What the project says of its speed and accuracy: one row a claim, judged by the numbers measured, never by hand.

A claim points (`path`) into the result of its benchmark, at a number or at `{value, low, high}` (95 %), and gives a
target: `{"op": "<=", "value": 1.1}`; with `"interval": True` the whole interval must lie on the right side.
`valid` points at a boolean of the same result; unless it is true the claim is void. `needs="gpu"` is for what a CPU
cannot settle.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OPERATORS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "==": operator.eq}


@dataclass(frozen=True)
class Claim:
    """One sentence that a benchmark settles."""

    name: str
    benchmark: str
    issue: int | None
    claim: str
    target: Mapping[str, Any]
    path: str
    needs: str | None = None
    valid: str | None = None


#: Every claim of the project. A benchmark `benchmarks/NAME.py` is known once a claim names it.
CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="numpyro-step-time",
        benchmark="step_time",
        issue=2,
        claim="A training step of the VAE on NumPyro takes at most 1.10 times a hand-written JAX scan's.",
        target={"op": "<=", "value": 1.10},
        path="numpyro.ratio",
        valid="numpyro.peer_ok",
    ),
    Claim(
        name="pyro-step-time",
        benchmark="step_time",
        issue=2,
        claim="A training step of the VAE on Pyro takes at most 1.3 times plain PyTorch's.",
        target={"op": "<=", "value": 1.3},
        path="pyro.ratio",
        valid="pyro.peer_ok",
    ),
    Claim(
        name="vae-mnist-numpyro",
        benchmark="vae_mnist",
        issue=2,
        claim="`ppl fit vae --data mnist --epochs 30` reaches a held-out ELBO better than -100.3 nats on NumPyro.",
        target={"op": ">", "value": -100.3},
        path="numpyro.heldout_elbo",
    ),
    Claim(
        name="vae-mnist-pyro",
        benchmark="vae_mnist",
        issue=2,
        claim="The same with `--engine pyro`.",
        target={"op": ">", "value": -100.3},
        path="pyro.heldout_elbo",
    ),
    Claim(
        name="demo-seconds",
        benchmark="demo",
        issue=2,
        claim="The demo's own run takes at most 120 s on two cores.",
        target={"op": "<=", "value": 120},
        path="seconds",
    ),
    Claim(
        name="stock-trace-biased",
        benchmark="demo",
        issue=2,
        claim="NumPyro's own Trace_ELBO is called biased on the belief net.",
        target={"op": "==", "value": 1.0},
        path="stock_trace_is_biased",
    ),
    Claim(
        name="leave-one-out-gain",
        benchmark="demo",
        issue=2,
        claim="Two-sample leave-one-out has at most a hundredth of the score function's variance on the belief net.",
        target={"op": ">=", "value": 100},
        path="leave_one_out_gain",
    ),
    Claim(
        name="help-seconds",
        benchmark="start",
        issue=2,
        claim="`ppl --help` takes under 1 s.",
        target={"op": "<", "value": 1.0},
        path="help_seconds",
    ),
    Claim(
        name="closed-form-variances",
        benchmark="closed_forms",
        issue=2,
        claim="Measured variances of score function and pathwise agree with their closed forms, on both engines.",
        target={"op": "<", "value": 1.0},
        path="largest_share_of_critical_z",
    ),
    Claim(
        name="exact-expectation",
        benchmark="unbiased",
        issue=2,
        claim="Every unbiased estimator's exact expectation is the exact gradient, full, subsampled, scaled and masked.",
        target={"op": "<=", "value": 1e-9},
        path="largest",
    ),
    Claim(
        name="numpyro-tracegraph-4-of-20",
        benchmark="unbiased",
        issue=2,
        claim="NumPyro's own TraceGraph_ELBO multiplies the score by 5 at 4 rows of 20.",
        target={"op": ">=", "value": 4.999},
        path="tracegraph_factor.4 of 20",
    ),
    Claim(
        name="numpyro-tracegraph-2-of-20",
        benchmark="unbiased",
        issue=2,
        claim="And by 10 at 2 rows of 20.",
        target={"op": ">=", "value": 9.999},
        path="tracegraph_factor.2 of 20",
    ),
    Claim(
        name="em-factor-analysis-numpyro",
        benchmark="em_speed",
        issue=3,
        claim="EM of factor analysis (N=100000, D=64, K=10): an iteration is 20 times as fast on NumPyro as scikit-learn's.",
        target={"op": ">=", "value": 20, "interval": True},
        path="factor_analysis.numpyro.iteration_ratio",
    ),
    Claim(
        name="em-factor-analysis-pyro",
        benchmark="em_speed",
        issue=3,
        claim="EM of factor analysis (N=100000, D=64, K=10): an iteration is 20 times as fast on Pyro as scikit-learn's.",
        target={"op": ">=", "value": 20, "interval": True},
        path="factor_analysis.pyro.iteration_ratio",
    ),
    Claim(
        name="em-mixture-numpyro",
        benchmark="em_speed",
        issue=3,
        claim="EM of a diagonal mixture (N=100000, D=64, K=10): iterations are 1.8 times as fast on NumPyro as scikit-learn's.",
        target={"op": ">=", "value": 1.8, "interval": True},
        path="mixture.numpyro.iteration_ratio",
    ),
    Claim(
        name="em-mixture-pyro",
        benchmark="em_speed",
        issue=3,
        claim="EM of a diagonal mixture (N=100000, D=64, K=10): iterations are 1.8 times as fast on Pyro as scikit-learn's.",
        target={"op": ">=", "value": 1.8, "interval": True},
        path="mixture.pyro.iteration_ratio",
    ),
    Claim(
        name="em-mixture-small-numpyro",
        benchmark="em_speed",
        issue=3,
        claim="EM of a diagonal mixture (N=10000, D=10, K=10): an iteration is 5 times as fast on NumPyro as scikit-learn's.",
        target={"op": ">=", "value": 5, "interval": True},
        path="mixture_small.numpyro.iteration_ratio",
    ),
    Claim(
        name="em-mixture-small-pyro",
        benchmark="em_speed",
        issue=3,
        claim="EM of a diagonal mixture (N=10000, D=10, K=10): an iteration is 5 times as fast on Pyro as scikit-learn's.",
        target={"op": ">=", "value": 5, "interval": True},
        path="mixture_small.pyro.iteration_ratio",
    ),
    Claim(
        name="vae-log-likelihood",
        benchmark="vae_likelihood",
        issue=3,
        claim="The default VAE on MNIST has log p(x) of at least -97 nats by 5,000 importance samples a held-out row.",
        target={"op": ">=", "value": -97, "interval": True},
        path="log_likelihood",
        valid="complete",
    ),
    Claim(
        name="vae-bounds-apart",
        benchmark="vae_likelihood",
        issue=3,
        claim="The 95 % intervals of L_5000 and of the ELBO lie apart, L_5000 above.",
        target={"op": ">", "value": 0},
        path="separation",
        valid="complete",
    ),
    Claim(
        name="iwae-beats-vae",
        benchmark="iwae_mnist",
        issue=3,
        claim="On MNIST the K-sample bound (K = 5) gives a better log p(x) than the ELBO at equal steps.",
        target={"op": ">", "value": 0, "interval": True},
        path="gain.iwae",
        valid="complete",
    ),
    Claim(
        name="iwae-doubly-beats-vae",
        benchmark="iwae_mnist",
        issue=3,
        claim="And so does its doubly reparameterised gradient.",
        target={"op": ">", "value": 0, "interval": True},
        path="gain.iwae_doubly",
        valid="complete",
    ),
    Claim(
        name="m2-100-labels",
        benchmark="m2_mnist",
        issue=3,
        claim="M2 tells held-out MNIST digits apart with 100 labels: mean accuracy of at least 0.90 over three draws of them.",
        target={"op": ">=", "value": 0.90},
        path="mean_accuracy",
        valid="complete",
    ),
    Claim(
        name="cvae-quadrants-1",
        benchmark="cvae_mnist",
        issue=3,
        claim="Given one quadrant of an MNIST digit, the CVAE predicts the rest better than the network without a latent.",
        target={"op": ">", "value": 0, "interval": True},
        path="quadrants.1.gain",
        valid="complete",
    ),
    Claim(
        name="cvae-quadrants-2",
        benchmark="cvae_mnist",
        issue=3,
        claim="Given two quadrants of an MNIST digit, the CVAE predicts the rest better than the network without a latent.",
        target={"op": ">", "value": 0, "interval": True},
        path="quadrants.2.gain",
        valid="complete",
    ),
    Claim(
        name="cvae-quadrants-3",
        benchmark="cvae_mnist",
        issue=3,
        claim="Given three quadrants of an MNIST digit, the CVAE predicts the rest better than the network without a latent.",
        target={"op": ">", "value": 0, "interval": True},
        path="quadrants.3.gain",
        valid="complete",
    ),
    Claim(
        name="log-partition-enumerated",
        benchmark="log_partition",
        issue=4,
        claim="The enumerated log Z of the 784x15 RBM at hand equals 215.138406 to 1e-5.",
        target={"op": "<=", "value": 1e-5},
        path="mnist_784x15.gap",
        valid="complete",
    ),
    Claim(
        name="log-partition-annealed",
        benchmark="log_partition",
        issue=4,
        claim="Annealed log Z of RBM(500, CD25) lies within 0.15 nats of 451.25.",
        target={"op": "<=", "value": 0.15},
        path="cd25.gap",
        valid="complete",
    ),
    Claim(
        name="log-partition-annealed-errors",
        benchmark="log_partition",
        issue=4,
        claim="And within 4 of its own standard errors.",
        target={"op": "<=", "value": 4.0},
        path="cd25.gap_in_standard_errors",
        valid="complete",
    ),
    Claim(
        name="log-partition-test-likelihood",
        benchmark="log_partition",
        issue=4,
        claim="The test log-likelihood of RBM(500, CD25) is -86.3 within 0.2 nats.",
        target={"op": "<=", "value": 0.2},
        path="cd25.test_gap",
        valid="complete",
    ),
    Claim(
        name="log-partition-coverage-low",
        benchmark="log_partition",
        issue=4,
        claim="The 95 % interval of annealed log Z covers the enumerated value in at least 91.4 % of 1,000 replicates.",
        target={"op": ">=", "value": 0.914},
        path="coverage.share",
        valid="complete",
    ),
    Claim(
        name="log-partition-coverage-high",
        benchmark="log_partition",
        issue=4,
        claim="And in at most 97.7 %.",
        target={"op": "<=", "value": 0.977},
        path="coverage.share",
        valid="complete",
    ),
    Claim(
        name="energy-rbm-sweeps",
        benchmark="energy_speed",
        issue=4,
        claim="Block Gibbs of a 784x500 RBM, 1,000 chains, sweeps 1.1 times as fast on NumPyro as a plain compiled scan.",
        target={"op": ">=", "value": 1.1},
        path="rbm_1000.scan.ratio",
    ),
    Claim(
        name="energy-dense-delayed",
        benchmark="energy_speed",
        issue=4,
        claim="Delayed updates of 784 coupled units, 256 chains, are 5 times as fast as the plain scan that keeps all fields.",
        target={"op": ">=", "value": 5},
        path="dense.cached.ratio",
    ),
    Claim(
        name="energy-dense-product",
        benchmark="energy_speed",
        issue=4,
        claim="And faster than the plain scan that takes each field as a product, which one product of all bounds by 3 times.",
        target={"op": ">", "value": 1},
        path="dense.product.ratio",
    ),
    Claim(
        name="energy-sparse-torus",
        benchmark="energy_speed",
        issue=4,
        claim="Chromatic Gibbs of a torus of 64x64 spins, 256 chains, makes twice as many flips a second as thrml.",
        target={"op": ">=", "value": 2},
        path="torus.thrml.ratio",
    ),
    Claim(
        name="energy-sparse-random",
        benchmark="energy_speed",
        issue=4,
        claim="And so on a random graph of 4,096 spins and degree 15.",
        target={"op": ">=", "value": 2},
        path="random_graph.thrml.ratio",
    ),
    Claim(
        name="energy-training-numpyro",
        benchmark="energy_speed",
        issue=4,
        claim="An update of PCD of a 784x500 RBM takes at most 1.2 times a hand-written JAX scan's.",
        target={"op": "<=", "value": 1.2},
        path="training_numpyro.ratio",
    ),
    Claim(
        name="energy-training-pyro",
        benchmark="energy_speed",
        issue=4,
        claim="On Pyro, at most 1.3 times that of hand-written PyTorch with its gradients derived by hand.",
        target={"op": "<=", "value": 1.3},
        path="training_pyro.ratio",
    ),
    Claim(
        name="bars-and-stripes-exact",
        benchmark="energy_learning",
        issue=4,
        claim="Exact maximum likelihood brings an RBM of 16 hidden units to the best log p of 4x4 bars and stripes, -3.379.",
        target={"op": "<=", "value": 0.01},
        path="bars.exact.gap",
        valid="complete",
    ),
    Claim(
        name="eight-bits-numpyro",
        benchmark="energy_learning",
        issue=4,
        claim="Eight bits from a known table: on NumPyro the held-out log-likelihood is the table's within 0.05 nats.",
        target={"op": "<=", "value": 0.05},
        path="bits.numpyro.gap",
        valid="complete",
    ),
    Claim(
        name="eight-bits-pyro",
        benchmark="energy_learning",
        issue=4,
        claim="And on Pyro.",
        target={"op": "<=", "value": 0.05},
        path="bits.pyro.gap",
        valid="complete",
    ),
    Claim(
        name="eight-bits-sides-numpyro",
        benchmark="energy_learning",
        issue=4,
        claim="On NumPyro it lies between the likelihoods by forward and by reverse annealing, each within 4 standard errors.",
        target={"op": ">=", "value": 0.0},
        path="bits.numpyro.room",
        valid="complete",
    ),
    Claim(
        name="eight-bits-sides-pyro",
        benchmark="energy_learning",
        issue=4,
        claim="And on Pyro.",
        target={"op": ">=", "value": 0.0},
        path="bits.pyro.room",
        valid="complete",
    ),
    Claim(
        name="digits-features-numpyro",
        benchmark="energy_learning",
        issue=4,
        claim="Digits told apart by an RBM's features on NumPyro: at least 0.9032, scikit-learn's accuracy in its own example.",
        target={"op": ">=", "value": 0.9032},
        path="digits.numpyro.accuracy",
        valid="complete",
    ),
    Claim(
        name="digits-features-pyro",
        benchmark="energy_learning",
        issue=4,
        claim="And on Pyro.",
        target={"op": ">=", "value": 0.9032},
        path="digits.pyro.accuracy",
        valid="complete",
    ),
    Claim(
        name="digits-features-beside-scikit-learn",
        benchmark="energy_learning",
        issue=4,
        claim="On NumPyro they are no worse than those of BernoulliRBM in the same run, row by row.",
        target={"op": ">=", "value": 0.0},
        path="digits.gain.numpyro",
        valid="complete",
    ),
    Claim(
        name="rbm-mnist-centred-numpyro",
        benchmark="rbm_mnist",
        issue=4,
        claim="A centred RBM 784x16, 50 epochs of PCD on MNIST: exact test log p of at least -142.9, mean of 8 seeds, NumPyro.",
        target={"op": ">=", "value": -142.9},
        path="centred.numpyro.log_likelihood",
        valid="complete",
    ),
    Claim(
        name="rbm-mnist-centred-pyro",
        benchmark="rbm_mnist",
        issue=4,
        claim="And on Pyro.",
        target={"op": ">=", "value": -142.9},
        path="centred.pyro.log_likelihood",
        valid="complete",
    ),
    Claim(
        name="rbm-mnist-centring-gains",
        benchmark="rbm_mnist",
        issue=4,
        claim="And more than its uncentred twin, on the same rows.",
        target={"op": ">", "value": 0.0, "interval": True},
        path="gain",
        valid="complete",
    ),
    Claim(
        name="dbm-mnist-exact",
        benchmark="dbm_mnist",
        issue=4,
        claim="A deep Boltzmann machine 784-20-1000 on MNIST has a better exact test log p than independent pixels.",
        target={"op": ">", "value": 0.0, "interval": True},
        path="gain",
        valid="complete",
    ),
    Claim(
        name="bad-inputs-refused",
        benchmark="bad_inputs",
        issue=5,
        claim="Every kind of bad input, on every model and both engines, is refused by one sentence that names what is bad.",
        target={"op": "==", "value": 0},
        path="failed",
    ),
    Claim(
        name="bad-input-kinds",
        benchmark="bad_inputs",
        issue=5,
        claim="At least 60 kinds of bad input are tried.",
        target={"op": ">=", "value": 60},
        path="kinds",
    ),
    Claim(
        name="bad-input-seconds",
        benchmark="bad_inputs",
        issue=5,
        claim="The slowest refusal takes under 1 s of the process.",
        target={"op": "<", "value": 1.0},
        path="slowest_seconds",
    ),
    Claim(
        name="bad-input-files",
        benchmark="bad_inputs",
        issue=5,
        claim="A refusal leaves no file behind.",
        target={"op": "==", "value": 0},
        path="files_written",
    ),
    Claim(
        name="good-twins-taken",
        benchmark="bad_inputs",
        issue=5,
        claim="Good input in unusual clothes is taken.",
        target={"op": "==", "value": 0},
        path="good_twins_refused",
    ),
    Claim(
        name="conformance-catalogue",
        benchmark="conformance",
        issue=5,
        claim="Every declaration of the contract tests passes every conformance check on both engines.",
        target={"op": "==", "value": 0},
        path="failed",
    ),
    Claim(
        name="conformance-checks",
        benchmark="conformance",
        issue=5,
        claim="There are at least 30 conformance checks.",
        target={"op": ">=", "value": 30},
        path="checks",
    ),
    Claim(
        name="conformance-catches",
        benchmark="conformance",
        issue=5,
        claim="Each conformance check fails on the model that is broken in this alone.",
        target={"op": "==", "value": 0},
        path="not_caught",
    ),
    Claim(
        name="verdicts-right",
        benchmark="verdicts",
        issue=5,
        claim="Fits of known worth get the word they deserve, ten seeds each on both engines: none is wrong.",
        target={"op": "<=", "value": 0},
        path="wrong",
        valid="complete",
    ),
    Claim(
        name="verdict-beside-plain-loo",
        benchmark="verdicts",
        issue=5,
        claim="Of the guide of a quarter of the sd, which is condemned, plain leave-one-out finds k-hat below 0.5 everywhere.",
        target={"op": "<", "value": 0.5},
        path="plain_loo.numpyro",
    ),
    Claim(
        name="k-hat-of-normals",
        benchmark="verdicts",
        issue=5,
        claim="k-hat of normals, sd ratios 0.3 to 0.8 and 20,000 draws, is 1 - r^2 within 0.15 on the mean of 30 sets.",
        target={"op": "<=", "value": 0.15},
        path="k_hat.largest_error",
    ),
    Claim(
        name="verdict-mnist-vae",
        benchmark="verdicts",
        issue=5,
        claim="The default VAE, 30 epochs on MNIST, is not condemned, whatever share of rows has a rough q(z | x).",
        target={"op": "<=", "value": 0},
        path="mnist.condemned",
        valid="complete",
    ),
    Claim(
        name="calibrated",
        benchmark="calibration",
        issue=5,
        claim="1,000 simulations each: exact guides on both engines and NUTS inside the bands, family-wise 1e-6; none outside.",
        target={"op": "<=", "value": 0},
        path="uncalibrated",
        valid="complete",
    ),
    Claim(
        name="calibration-finds-mean-field",
        benchmark="calibration",
        issue=5,
        claim="The best factorised guide of a posterior with correlation 0.9 is outside, in every coordinate.",
        target={"op": ">=", "value": 1},
        path="control_outside",
        valid="complete",
    ),
    Claim(
        name="arviz-table",
        benchmark="arviz_table",
        issue=5,
        claim="Every kind of fit works with ten functions of ArviZ, or is refused in one sentence of ours.",
        target={"op": "==", "value": 0},
        path="failed",
    ),
    Claim(
        name="gpu-equals-cpu",
        benchmark="gpu",
        issue=2,
        claim="Every declaration's training on a GPU follows the CPU's within 1e-4, on both engines.",
        target={"op": "<=", "value": 1e-4},
        path="largest_gap",
        needs="gpu",
    ),
    Claim(
        name="crashes-lost",
        benchmark="crashes",
        issue=5,
        claim="Killed by kill -9 a hundred times an engine, training loses no epoch that was kept, and finds no damaged file.",
        target={"op": "==", "value": 0},
        path="lost",
        valid="complete",
    ),
    Claim(
        name="crashes-bitwise",
        benchmark="crashes",
        issue=5,
        claim="And it ends in the bits of a training left alone: parameters, moments, controls, random state and history.",
        target={"op": "==", "value": 0},
        path="different",
        valid="complete",
    ),
    Claim(
        name="crashes-kills",
        benchmark="crashes",
        issue=5,
        claim="These are a hundred kills an engine.",
        target={"op": ">=", "value": 100},
        path="kills",
        valid="complete",
    ),
    Claim(
        name="mutations-clear",
        benchmark="mutations",
        issue=5,
        claim="Checkpoints cut, flipped, forged or swapped: each gives way to the one before, or ends in one sentence.",
        target={"op": "==", "value": 1.0},
        path="share",
    ),
    Claim(
        name="mutations-count",
        benchmark="mutations",
        issue=5,
        claim="At least a hundred of them on either engine.",
        target={"op": ">=", "value": 100},
        path="mutations",
    ),
    Claim(
        name="mutations-outside",
        benchmark="mutations",
        issue=5,
        claim="None runs code or touches a file outside its folder, pickles in disguise among them.",
        target={"op": "==", "value": 0},
        path="outside",
    ),
    Claim(
        name="mutations-seconds",
        benchmark="mutations",
        issue=5,
        claim="And none takes more than 5 s.",
        target={"op": "<", "value": 5.0},
        path="longest",
    ),
    Claim(
        name="nonfinite-clear",
        benchmark="nonfinite",
        issue=5,
        claim="NaN put into data, densities, gradients and parameters 100 times: training recovers, or stops and says where.",
        target={"op": "==", "value": 1.0},
        path="share",
    ),
    Claim(
        name="nonfinite-close",
        benchmark="nonfinite",
        issue=5,
        claim="Recovered from a few bad rows, the held-out ELBO is within 0.1 nats of that without them.",
        target={"op": "<=", "value": 0.1},
        path="largest_gap",
    ),
    Claim(
        name="nonfinite-files",
        benchmark="nonfinite",
        issue=5,
        claim="No checkpoint holds a number that is not finite.",
        target={"op": "==", "value": 0},
        path="bad_files",
    ),
    Claim(
        name="memory-arrays",
        benchmark="memory",
        issue=5,
        claim="No array more is alive after 2,000 steps than after 40, nor after 20 fits than after 2, on either engine.",
        target={"op": "<=", "value": 0},
        path="arrays_grown",
    ),
    Claim(
        name="memory-bytes",
        benchmark="memory",
        issue=5,
        claim="And no byte.",
        target={"op": "<=", "value": 0},
        path="bytes_grown",
    ),
    Claim(
        name="memory-order",
        benchmark="memory",
        issue=5,
        claim="Two fits in a process end in the same bits in either order.",
        target={"op": "==", "value": 0},
        path="orders_differ",
    ),
    Claim(
        name="upstream-faults",
        benchmark="upstream_faults",
        issue=6,
        claim="Every script of a fault in Pyro or NumPyro says in whole JSON that it is there, or that it is mended.",
        target={"op": "==", "value": 0},
        path="broken",
    ),
    Claim(
        name="upstream-reproduced",
        benchmark="upstream_faults",
        issue=6,
        claim="Six of them or more are there in the libraries pinned here, by exact expectation.",
        target={"op": ">=", "value": 6},
        path="reproduced",
    ),
)


def known() -> list[str]:
    """The benchmarks, by name."""
    return sorted({claim.benchmark for claim in CLAIMS})


def look_up(result: Any, path: str) -> Any:
    """The entry at a dotted path, None where there is none."""
    for key in path.split("."):
        result = result.get(key) if isinstance(result, Mapping) else None
    return result


def meets(value: Any, target: Mapping[str, Any]) -> bool | None:
    """Whether the value is on the right side of the target; None if a number that this needs is missing."""
    point, low, high = (value.get(k) for k in ("value", "low", "high")) if isinstance(value, Mapping) else (value,) * 3
    numbers = (low, high) if target.get("interval") and isinstance(value, Mapping) else (point,)
    if target.get("interval") and not isinstance(value, Mapping):
        return None
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        return None
    return all(OPERATORS[target["op"]](n, target["value"]) for n in numbers)


def settles(claim: Claim, record: Mapping[str, Any]) -> bool:
    """Whether this record may decide the claim at all: the peer was fit to compare with, the device the right one."""
    if claim.valid is not None and look_up(record["result"], claim.valid) is not True:
        return False
    device = str(record["manifest"].get("device", "")).lower()
    return claim.needs != "gpu" or device.startswith(("cuda", "gpu"))


def row(claim: Claim, record: Mapping[str, Any] | None, stale: bool = False) -> dict[str, Any]:
    """The claim beside what was measured; `holds` is None while nothing valid decides it."""
    value = look_up(record["result"], claim.path) if record else None
    decided = record is not None and not stale and settles(claim, record)
    manifest = record["manifest"] if record else {}
    return {
        "name": claim.name,
        "issue": claim.issue,
        "claim": claim.claim,
        "target": dict(claim.target),
        "value": value,
        "holds": meets(value, claim.target) if decided else None,
        "needs": claim.needs,
        "device": manifest.get("device"),
        "commit": manifest.get("commit"),
        "stale": stale,
    }
