"""`make demo`: the central result of the field on real digits, in two minutes on two cores.

The score-function gradient is unbiased but its variance is large; the comparison shows what each remedy buys, and at what
cost, on a belief net (discrete latents, exact reference) and a variational autoencoder, on NumPyro and, smaller, on Pyro.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter

from ppl_models import VAE, InputError, SigmoidBeliefNet
from ppl_models.datasets import load

from .compare import compare
from .files import check_out, to_json, write

BELIEF_NET = SigmoidBeliefNet(64, latent_dim=8)
AUTOENCODER = VAE(64, latent_dim=2, hidden=(100,))
SCORES = ["score", "running-mean", "leave-one-out"]
OF_BITS = ["relaxed", *SCORES, "enumerate", "stock-trace", "stock-tracegraph", "stock-tracemeanfield"]
OF_NORMALS = ["pathwise", "pathwise-kl", "path-only", *SCORES, "stock-trace", "stock-tracemeanfield"]


def main() -> None:
    """Run the three comparisons and write their reports."""
    parser = argparse.ArgumentParser(prog="python -m inference.demo", description="Compare gradient estimators on digits.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the three reports go")
    out, began = parser.parse_args().out, perf_counter()
    # Networks this small run slower on two of PyTorch's threads than on one; read when torch is first imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        check_out(out)
    except InputError as error:
        sys.exit(f"demo: {error}")
    digits = load("digits")
    print(digits.card)
    runs = {
        "sbn-numpyro": (BELIEF_NET, {"engine": "numpyro", "replicates": 4000, "estimators": OF_BITS}),
        "vae-numpyro": (AUTOENCODER, {"engine": "numpyro", "replicates": 400, "estimators": OF_NORMALS}),
        "sbn-pyro": (BELIEF_NET, {"engine": "pyro", "replicates": 400, "epochs": 2, "estimators": [
            *SCORES, "enumerate", "stock-trace", "stock-tracegraph"]}),
    }  # fmt: skip
    for name, (model, options) in runs.items():
        found = compare(model, digits, **{"epochs": 5, "seeds": 1, **options})
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "report.html", found.html({"command": "make demo"}))
        write(folder / "results.json", to_json({"command": "make demo", **found.results}))
        print(f"\n{name} ({perf_counter() - began:.0f} s so far), device {found.results['manifest']['device']}")
        print(found.table())
        print(found.results["verdict_sentence"])
    print(f"\n{perf_counter() - began:.0f} s in all. Open {out / 'sbn-numpyro' / 'report.html'} first.")


if __name__ == "__main__":
    main()
