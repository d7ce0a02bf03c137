"""The time of a training step: VAE 784-400-20, ours beside a hand-written peer on the same core in the same minute.

Epochs of the two alternate, in turned order, in one process with one thread; the ratio is that of the medians of at
least nine pairs, with a bootstrap interval over the pairs. Both are timed from outside by one clock, and see the same
data, batch, optimiser, float32 products ("highest": elsewhere "medium" may be bfloat16) and a fresh binarisation of
each batch. The peer itself must be good: without binarisation it must reach 90 % of the floor below, or the claim is
void. The floors are those of one machine; on one whose matrix products are slower they are raised in that proportion.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.hand.weights import DATA, HIDDEN, LATENT, greys
from inference.svi import epochs
from ppl_models import VAE

ROWS, BATCH, LEARNING_RATE, SEED = 10_240, 128, 1e-3, 0
STEPS = ROWS // BATCH
WARM_UP, LEAST_PAIRS, PAIRS = 2, 9, 25
# ms a step of the best peer known, and GFLOP/s of its library's matrix product on that machine (EPYC, one thread)
FLOORS = {"numpyro": (3.07, 203.0), "pyro": (5.78, 105.0)}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "PYTHONHASHSEED": "0",
}


def summary(ours: Sequence[float] | np.ndarray, peer: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Ratio of medians with its 95 % bootstrap interval over pairs, and the quartiles of the pairs' own ratios."""
    a, b = np.array(ours), np.array(peer)
    draws = np.random.default_rng(SEED).integers(len(a), size=(4000, len(a)))
    low, high = np.quantile(np.median(a[draws], axis=1) / np.median(b[draws], axis=1), (0.025, 0.975))
    return {
        "ratio": {"value": np.median(a) / np.median(b), "low": low, "high": high},
        "pair_ratio_quartiles": np.quantile(a / b, (0.25, 0.5, 0.75)),
        "ours_ms": np.median(a),
        "peer_ms": np.median(b),
        "pairs": len(a),
    }


def floor(engine: str, peer_ms: float, gflops: float) -> dict[str, Any]:
    """The peer without binarisation, held against the floor; `gflops` tells how the CPUs differ."""
    known_ms, known_gflops = FLOORS[engine]
    # A slower matrix product excuses the peer in proportion; of a faster one nothing follows for the rest of a step.
    floor_ms = known_ms * max(1.0, known_gflops / gflops)
    return {
        "peer_static_ms": peer_ms,
        "floor_ms": floor_ms,
        "gflops": gflops,
        "known_floor_ms": known_ms,
        "known_gflops": known_gflops,
        "peer_ok": bool(peer_ms * 0.9 <= floor_ms),
    }


def milliseconds(epochs: Iterator[Any]) -> tuple[float, Any]:
    """The time of a step in the next epoch, and what the epoch gave."""
    start = time.perf_counter()
    given = next(epochs)
    return (time.perf_counter() - start) / STEPS * 1e3, given


def pairs(engine: str, count: int, seconds: float) -> dict[str, Any]:
    """The comparison on one engine; stops after so many pairs, or once the time is spent and nine are there."""
    peer = importlib.import_module(f"benchmarks.hand._{engine}")
    peer.prepare()
    x, stop = greys(ROWS, SEED), time.monotonic() + seconds
    training = {"batch": BATCH, "lr": LEARNING_RATE}
    hand = peer.epochs(x, seed=SEED, dynamic=True, **training)
    static = peer.epochs(x, seed=SEED, dynamic=False, **training)
    ours = epochs(
        VAE(DATA, LATENT, (HIDDEN,)), x, engine=engine, estimator="pathwise", epochs=WARM_UP + count,
        seeds=(SEED,), dynamic=True, **training,
    )  # fmt: skip
    times: dict[str, list[float]] = {"ours": [], "told": [], "hand": [], "static": [], "gflops": []}
    with importlib.import_module(f"inference._{engine}").session("float32", "cpu"):
        next(ours)  # epoch 0: set-up and compilation
        for i in range(WARM_UP + count):
            if i >= WARM_UP + LEAST_PAIRS and time.monotonic() > stop:
                break
            runs = {"ours": ours, "hand": hand}
            for name in runs if i % 2 else reversed(runs):
                taken, given = milliseconds(runs[name])
                times[name].append(taken)
                if name == "ours":
                    assert given.steps == STEPS, "ours and the peer must take the same steps"
                    times["told"].append(given.seconds / STEPS * 1e3)
            times["static"].append(milliseconds(static)[0])
            times["gflops"].append(peer.gflops())
    kept = {name: values[WARM_UP:] for name, values in times.items()}
    return {
        **summary(kept["ours"], kept["hand"]),
        "ours_ms_told": np.median(kept["told"]),
        **floor(engine, float(np.median(kept["static"])), float(np.median(kept["gflops"]))),
        "settings": peer.settings(),
    }


def child(engine: str, count: int, seconds: float) -> dict[str, Any]:
    """`pairs` in a process of its own with one thread, on one core."""
    command = [sys.executable, "-m", "benchmarks.step_time", engine, str(count), str(seconds)]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, cwd=record.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """Both engines, one after the other; `budget` in minutes."""
    seconds = (budget or 10) * 60 / len(FLOORS)
    given = {engine: child(engine, LEAST_PAIRS if quick else PAIRS, seconds) for engine in FLOORS}
    sources = {file: sha for part in given.values() for file, sha in part.pop("sources").items()}
    return {"device": "cpu", **given, "sources": sources}


def main(engine: str, count: str, seconds: str) -> None:
    """The child's door: pin to one core, measure, print."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = pairs(engine, int(count), float(seconds))
    print(record.dumps({**found, "sources": record.sources("__main__", f"benchmarks.hand._{engine}")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
