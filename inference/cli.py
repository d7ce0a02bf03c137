"""The command line: `ppl list | compare | fit`.

Exit 0: fine. 2: bad input, one sentence on stderr and nothing written. 4: the computation left the finite numbers.
With --json, stdout holds one strict JSON object and everything else goes to stderr.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ppl_models.errors import InputError, NumericalError

# typer ships its own click; the base class of all its usage errors has no public name.
UsageError: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    name="ppl", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Declare a latent-variable model once, infer it with Pyro or NumPyro, and measure the gradient estimators.",
)  # fmt: skip

Model = Annotated[str, typer.Argument(help="A model of the catalogue; `ppl list models` names them.")]
Data = Annotated[str, typer.Option(help="digits, mnist, or a .npy, .npz or .csv file of rows.")]
Engine = Annotated[str, typer.Option(help="numpyro or pyro.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, as in latent_dim=2 or hidden=200,200.")]
LIKELIHOODS = "bernoulli, normal[:SCALE|learned|per-dim], categorical[:CLASSES] or continuous-bernoulli."
Likelihood = Annotated[str | None, typer.Option(help=LIKELIHOODS)]
Binarise = Annotated[str | None, typer.Option(help="none, threshold, static or dynamic; the data set's own if left out.")]
Heldout = Annotated[str | None, typer.Option(help="A file of held-out rows, for your own data.")]
DataDir = Annotated[str | None, typer.Option(help="Where data sets lie; else PPL_DATA_DIR, else a cache.")]
Batch = Annotated[int | None, typer.Option(help="Rows a step; 128 if left out.")]
Lr = Annotated[float, typer.Option(help="Adam's step size.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
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
            echo(f"  {row['name']:<22}{row['summary']}")


@app.command()
def fit(
    model: Model, data: Data = "digits", engine: Engine = "numpyro",
    estimator: Annotated[str | None, typer.Option(help="A gradient estimator; chosen for each site if left out.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training rows.")] = 30,
    batch: Batch = None, lr: Lr = 1e-3, seed: Seed = 0,
    restarts: Annotated[int, typer.Option(help="Fits from different seeds; the best is kept.")] = 1,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better held-out ELBO.")] = None,
    set_: Set = None, likelihood: Likelihood = None, binarise: Binarise = None, heldout: Heldout = None,
    data_dir: DataDir = None, device: Device = None, dtype: Dtype = "float32", out: Out = None,
    overwrite: Overwrite = False, json: Json = False,
) -> None:  # fmt: skip
    """Train a model by stochastic variational inference and judge it on held-out rows."""
    from . import svi
    from .compare import describe
    from .files import check_out, save_params, strict, to_json, write
    from .pictures import pictures
    from .report import fit_report

    out = check_out(out, overwrite)
    declaration, rows = prepare(model, data, engine, set_, likelihood, binarise, heldout, data_dir, device)
    with Progress(epochs, rows.card) as progress:
        found = svi.fit(
            declaration, rows, engine=engine, estimator=estimator, epochs=epochs, batch=batch, lr=lr, seed=seed,
            restarts=restarts, patience=patience, device=device, dtype=dtype,
            callbacks=[progress, *([History(out)] if out else [])],
        )  # fmt: skip
    note(f"device: {found.manifest['device']}, {dtype}")
    results: dict[str, Any] = {
        "command": command(), "verdict_sentence": svi.sentence(found), "model": model, "settings": settings(declaration),
        "engine": engine, "estimator": estimator or "default", "data": describe(rows),
        "heldout_elbo": found.heldout_elbo, "heldout_log_likelihood": found.heldout_log_likelihood,
        "baseline": found.baseline and {"name": "independent pixels", **found.baseline.to_json()},
        "seconds_per_step": found.seconds_per_step, "setup_seconds": found.setup_seconds, "stopped": found.stopped,
        "epochs": found.history[-1]["epoch"], "restarts": found.restarts, "manifest": found.manifest,
    }  # fmt: skip
    if out:
        drawn = pictures(*found.bound, found.params, rows.heldout, engine, seed)
        save_params(out / "params.safetensors", found.params)
        write(out / "report.html", fit_report(strict(results), strict(found.history), drawn, rows.image_shape))
        write(out / "results.json", to_json(results))
        write(out / "run.json", to_json({"command": command(), **found.manifest}))
        note(f"written to {out}")
    emit(results) if json else echo(results["verdict_sentence"])


@app.command()
def compare(
    model: Model, data: Data = "digits", engine: Engine = "numpyro",
    estimators: Annotated[str | None, typer.Option(help="Names, separated by commas; all if left out.")] = None,
    replicates: Annotated[int, typer.Option(help="Gradients drawn of each estimator at each point.")] = 1000,
    budget: Annotated[float | None, typer.Option(help="Seconds for the probing; fewer replicates where it runs out.")] = None,
    epochs: Annotated[int, typer.Option(help="Length of the training curves.")] = 10,
    seeds: Annotated[int, typer.Option(help="Training curves an estimator.")] = 3,
    batch: Batch = None, lr: Lr = 1e-3, seed: Seed = 0,
    set_: Set = None, likelihood: Likelihood = None, binarise: Binarise = None, heldout: Heldout = None,
    data_dir: DataDir = None, device: Device = None, dtype: Dtype = "float32", out: Out = None,
    overwrite: Overwrite = False, json: Json = False,
) -> None:  # fmt: skip
    """Measure gradient estimators on a model and data: bias, variance, cost, and where training arrives."""
    from .compare import compare as run
    from .files import check_out, to_json, write
    from .words import table

    out = check_out(out, overwrite)
    names = None if estimators is None else [name.strip() for name in estimators.split(",") if name.strip()]
    declaration, rows = prepare(model, data, engine, set_, likelihood, binarise, heldout, data_dir, device)
    found = run(
        declaration, rows, engine=engine, estimators=names, replicates=replicates, budget=budget, epochs=epochs,
        seeds=seeds, batch=batch, lr=lr, seed=seed, device=device, dtype=dtype, progress=Status(rows.card),
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


def prepare(
    model: str, data: str, engine: str, settings: list[str] | None, likelihood: str | None, binarise: str | None,
    heldout: str | None, data_dir: str | None, device: str | None,
) -> tuple[Any, Any]:  # fmt: skip
    """The declaration and its data, all checked before an engine is imported."""
    from ppl_models.datasets import DATASETS, load
    from ppl_models.language import check_engine

    from .settings import declare, takes_binary

    check_engine(engine)
    if device not in (None, "cpu", "cuda"):
        raise InputError(f"expected --device cpu or cuda, got '{device}'; choose one of those or leave it out.")
    binary = takes_binary(model, likelihood)
    # A data set's own binarisation is for models that score binary data.
    chosen = binarise if binarise is not None else "none" if data in DATASETS and not binary else None
    rows = load(data, binarise=chosen, data_dir=data_dir, heldout=heldout)  # type: ignore[arg-type]
    return declare(model, rows.x.shape[1], settings or (), likelihood), rows


def settings(declaration: Any) -> dict[str, str]:
    """A declaration's fields, as text."""
    return {name: str(value) for name, value in vars(declaration).items()}


