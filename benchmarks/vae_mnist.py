"""The default VAE on MNIST: `ppl fit vae --data mnist --epochs 30` on both engines, as a user would run it.

VAE 784-400-20, softplus, Bernoulli, dynamic binarisation, batch 128, Adam 1e-3; the one-sample ELBO of the 10,000 test
images (one fixed Bernoulli draw). A plain hand-written VAE reaches −99.1 nats with these settings.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks import record
from ppl_models import InputError


def train(engine: str, epochs: int) -> dict[str, Any]:
    """One run of the command line in a process of its own."""
    options = [
        "fit",
        "vae",
        "--data",
        "mnist",
        "--epochs",
        str(epochs),
        "--engine",
        engine,
        "--device",
        "cpu",
        "--json",
    ]
    done = subprocess.run([sys.executable, "-m", "inference.cli", *options], cwd=record.ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"`ppl {' '.join(options)}` exited {done.returncode}; its message stands above.")
    found = json.loads(done.stdout)
    kept = ("heldout_elbo", "baseline", "seconds_per_step", "setup_seconds", "epochs", "data", "command")
    return {key: found[key] for key in kept} | {"wall_seconds": found["manifest"]["wall_seconds"]}


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """Both engines; `quick` trains for 5 epochs."""
    found = {engine: train(engine, 5 if quick else 30) for engine in ("numpyro", "pyro")}
    return {"device": "cpu", **found, "sources": record.tree("ppl_models", "inference")}
