"""kill -9 at random moments, a hundred times an engine: nothing is lost, and the end is that of a training left alone.

A child trains with a checkpoint every epoch, so that much of its time goes into writing, and resumes itself from its
folder. It is killed at random: at once, while it imports and compiles; or some time after it has kept something new. After
every kill the last checkpoint must be whole and no earlier than the last one seen. At last it goes on to a fixed epoch, and a
child that is left alone goes there in one go: parameters, moments, controls, random state and history must be equal bit
for bit. NumPyro trains a VAE on bits drawn anew each epoch, Pyro a belief net with a baseline that carries state.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.checkpoint import Stages, measured
from inference.checkpoint import Checkpoints
from inference.svi import fit
from ppl_models import VAE, SigmoidBeliefNet
from ppl_models.datasets import load

ENGINES, ENDLESS, PATIENCE = ("numpyro", "pyro"), 10**6, 300.0  # epochs, seconds
CODE = "import sys; from benchmarks.crashes import train; train(sys.argv[1], sys.argv[2], int(sys.argv[3]))"


@dataclass(frozen=True)
class Setup:
    """So many kills an engine, in stages of `stage`; a share `early` of them before anything new is kept."""

    kills: int = 100
    stage: int = 10
    early: float = 0.2
    more: int = 3  # epochs after the last kill


def train(engine: str, folder: str, epochs: int) -> None:
    """What the child does: begin, or go on from its folder."""
    model: Any = {"numpyro": VAE(64, latent_dim=2, hidden=(32,)), "pyro": SigmoidBeliefNet(64, 8)}[engine]
    data = load("digits", binarise="dynamic" if engine == "numpyro" else "threshold")
    kept = Checkpoints(Path(folder), 1)
    fit(model, data, engine=engine, estimator=None if engine == "numpyro" else {"z*": "running-mean"}, epochs=epochs,
        checkpoints=kept, resume=bool(kept.steps()))  # fmt: skip


def child(engine: str, folder: Path, epochs: int) -> subprocess.Popen[bytes]:
    """It, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(record.ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", CODE, engine, str(folder), str(epochs)]
    return subprocess.Popen(arguments, cwd=record.ROOT, env=env, stderr=subprocess.PIPE)


def killed(engine: str, folder: Path, early: float, rng: np.random.Generator) -> dict[str, Any]:
    """Start the child, kill it, look at what it left: whether it was writing, damaged files, and epochs lost."""
    kept = Checkpoints(folder)
    before = max(kept.steps(), default=-1)
    process, began = child(engine, folder, ENDLESS), time.monotonic()
    try:
        if rng.random() < early:
            time.sleep(rng.uniform(0, 5))
        else:
            while max(kept.steps(), default=-1) <= before:
                if process.poll() is not None or time.monotonic() - began > PATIENCE:
                    told = process.stderr.read().decode() if process.stderr and process.poll() is not None else "no progress"
                    raise RuntimeError(f"the child did not go on: {told[-2000:]}")
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.1))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    writing = bool(list(folder.glob(".*.partial")))
    reached, damaged = before, 0
    if kept.steps():
        saved = kept.load()
        reached, damaged = saved.step, len(saved.damaged)
    return {"writing": writing, "damaged": damaged, "lost": max(before - reached, 0), "reached": reached}


def ended(engine: str, folder: Path, epochs: int) -> None:
    """The child, left alone until it ends."""
    process = child(engine, folder, epochs)
    _, told = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the child failed: {told.decode()[-2000:]}")


def differences(here: Path, there: Path) -> list[str]:
    """In what two trainings' last checkpoints differ, seconds aside; empty if in nothing."""
    mine, theirs = Checkpoints(here).load(), Checkpoints(there).load()
    names = sorted({*mine.tensors, *theirs.tensors})
    out = [n for n in names if n not in mine.tensors or n not in theirs.tensors
           or mine.tensors[n].tobytes() != theirs.tensors[n].tobytes()]  # fmt: skip
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in one.facts["history"]] for one in (mine, theirs)]
    out += [name for name in ("state", "course", "training") if mine.facts[name] != theirs.facts[name]]
    return out + (["history"] if rows[0] != rows[1] else []) + (["step"] if mine.step != theirs.step else [])


def work(stages: Stages, setup: Setup) -> dict[str, Any]:
    """Both engines."""
    out = dict[str, Any]()
    for engine in ENGINES:
        folder, alone, kills = stages.folder / f"{engine}-killed", stages.folder / f"{engine}-alone", list[dict[str, Any]]()
        for first in range(0, setup.kills, setup.stage):

            def batch(engine: str = engine, folder: Path = folder, first: int = first) -> tuple[dict, dict[str, Any]]:
                if first == 0:
                    shutil.rmtree(folder, ignore_errors=True)
                rng = np.random.default_rng([ENGINES.index(engine), first])
                count = min(setup.stage, setup.kills - first)
                return {}, {"kills": [killed(engine, folder, setup.early, rng) for _ in range(count)]}

            kills += stages(f"{engine}-{first}", batch).told["kills"]

        def compared(engine: str = engine, folder: Path = folder, alone: Path = alone, last: int = kills[-1]["reached"]) -> Any:
            total = last + setup.more
            shutil.rmtree(alone, ignore_errors=True)
            for place in (folder, alone):
                ended(engine, place, total)
            return {}, {"epochs": total, "differences": differences(folder, alone)}

        told = stages(f"{engine}-end", compared).told
        out[engine] = {
            "kills": len(kills), "writing": sum(kill["writing"] for kill in kills), "epochs": told["epochs"],
            "lost": sum(kill["lost"] for kill in kills), "damaged": sum(kill["damaged"] for kill in kills),
            "differences": told["differences"],
        }  # fmt: skip
    return {**out, "kills": min(out[engine]["kills"] for engine in ENGINES),
            "lost": sum(out[engine]["lost"] + out[engine]["damaged"] for engine in ENGINES),
            "different": sum(len(out[engine]["differences"]) for engine in ENGINES)}  # fmt: skip


def run(quick: bool, budget: float | None) -> dict[str, Any]:
    """A hundred kills an engine, in stages; quick, five."""
    import_module("inference.svi._pyro")  # a source too
    return measured("crashes", Setup(kills=5, stage=5) if quick else Setup(), budget, work)