class Progress:
    """The data's card once the fit has begun, then a bar on a terminal, a line now and then elsewhere; changes no number."""

    def __init__(self, epochs: int, card: str) -> None:
        from rich.console import Console

        self.epochs, self.card, self.console, self.bar = epochs, card, Console(stderr=True), None

    def __enter__(self) -> Progress:
        from rich import progress

        if self.console.is_terminal:
            columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TimeRemainingColumn())
            self.bar = progress.Progress(*columns, console=self.console)
            self.bar.start()
            self.task = self.bar.add_task("compiling", total=self.epochs)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, row: dict[str, Any]) -> None:
        if row["epoch"] == 0:
            note(self.card)
        elbo = row["heldout_elbo"]
        text = f"epoch {row['epoch']}" + (f", held-out ELBO {elbo.value:.2f} nats" if elbo else "")
        if self.bar is not None:
            self.bar.update(self.task, completed=row["epoch"], description=text)
        elif row["epoch"] and row["epoch"] % max(1, self.epochs // 10) == 0:
            note(text)


class Status:
    """The data's card, then what `compare` is doing: one line that changes on a terminal, lines elsewhere."""

    def __init__(self, card: str) -> None:
        self.card = card

    def __call__(self, message: str) -> None:
        if self.card:
            note(self.card)
            self.card = ""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{message} ")
            sys.stderr.flush()
        elif not message.startswith("training with") or message.endswith("seed 0"):
            note(message)


class History:
    """Appends a flushed line an epoch to `history.jsonl`."""

    def __init__(self, out: Path) -> None:
        self.path = out / "history.jsonl"
        self.started = False

    def __call__(self, row: dict[str, Any]) -> None:
        from .files import to_json

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a" if self.started else "w", encoding="utf-8") as file:
            file.write(to_json(row, indent=None) + "\n")
        self.started = True


def command() -> str:
    """What was typed."""
    return shlex.join(["ppl", *sys.argv[1:]])


def emit(value: Any) -> None:
    """Print one strict JSON object on stdout."""
    from .files import to_json

    print(to_json(value))


def echo(text: str) -> None:
    """Print a result."""
    print(text)


def note(text: str) -> None:
    """Print what accompanies a result, on stderr."""
    print(text, file=sys.stderr)


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
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
