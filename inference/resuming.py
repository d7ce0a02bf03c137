"""`ppl resume`: a fit goes on from the last checkpoint in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ppl_models import CATALOGUE, InputError

from .checkpoint import Checkpoints
from .checks import check_settings
from .console import History, Progress, note


def resume(run: Path, epochs: int | None, data_dir: str | None = None, other_versions: bool = False) -> dict[str, Any]:
    """The results of the whole fit, as `ppl fit` tells and keeps them.

    Args:
        run: The directory of the fit.
        epochs: Passes in all; those asked for before if left out.
        data_dir: Where data sets lie now.
        other_versions: Go on even if other versions of the libraries wrote the checkpoint.

    Raises:
        InputError: There is no checkpoint, it is of another training, or fewer epochs are asked for than were done.
    """
    from . import energy_runs as runs
    from .fitting import told_of_energy
    from .runs import Source

    if str(run) in CATALOGUE and not run.exists():
        raise InputError(f"expected the directory of a fit, got the model '{run}'; fit it first: "
                         f"ppl fit {run} --out runs/{run}, then ppl resume runs/{run}.")  # fmt: skip
    if not run.is_dir():
        raise InputError(f"{run} is no directory; give that of a fit.")
    if epochs is not None:
        check_settings(epochs=epochs)
    if not Checkpoints(run / "checkpoint").steps():
        raise InputError(f"{run} holds no checkpoint to go on from (fits of energies keep some); fit again with --out.")
    saved = Checkpoints(run / "checkpoint").load()
    for sentence in saved.damaged:
        note(f"passed over: {sentence}")
    about = saved.facts["about"]
    try:
        asked, options = about["source"], about["options"]
        done = sum("layer" not in row for row in saved.facts["history"])  # greedy epochs are counted apart
        source = Source(**{**asked, "settings": tuple(asked["settings"]), "data_dir": data_dir or asked["data_dir"]})
        total = epochs if epochs is not None else 30 if about["epochs"] is None else about["epochs"]
        every = options["checkpoint_every"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{run / 'checkpoint'} was not written by `ppl fit` ({error}); resume it from Python.") from None
    if total < done:
        raise InputError(f"expected --epochs to be at least the {done} done, got {total}; ask for more in all.")
    declaration, rows = source.open()
    checkpoints = Checkpoints(run / "checkpoint", 10 if every is None else every, {**about, "epochs": total})
    note(f"going on after epoch {done} of {total}")
    with Progress(total, rows.card) as progress:
        shown = [progress, History(run, saved.facts["history"])]
        found = runs.train(source, declaration, rows, about["method"], total, shown, options, checkpoints, True, other_versions)
    found.manifest["resumed_after"] = done
    return told_of_energy(found, source, rows, about["command"], run)
