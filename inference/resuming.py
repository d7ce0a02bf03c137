"""`ppl resume`: a fit goes on from the last checkpoint in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ppl_models import CATALOGUE, InputError

from .checkpoint import FORGED, Checkpoints, reason
from .checks import check_settings
from .console import History, Progress, note
from .files import to_json, write
from .methods import ENERGY, SVI_ONLY

#: What the manifest of a fit by svi holds of its settings.
OPTIONS = {*SVI_ONLY, "restarts", "dtype", "checkpoint_every"}


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
    from .fitting import told_of_energy, told_of_fit, trained
    from .source import source_of

    if str(run) in CATALOGUE and not run.exists():
        raise InputError(f"expected the directory of a fit, got the model '{run}'; fit it first: "
                         f"ppl fit {run} --out runs/{run}, then ppl resume runs/{run}.")  # fmt: skip
    if not run.is_dir():
        raise InputError(f"{run} is no directory; give that of a fit.")
    if epochs is not None:
        check_settings(epochs=epochs)
    if not Checkpoints(run / "checkpoint").steps():
        raise InputError(f"{run} holds no checkpoint to go on from (fits by svi and of energies keep some, and EM, "
                         "coordinate ascent and NUTS run as one program); fit again with --out.")
    _, _, facts, wrong, _ = Checkpoints(run / "checkpoint").load()
    for sentence in wrong:
        note(f"passed over: {sentence}")
    try:
        about, history = facts["about"], facts["history"]
        options, method, asked = dict(about["options"]), str(about["method"]), str(about["command"])
        if method not in ("svi", *ENERGY) or method == "svi" and set(options) != OPTIONS:
            raise ValueError(f"the settings of {method} are others")
        done = sum("layer" not in row for row in history)  # greedy epochs are counted apart
        done -= sum(row["epoch"] == 0 for row in history)  # the state before training
        source = source_of(about["source"], data_dir)
        total = epochs if epochs is not None else 30 if about["epochs"] is None else int(about["epochs"])
        every = options["checkpoint_every"]
        checkpoints = Checkpoints(run / "checkpoint", 10 if every is None else every, {**about, "epochs": total})
    except FORGED as error:
        told = f"{run / 'checkpoint'} was not written by `ppl fit` ({reason(error)})"
        raise InputError(f"{told}; resume it from Python.") from None
    if total < done:
        raise InputError(f"expected --epochs to be at least the {done} done, got {total}; ask for more in all.")
    declaration, rows = source.open()
    note(f"going on after epoch {done} of {total}")
    with Progress(total, rows.card) as progress:
        ran = list[int]()
        shown = [progress, History(run, history), lambda row: ran.append(row["epoch"])]
        if method != "svi":
            found = runs.train(source, declaration, rows, method, total, shown, options, checkpoints, True, other_versions)
        else:
            given = {name: value for name, value in options.items() if name != "checkpoint_every"}
            given |= {"engine": source.engine, "device": source.device, "seed": source.seed, "checkpoints": checkpoints,
                      "resume": True, "other_versions": other_versions}  # fmt: skip
            found = trained(source, declaration, rows, method, total, shown, given, run)
            if more := [sentence for sentence in found.passed_over if sentence not in wrong]:
                for sentence in more:  # whole, but no state of this training: what came of an earlier one counts
                    note(f"passed over: {sentence}")
                write(run / "history.jsonl", "".join(to_json(row, indent=None) + "\n" for row in found.history))
                done = min([done, *(epoch - 1 for epoch in ran)])
    found.manifest["resumed_after"] = done
    if method != "svi":
        return told_of_energy(found, source, rows, asked, run)
    return told_of_fit(found, source, method, about.get("samples"), options, asked, run)
