"""The command line: `ppl list | check | compare | fit | resume | sample | diagnose`.

Exit 0: fine. 2: bad input, one sentence on stderr and nothing written. 3: `diagnose` says not to use a run, or
`check` finds a model wrong. 4: the computation left the finite numbers, or the disk is full.
With --json, stdout holds one strict JSON object and everything else goes to stderr.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ppl_models.errors import InputError, NumericalError

from .console import Status, command, echo, emit, note

# typer ships its own click; the base class of all its usage errors has no public name.
UsageError: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    name="ppl", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Declare a latent-variable model once, infer it with Pyro or NumPyro, and measure the gradient estimators.",
)  # fmt: skip

Model = Annotated[str, typer.Argument(help="A model of the catalogue; `ppl list models` names them.")]
Data = Annotated[str, typer.Option(help="digits, mnist, iris, wine, jsb, or a .npy, .npz or .csv file of rows.")]
Engine = Annotated[str, typer.Option(help="numpyro or pyro.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, as in latent_dim=2 or hidden=200,200.")]
LIKELIHOODS = "bernoulli, normal[:SCALE|learned|per-dim], categorical[:CLASSES] or continuous-bernoulli."
Likelihood = Annotated[str | None, typer.Option(help=LIKELIHOODS)]
Binarise = Annotated[str | None, typer.Option(help="none, threshold, static or dynamic; the data set's own if left out.")]
Heldout = Annotated[str | None, typer.Option(help="A file of held-out rows, for your own data.")]
DataDir = Annotated[str | None, typer.Option(help="Where data sets lie; else PPL_DATA_DIR, else a cache.")]
METHODS = ("svi, em, cavi, mcmc, or greedy, pcd, cd, exact, pseudo-likelihood, score-matching of an energy, where the model "
           "has it; "
           "the first that it has.")  # fmt: skip
Method = Annotated[str | None, typer.Option(help=METHODS)]
Batch = Annotated[int | None, typer.Option(help="Rows a step; 128 if left out.")]
Lr = Annotated[float, typer.Option(help="Adam's step size.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
BoundName = Annotated[str | None, typer.Option("--bound", help="elbo (the default), or iwae: the K-sample bound.")]
Particles = Annotated[int | None, typer.Option(help="K of the K-sample bound (5), or samples averaged in the ELBO (1).")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; a GPU if there is one.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]
Out = Annotated[Path | None, typer.Option(help="A directory for results and report.html; nothing is kept without it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that --out holds.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="models, estimators, kernels or datasets; all if left out.")] = "all",
    json: Json = False,
) -> None:
    """Name what there is."""
    from .catalogue import ROWS, rows

    if what not in ("all", *ROWS):
        raise InputError(f"expected one of {', '.join(ROWS)}, got '{what}'; choose one of those or leave it out.")
    found = {kind: rows(kind) for kind in ROWS if what in ("all", kind)}
    if json:
        emit({"command": command(), **found})
        return
    for kind, entries in found.items():
        echo(f"{kind}" + ("" if entries else ": none yet"))
        for row in entries:
            echo(f"  {row['name']:<26}{row['summary']}")


@app.command()
def fit(
    model: Model, data: Data = "digits", engine: Engine = "numpyro",
    method: Method = None,
    estimator: Annotated[str | None, typer.Option(help="A gradient estimator; chosen for each site if left out.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows: 30; EM stops by itself.")] = None,
    batch: Batch = None, lr: Lr = 1e-3, seed: Seed = 0,
    restarts: Annotated[int, typer.Option(help="Fits from different seeds; the best is kept.")] = 1,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better held-out ELBO.")] = None,
    converged: Annotated[float | None, typer.Option(help="Stop where R-hat of the iterates is at most this, say 1.1.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds of training.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = None,
    bound: BoundName = None, particles: Particles = None,
    beta: Annotated[float, typer.Option(help="Weight of the KL in what is maximised.")] = 1.0,
    anneal: Annotated[int, typer.Option(help="Epochs over which that weight rises from 0.")] = 0,
    alternate: Annotated[bool, typer.Option("--alternate", help="Move guide and model in turn.")] = False,
    labels: Annotated[int | None, typer.Option(help="Known labels, where the model takes some: 100 if left out.")] = None,
    chains: Annotated[int | None, typer.Option(help="Persistent chains of an energy: 100 if left out.")] = None,
    sweeps: Annotated[int | None, typer.Option(help="Sweeps of an energy's chains a step: 1; 10 of Langevin.")] = None,
    noise: Annotated[float | None, typer.Option(help="Of score matching, over each column's deviation: 0.1.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Epochs between checkpoints: 10.")] = None,
    greedy: Annotated[int | None, typer.Option(help="Greedy epochs of each layer of a deep machine before all.")] = None,
    evaluate: Annotated[int | None, typer.Option(help="Importance samples of log p(x); 100 with --out, else none.")] = None,
    set_: Set = None, likelihood: Likelihood = None, binarise: Binarise = None, heldout: Heldout = None,
    data_dir: DataDir = None, device: Device = None, dtype: Dtype = "float32", out: Out = None,
    overwrite: Overwrite = False, json: Json = False,
) -> None:  # fmt: skip
    """Train a model and judge it on held-out rows; `--set latent_dim=2,5,10` trains one for each value."""
    from .checkpoint import check_stopped
    from .files import check_out
    from .fitting import fit_each, fit_one
    from .methods import bound_of
    from .settings import sweep
    from .source import Source

    out = check_stopped(check_out(out, overwrite), overwrite)
    source = Source(model, data, engine, tuple(set_ or ()), likelihood, binarise, heldout, data_dir, device, labels, seed)
    options: dict[str, Any] = {
        "estimator": estimator, "batch": batch, "lr": lr, "restarts": restarts, "patience": patience,
        "bound": bound_of(model, bound), "num_particles": particles, "beta": beta, "anneal": anneal, "alternate": alternate,
        "dtype": dtype, "chains": chains, "sweeps": sweeps, "noise": noise, "greedy": greedy,
        "checkpoint_every": checkpoint_every, "rhat": converged, "seconds": max_seconds, "steps": max_steps,
    }  # fmt: skip
    if (values := sweep(model, source.settings)) is not None:
        told = fit_each(source, *values, method, epochs, evaluate, options, out)
    else:
        told = fit_one(source, method, epochs, evaluate, options, out)
    emit(told) if json else echo(told["verdict_sentence"])


@app.command()
def check(
    model: Model, data: Data = "digits", engine: Engine = "numpyro",
    estimator: Annotated[str | None, typer.Option(help="A gradient estimator; chosen for each site if left out.")] = None,
    bound: BoundName = None, batch: Annotated[int | None, typer.Option(help="Rows to look at; 128 if left out.")] = None,
    seed: Seed = 0,
    labels: Annotated[int | None, typer.Option(help="Known labels, where the model takes some: 100 if left out.")] = None,
    set_: Set = None, likelihood: Likelihood = None, binarise: Binarise = None, heldout: Heldout = None,
    data_dir: DataDir = None, json: Json = False,
) -> None:  # fmt: skip
    """Look at a model, its data and an estimator before anything is compiled; exit 3 if the model itself is wrong."""
    from .check.command import of_source
    from .methods import bound_of
    from .source import Source

    asked = tuple(set_ or ())
    source = Source(model, data, engine, asked, likelihood, binarise, heldout, data_dir, None, labels, seed)
    told, text = of_source(source, estimator, bound_of(model, bound), batch)
    emit({"command": command(), **told}) if json else echo(text)
    if told["problems"]:
        raise typer.Exit(3)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="The directory of a fit by svi or of an energy, finished or stopped.")],
    epochs: Annotated[int | None, typer.Option(help="Passes in all, those done counted; as asked before if left out.")] = None,
    other_versions: Annotated[bool, typer.Option("--other-versions", help="Even if other libraries wrote it.")] = False,
    data_dir: DataDir = None, json: Json = False,
) -> None:  # fmt: skip
    """Go on with a fit from its last checkpoint, as if it had never stopped."""
    from .resuming import resume as run_on

    told = run_on(run, epochs, data_dir, other_versions)
    emit(told) if json else echo(told["verdict_sentence"])


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(help="The directory of a fit.")],
    num: Annotated[int, typer.Option(help="How many rows to draw.")] = 64,
    label: Annotated[int | None, typer.Option(help="Of every row, where the model is conditional on one.")] = None,
    seed: Seed = 0, data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="A .npz file for the draws, their means and latents.")] = None,
    overwrite: Overwrite = False, json: Json = False,
) -> None:  # fmt: skip
    """Draw rows from a fitted model."""
    from . import sampling

    told, arrays = sampling.sample(run, num, label, seed, data_dir, out, overwrite)
    if out:
        sampling.write_arrays(out, arrays)
        note(f"written to {out}")
    emit({"command": command(), **told}) if json else echo(told["verdict_sentence"])


@app.command()
def diagnose(
    run: Annotated[Path, typer.Argument(help="The directory of a fit.")],
    draws: Annotated[int | None, typer.Option(help="Of an energy: states of each chain that are looked at, two sweeps apart: "
                                              "500. Of a guide: draws of its global latents; as many as are cheap.")] = None,
    chains: Annotated[int | None, typer.Option(help="Of an energy: chains that go on from those of the run: 8.")] = None,
    samples: Annotated[int | None, typer.Option(help="Importance samples of log p(x) a row: those of the fit; 5000 are "
                                                "tight.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Write posterior.nc, which ArviZ reads, into the directory.")] = False,
    seed: Seed = 0, data_dir: DataDir = None, json: Json = False,
) -> None:  # fmt: skip
    """Say whether a fit can be relied on, and what to do next; exit 3 if it is not to be used."""
    from .diagnostics.diagnose import of_run

    told = of_run(run, chains, draws, seed, data_dir, samples, save)
    if json:
        emit({"command": command(), **told})
    else:
        echo(told["verdict_sentence"])
        for reason in told["reasons"]:
            echo(f"- {reason}")
    if told["verdict"] == "do not use":
        raise typer.Exit(3)


@app.command()
def compare(
    model: Model, data: Data = "digits", engine: Engine = "numpyro",
    estimators: Annotated[str | None, typer.Option(help="Names, separated by commas; all if left out.")] = None,
    replicates: Annotated[int, typer.Option(help="Gradients drawn of each estimator at each point.")] = 1000,
    budget: Annotated[float | None, typer.Option(help="Seconds for the probing; fewer replicates where it runs out.")] = None,
    epochs: Annotated[int, typer.Option(help="Length of the training curves.")] = 10,
    seeds: Annotated[int, typer.Option(help="Training curves an estimator.")] = 3,
    batch: Batch = None, lr: Lr = 1e-3, bound: BoundName = None, particles: Particles = None, seed: Seed = 0,
    labels: Annotated[int | None, typer.Option(help="Known labels, where the model takes some: 100 if left out.")] = None,
    set_: Set = None, likelihood: Likelihood = None, binarise: Binarise = None, heldout: Heldout = None,
    data_dir: DataDir = None, device: Device = None, dtype: Dtype = "float32", out: Out = None,
    overwrite: Overwrite = False, json: Json = False,
) -> None:  # fmt: skip
    """Measure gradient estimators on a model and data: bias, variance, cost, and where training arrives."""
    from .compare import compare as run
    from .files import check_out, to_json, write
    from .methods import bound_of, check_method
    from .source import Source
    from .words import table

    out = check_out(out, overwrite)
    names = None if estimators is None else [name.strip() for name in estimators.split(",") if name.strip()]
    asked = tuple(set_ or ())
    declaration, rows = Source(
        model, data, engine, asked, likelihood, binarise, heldout, data_dir, device, labels, seed).open()  # fmt: skip
    check_method(declaration, model, "svi")
    found = run(
        declaration, rows, engine=engine, estimators=names, replicates=replicates, budget=budget, epochs=epochs,
        seeds=seeds, batch=batch, lr=lr, bound=bound_of(model, bound), num_particles=particles, seed=seed, device=device,
        dtype=dtype, progress=Status(rows.card),
    )  # fmt: skip
    note(f"device: {found.results['manifest']['device']}, {dtype}")
    results = {"command": command(), **found.results, "model": model}
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write(out / "report.html", found.html({"command": command()}))
        write(out / "results.json", to_json(results))
        write(out / "run.json", to_json({"command": command(), **found.results["manifest"]}))
        note(f"written to {out}")
    if json:
        emit(results)
    else:
        echo(table(results))
        echo(results["verdict_sentence"])


def again(typed: list[str]) -> str:
    """How to go on once there is space: a fit that is kept has left its checkpoints."""
    out = [name.removeprefix("--out=") for flag, name in zip(typed, typed[1:], strict=False)
           if flag == "--out" or name.startswith("--out=")]  # fmt: skip
    out = typed[2:3] if typed[1:2] == ["resume"] else out if typed[1:2] == ["fit"] else []
    return f"`ppl resume {out[-1]}`" if out else "do the same again"


def main() -> None:
    """Run the command line; every expected failure is one sentence."""
    try:
        code = app(prog_name="ppl", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except UsageError as error:
        asked = error.ctx.command_path if getattr(error, "ctx", None) else "ppl"  # type: ignore[attr-defined]
        told = error.format_message().replace(". ", ", ").rstrip(".?")  # type: ignore[attr-defined]
        note(f"ppl: {told}; see {asked} --help.")
        code = 2
    except InputError as error:
        note(f"ppl: {error}")
        code = 2
    except NumericalError as error:
        note(f"ppl: {error}")
        code = 4
    except BrokenPipeError:
        code = 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        note(f"ppl: the disk is full ({error.strerror}); free some space, then {again(sys.argv)}.")
        code = 4
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
