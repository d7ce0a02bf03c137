"""Nothing piles up: arrays alive over 2,000 steps and over 20 fits in a process, and fits that do not touch each other.

Counted are the arrays that the engine holds, and their bytes, after each epoch of one fit and after each fit. The first of
either sets a level (programs and constants are kept); growth is what stands above it at the end. Two fits in two processes,
in either order, must end in the same bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.live import live
from inference.svi import fit
from ppl_models import VAE, SigmoidBeliefNet
from ppl_models.datasets import from_arrays

ENGINES, EPOCHS, FITS = ("numpyro", "pyro"), 100, 20
BATCH, ROWS = 8, 160  # 20 steps an epoch: 2,000 in all


def trained(engine: str, name: str, epochs: int, **settings: Any) -> Any:
    """One small fit: of a net of reparameterised latents, or of bits with a control that carries state."""
    x = (np.random.default_rng(0).random((ROWS + 20, 6)) > 0.5).astype(float)
    data = from_arrays(x[:ROWS], heldout=x[ROWS:])
    model: Any = {"vae": VAE(6, latent_dim=2, hidden=(8,)), "belief net": SigmoidBeliefNet(6, 3)}[name]
    spec = {"vae": None, "belief net": {"z*": "running-mean"}}[name]
    return fit(model, data, engine=engine, estimator=spec, epochs=epochs, batch=BATCH, **settings)


def growth(levels: list[tuple[int, int]], settled: int) -> dict[str, int]:
    """What the last level has more than the one at which things had `settled`."""
    (count, size), (last, bytes_) = levels[settled], levels[-1]
    return {"arrays": last - count, "bytes": bytes_ - size}


def over_steps(engine: str, epochs: int = EPOCHS) -> dict[str, Any]:
    """Growth from the second epoch to the last."""
    levels = list[tuple[int, int]]()
    found = trained(engine, "belief net", epochs, callbacks=[lambda row: levels.append(live(engine))])
    return {**growth(levels, 2), "steps": found.history[-1]["step"], "level": levels[-1]}


def over_fits(engine: str, fits: int = FITS) -> dict[str, Any]:
    """Growth from the second fit to the last, of other seeds but the same set-up."""
    levels = list[tuple[int, int]]()
    for seed in range(fits):
        trained(engine, "vae", 1, seed=seed)
        levels.append(live(engine))
    return {**growth(levels, 1), "fits": fits, "level": levels[-1]}


def bits(engine: str, names: list[str]) -> dict[str, str]:
    """A digest of what each of these fits, one after the other in this process, ends in."""
    out = {}
    for name in names:
        params = trained(engine, name, 3).params
        whole = b"".join(np.ascontiguousarray(params[key]).tobytes() for key in sorted(params))
        out[name] = hashlib.sha256(whole).hexdigest()
    return out


def in_process(engine: str, names: list[str]) -> dict[str, str]:
    """The same in a process of its own."""
    code = "import json, sys; from benchmarks.memory import bits; print(json.dumps(bits(sys.argv[1], sys.argv[2:])))"
    done = subprocess.run([sys.executable, "-c", code, engine, *names], cwd=record.ROOT, capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": str(record.ROOT)})  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """Both engines."""
    out, names = {}, ["vae", "belief net"]
    for engine in ENGINES:
        orders = [in_process(engine, order) for order in (names, names[::-1])]
        out[engine] = {
            "steps": over_steps(engine, 20 if quick else EPOCHS), "fits": over_fits(engine, 5 if quick else FITS),
            "same_bits": orders[0] == orders[1],
        }  # fmt: skip
    grown = [out[engine][over] for engine in ENGINES for over in ("steps", "fits")]
    return {"device": "cpu", **out, "arrays_grown": max(one["arrays"] for one in grown),
            "bytes_grown": max(one["bytes"] for one in grown),
            "orders_differ": sum(not out[engine]["same_bits"] for engine in ENGINES)}  # fmt: skip
