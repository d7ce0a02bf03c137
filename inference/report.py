"""What a run found, as one html file that needs nothing else: the verdict first, then the numbers, then the plots."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from . import fit_plots, images, plots
from .numbers import Row, finite, interval, number, percent, seconds
from .plots import Look, Series

_MOST_PICTURES = 64
_SIGNS = {"exact": "=", "unbiased": "✓", "biased": "✗", "inconclusive": "?"}


def compare_report(results: Mapping[str, Any], pictures: Mapping[str, np.ndarray], image_shape: tuple[int, int] | None) -> str:
    """The page of `ppl compare`."""
    rows, curves = _labelled(results.get("estimators") or [], results.get("curves") or [])
    looks = {name: Look(i) for i, name in enumerate(dict.fromkeys(row["label"] for row in [*rows, *curves]))}
    shown = [row for row in rows if row.get("applicable")]
    axes = {"seconds": "time of training (s)", "steps": "training steps"}
    page = [
        ("Variance", _VARIANCE, plots.svg(plots.variance, shown, looks)),
        ("Bias", _BIAS, plots.svg(plots.bias, shown, looks)),
        ("Variance against cost", _COST, plots.svg(plots.cost, shown, looks)),
        ("Training", _CURVES, plots.svg(plots.elbo, _medians(curves, looks), axes, None)),
    ]
    table = {"columns": [column[:2] for column in _COLUMNS], "groups": _groups(rows, looks)}
    facts = _facts(results) + _reference(results.get("reference") or {})
    return _render(results, facts, page, pictures, image_shape, table=table)


def fit_report(
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, np.ndarray],
    image_shape: tuple[int, int] | None,
) -> str:
    """The page of `ppl fit`."""
    base = results.get("baseline") or {}
    level = finite(base.get("value"))
    baseline = None if math.isnan(level) else (str(base.get("name") or "baseline"), level)
    series = [_history(history, "train_elbo", "train", 0), _history(history, "heldout_elbo", "held out", 1)]
    drawn = plots.svg(plots.elbo, series, {"epochs": "epochs", "seconds": "time of training (s)"}, baseline)
    numbers = [
        ("Held-out ELBO", nats(results.get("heldout_elbo"), " nats per datum")),
        ("Held-out log likelihood", nats(results.get("heldout_log_likelihood"), " nats per datum")),
        (f"Baseline: {base.get('name') or '–'}", nats(base.get("value"), " nats per datum")),
        ("Estimator", str(results.get("estimator") or "–")),
        ("One step", seconds(results.get("seconds_per_step"))),
    ]
    numbers = [fact for fact in numbers if fact[0] != "Held-out log likelihood" or fact[1] != "–"]
    found = results.get("evaluation") or {}
    used = (_used(found), plots.svg(fit_plots.usage, found.get("kl") or {}, found.get("variances") or {}, _threshold(found)))
    page = [("Training", _FIT, drawn), ("Latent dimensions", *used)]
    return _render(results, _likelihood(found) + numbers + _facts(results), page, pictures, image_shape)


def energy_report(
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, np.ndarray],
    image_shape: tuple[int, int] | None,
    energies: Mapping[str, np.ndarray],
    trace: np.ndarray,
    ranks: np.ndarray,
) -> str:
    """The page of `ppl fit` of an energy.

    Args:
        results: What the run told, its `diagnosis` with it.
        history: One row an epoch.
        pictures: Rows to show, by name.
        image_shape: Of a row, if rows are images.
        energies: By what they are of: held-out rows, states that chains reached; nats.
        trace: Energies along chains, (chains, draws).
        ranks: Those of `trace` among all of its values.
    """
    found = results.get("diagnosis") or {}
    seen = {row["name"]: row for row in found.get("observables") or []}
    base, judged = results.get("baseline") or {}, results.get("likelihood") or {}
    sides = judged.get("sides") or {}
    how = "enumerated" if judged.get("kind") == "enumerated" else (
        f"annealed; log p(x) by forward runs {number(sides.get('optimistic'))}, which flatter, by reverse runs from chains "
        f"{number(sides.get('approximate'))}"
    )  # fmt: skip
    numbers = [
        (f"Held-out {judged.get('bound') or 'log p(x)'}", nats(results.get("heldout_log_likelihood"), " nats per datum")),
        ("log Z", f"{nats(judged.get('log_partition'), ' nats')}, {how}, at β = 1" if judged else "–"),
        (f"Baseline: {base.get('name') or '–'}", nats(base.get("value"), " nats per datum")),
        ("Method", str(results.get("method") or "–")),
        ("One step", seconds(results.get("seconds_per_step"))),
    ]
    every, effective = int(found.get("sweeps_between_draws") or 1), finite(seen.get("energy", {}).get("ess_bulk"))
    page = [
        ("Do model and data agree?", _ENERGIES, plots.svg(fit_plots.energies, energies)),
        ("Do the chains mix?", _MIXING, plots.svg(fit_plots.mixing, trace, ranks, every, effective)),
        ("Training", _ENERGY, plots.svg(fit_plots.objective, history)),
    ]
    return _render(
        results, numbers + _still(found) + _facts(results), page, pictures, image_shape, listing=_observables(found),
        judged=_judged(found),
    )  # fmt: skip


_ENERGY = ("What training followed, the mean of each epoch. Unless training is exact it is a difference of free energies: no "
           "likelihood, and no sign of progress where it stays near 0.")  # fmt: skip
_ENERGIES = ("Energies of held-out rows (hidden units drawn given each) and of states that the model's chains reached: the "
             "more the hills agree, the more the model's states are like the data. Several hills that nothing joins would be a "
             "sign of chains that do not mix.")  # fmt: skip
_MIXING = ("Left, the energy along chains: they should cross each other again and again. Right, for each chain, how often its "
           "energies stand low or high among those of all chains. Flat bars, most of them inside the grey band, mean that all "
           "chains see the same law; a slope or a hill, that a chain still remembers where it began.")  # fmt: skip
_KINDS = {"trust": "unbiased", "caution": "inconclusive", "do not use": "biased"}  # classes of colour


def _judged(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdict for the head of the page."""
    if not found:
        return None
    word, _, rest = str(found["verdict_sentence"]).partition(": ")
    told = {"word": word, "kind": _KINDS[found["verdict"]], "rest": rest.partition(" Next, type")[0]}
    return {**told, "reasons": found["reasons"], "next": found["next"]}


def _observables(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of what was followed along the chains."""
    if not found:
        return None
    rows = [
        [(row["name"], ""), (number(row["mean"]), f"sd {number(row['sd'])}"),
         ("–" if row["rhat"] is None else f"{row['rhat']:.3f}", "1.000 is best"), *_effective(row, found["chains"])]
        for row in found["observables"]
    ]  # fmt: skip
    title = f"{found['chains']} chains, {number(found['draws'])} draws of each, {found['sweeps_between_draws']} sweeps apart"
    return {"title": title, "columns": ["followed", "mean", "R-hat", "effective draws a chain", "of the tails"], "rows": rows}


def _effective(row: Row, chains: int) -> list[tuple[str, str]]:
    return [(number(finite(row[key]) / chains), "") for key in ("ess_bulk", "ess_tail")]


def _still(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the table leaves out: units that never moved, and round trips."""
    if not found:
        return []
    still = ", ".join(f"{count} of {found['units'][site]} in {site}" for site, count in found["constant_units"].items())
    facts = [("Units that never moved", f"{still}; {found['stuck']} of them vary in the data")]
    return facts + ([("Round trips", ", ".join(number(int(n)) for n in found["trips"]))] if found["trips"] else [])


def sweep_report(rows: Sequence[Mapping[str, Any]], key: str, results: Mapping[str, Any]) -> str:
    """The page of several fits that differ in one setting.

    Args:
        rows: One a fit, with the setting's value under `key` and the bounds `heldout_elbo` and, where there is one,
            `log_likelihood`: estimates in nats per datum; any of `kl` (nats), `active_units` and `seconds` too.
        key: The setting, such as latent_dim.
        results: What the fits share: command, verdict_sentence, model, data, engine, manifest.
    """
    bounds = {name: text for name, text in _BOUNDS.items() if any(row.get(name) is not None for row in rows)}
    drawn = plots.svg(fit_plots.sweep, rows, key, bounds)
    cells = {name: _bound(name) for name in _BOUNDS} | {
        "kl": _of("kl", number), "active_units": _of("active_units", number), "seconds": _of("seconds", seconds)
    }  # fmt: skip
    shown = [name for name in cells if any(row.get(name) is not None for row in rows)]
    listing = {
        "title": "Fits",
        "columns": [key, *(_HEADS[name] for name in shown)],
        "rows": [[(_value(row.get(key)), ""), *(cells[name](row) for name in shown)] for row in rows],
    }
    return _render(results, _facts(results), [(f"The bound by {key}", _SWEEP, drawn)], {}, None, listing=listing)


_BOUNDS = {"heldout_elbo": "ELBO", "log_likelihood": "log-likelihood"}
_HEADS = {"heldout_elbo": "held-out ELBO", "log_likelihood": "held-out log-likelihood", "kl": "KL",
          "active_units": "active units", "seconds": "training"}  # fmt: skip


def _likelihood(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an `Evaluation` says of the density."""
    if not found:
        return []
    how = "in closed form" if found.get("kind") == "exact" else (
        f"{found.get('bound')}, a lower bound in expectation, by importance sampling with {number(found.get('num_samples'))} "
        f"samples a row; standard error of sampling {number(found.get('standard_error_sampling'))}, "
        f"of rows {number(found.get('standard_error_rows'))}; short of log p(x) by about {number(found.get('shortfall'))}"
    )  # fmt: skip
    share = f"{number(found.get('effective_samples'))} of {number(found.get('num_samples'))} samples a row (median)"
    return [
        ("Log-likelihood", nats(found.get("log_likelihood"), " nats per datum")),
        ("How", f"{how}; {number(found.get('rows'))} held-out rows, {found.get('binarisation') or '–'}"),
        ("Above the ELBO by", nats(found.get("gap"), " nats per datum")),
        ("Effective samples", share),
    ]


def _used(found: Mapping[str, Any]) -> str:
    """The caption of the latent dimensions."""
    active, variances = found.get("active_units") or {}, found.get("variances") or {}
    told = [f"{number(count)} of {number(np.size(variances.get(site, ())))} in {site}" for site, count in active.items()]
    rule = f"a unit is active if Var(E[z | x]) > {number(_threshold(found))}"
    units = f" Active units: {', '.join(told)}; {rule}." if told else ""
    return f"KL(q(z | x) ‖ p(z)) of each dimension, the mean over held-out rows.{units} Faint bars are not active."


def _threshold(found: Mapping[str, Any]) -> float:
    value = finite(found.get("threshold"))
    return 0.01 if math.isnan(value) else value


def _bound(key: str) -> Callable[[Row], tuple[str, str]]:
    def cell(row: Row) -> tuple[str, str]:
        value, _, ends = nats(row.get(key)).partition(" (")
        return value, ends.rstrip(")")

    return cell


def nats(estimate: Any, unit: str = "") -> str:
    """A bound with as many digits as its interval bears."""
    value, low, high = interval(estimate)
    if math.isnan(value):
        return "–"
    width = high - low
    digits = min(4, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else 2
    ends = f" ({low:.{digits}f} to {high:.{digits}f})" if width > 0 else ""
    return f"{value:.{digits}f}{unit}{ends}".replace("-", "−")


_VARIANCE = "Less is better. Bars are 95 % intervals; an arrow at the left edge lies beyond it."
_BIAS = "A mark right of its faint bar is a bias that the replicates can see. An arrow at the left edge lies beyond it."
_COST = "Down and left is better. Along a diagonal the efficiency, 1 / (variance × seconds), is the same."
_CURVES = "Held-out bound; the median over seeds, with a band from the worst seed to the best. Up is better."
_SWEEP = "The held-out bound of each fit, nats per datum, with its 95 % interval. Up is better."
_FIT = "The bound on data that was fitted and on data that was held out, with 95 % bands. Up is better."


def _of(key: str, text: Callable[[Any], str]) -> Callable[[Row], tuple[str, str]]:
    """A cell of a plain number, or of an estimate with its interval below."""

    def cell(row: Row) -> tuple[str, str]:
        found = row.get(key)
        if not isinstance(found, Mapping):
            return text(found), ""
        value, low, high = interval(found)
        return text(value), f"{text(low)} to {text(high)}" if high > low else ""

    return cell


_COLUMNS: tuple[tuple[str, str, Callable[[Row], tuple[str, str]]], ...] = (
    ("efficiency", "1 / (variance × s)", _of("efficiency", number)),
    ("variance", "(nats per datum)²", _of("variance_trace", number)),
    ("time", "a training gradient", _of("seconds_per_gradient", seconds)),
    ("vectorised", "time a replicate", _of("seconds_per_gradient_vectorised", seconds)),
    ("bias", "of ‖g‖", _of("bias_relative", percent)),
    ("would be seen", "bias, of ‖g‖", _of("minimal_detectable_bias", percent)),
    ("largest |z|", "of the bias", _of("bias_max_abs_z", number)),
    ("signal to noise", "of one gradient", _of("snr", number)),
    ("evaluations", "of the model", _of("model_evaluations", number)),
    ("replicates", "", _of("replicates", number)),
    ("final ELBO", "nats per datum, held out", _bound("final_elbo")),
)


def _labelled(rows: Sequence[Row], curves: Sequence[Row]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows with the name they go by: the engine joins it only where it tells two apart."""
    several = len({row.get("engine") for row in [*rows, *curves]}) > 1

    def label(row: Row) -> str:
        return f"{row['name']} · {row.get('engine')}" if several else str(row["name"])

    return [{**row, "label": label(row)} for row in rows], [{**curve, "label": label(curve)} for curve in curves]


def _groups(rows: Sequence[Row], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """An entry for each estimator, those that do not apply last; the most efficient of the right ones is marked."""
    best: dict[Any, float] = {}
    for row in rows:
        if row.get("applicable") and row.get("verdict") in ("exact", "unbiased"):
            best[row.get("point")] = max(best.get(row.get("point"), 0.0), finite(row.get("efficiency")) or 0.0)
    groups = []
    for name in dict.fromkeys(row["label"] for row in rows):
        lines: list[dict[str, Any]] = []
        for row in (row for row in rows if row["label"] == name):
            right = row.get("verdict") in ("exact", "unbiased")
            line = {
                "point": row.get("point") or "–",
                "verdict": row.get("verdict") or "–",
                "sign": _SIGNS.get(row.get("verdict") or "", ""),
                "unbiased_for": ", ".join(row.get("unbiased_for") or []) or "–",
                "reason": None if row.get("applicable") else row.get("reason") or "does not apply",
                "best": right and finite(row.get("efficiency")) == best.get(row.get("point")),
                "cells": [column[2](row) for column in _COLUMNS],
            }
            if lines and line["reason"] and line["reason"] == lines[-1]["reason"]:
                lines[-1]["point"] += f", {line['point']}"
            else:
                lines.append(line)
        applies = any(line["reason"] is None for line in lines)
        hue = looks[name].index % len(plots.SERIES)
        groups.append({"name": name, "hue": hue, "lines": lines, "applies": applies})
    return sorted(groups, key=lambda group: not group["applies"])


def _medians(curves: Sequence[Row], looks: Mapping[str, Look]) -> list[Series]:
    """One series an estimator, over the steps that any of its seeds has reached."""
    out = []
    for name in dict.fromkeys(curve["label"] for curve in curves):
        points: dict[int, list[tuple[float, float]]] = {}
        for curve in (c for c in curves if c["label"] == name):
            keys = (curve.get(key) or [] for key in ("steps", "seconds", "elbo"))
            for step, time, value in zip(*keys, strict=False):
                if not any(math.isnan(finite(part)) for part in (step, time, value)):
                    points.setdefault(step, []).append((time, value))
        steps = sorted(points)
        time, middle = (np.array([np.median([p[i] for p in points[step]]) for step in steps]) for i in (0, 1))
        low, high = (np.array([end(p[1] for p in points[step]) for step in steps]) for end in (min, max))
        out.append(Series(name, looks[name], {"steps": np.array(steps), "seconds": time}, middle, low, high))
    return out


def _history(history: Sequence[Row], key: str, label: str, index: int) -> Series:
    """The epochs at which this bound was measured."""
    rows = [row for row in history if not math.isnan(interval(row.get(key))[0])]
    bounds = np.array([interval(row.get(key)) for row in rows]).reshape(-1, 3)
    epochs, time = (np.array([finite(row.get(name)) for row in rows]) for name in ("epoch", "seconds"))
    return Series(label, Look(index), {"epochs": epochs, "seconds": time}, bounds[:, 0], bounds[:, 1], bounds[:, 2])


def _facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, manifest = results.get("data") or {}, results.get("manifest") or {}
    settings, versions = results.get("settings") or {}, manifest.get("versions") or {}
    size = f"{number(data.get('num_data'))} × {number(data.get('data_dim'))}"
    listed = ", ".join(f"{key} {_value(value)}" for key, value in settings.items())
    facts = [
        ("Model", f"{results.get('model') or '–'}" + (f" ({listed})" if listed else "")),
        ("Data", f"{data.get('name') or '–'}, {size}. {data.get('card') or ''}".strip()),
        ("Binarisation", data.get("binarisation")),
        ("Engine", results.get("engine")),
        ("Device", " · ".join(str(manifest[key]) for key in ("device", "dtype") if manifest.get(key))),
        ("Seed", None if manifest.get("seed") is None else str(manifest["seed"])),
        ("Wall time", seconds(manifest.get("wall_seconds"))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(name, str(text or "–")) for name, text in facts]


def _reference(reference: Mapping[str, Any]) -> list[tuple[str, str]]:
    parts = [str(reference.get("kind") or "–")]
    for point, found in (reference.get("points") or {}).items():
        norm, error = ((found or {}).get(key) for key in ("gradient_norm", "relative_error"))
        parts.append(f"{point}: ‖g‖ = {number(norm)}, known to {percent(error)}")
    return [("Reference gradient", "; ".join(parts))]


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


_GRIDS = {
    "fantasies": ("Chains as they go on", "A row a chain, a column a moment: a row that stays as it is does not mix"),
    "classes": ("Every class in every style", "A row a style drawn from the prior, a column a class"),
    "analogies": ("Analogies", "First, a held-out row; then its style under every class"),
    "imputations": ("Missing pixels", "Held-out rows: whole; without the lower half; with it imputed"),
    "completions": ("Completions", "Held-out rows: what the model is given; four draws of the rest; whole"),
    "interpolations": ("Interpolations", "Along straight lines between the codes of two held-out rows"),
    "traversals": ("Traversals", "A row a latent dimension, from −2.5 to 2.5, those that vary most with the data first"),
    "manifold": ("The plane of the latent variables", "One image for each place in the plane"),
}


def _pictures(pictures: Mapping[str, np.ndarray], image_shape: tuple[int, int] | None) -> list[dict[str, str]]:
    """Image grids where the data are images, else heat maps; reconstructions stand under their data."""
    found = {name: np.asarray(value, float) for name, value in pictures.items() if np.size(value)}
    grids = {name: found.pop(name) for name in _GRIDS if name in found}
    found = {name: value.reshape(len(value), -1) for name, value in found.items()}
    shown: list[dict[str, str]] = []
    if "reconstructions" in found and "data" in found and found["data"].shape[1] == found["reconstructions"].shape[1]:
        count = min(len(found["data"]), len(found["reconstructions"]), _MOST_PICTURES // 2)
        pair = np.stack([found.pop("data")[:count], found.pop("reconstructions")[:count]])
        drawn, how = _sheet(pair, image_shape)
        shown.append(_picture("Data and their reconstructions", drawn, f"Above, data; below, reconstructions{how}"))
    for name, title in (("data", "Data"), ("reconstructions", "Reconstructions"), ("samples", "Samples of the model"),
                        ("filters", "Couplings of the hidden units that weigh most")):
        if name in found:
            drawn, how = _sheet(found[name][None, :_MOST_PICTURES], image_shape)
            shown.append(_picture(title, drawn, how.lstrip(". "), signed=name == "filters"))
    for name, (title, caption) in _GRIDS.items():
        grid = grids.get(name)
        if grid is None or not image_shape or grid.ndim != 3 or grid.shape[-1] != math.prod(image_shape):
            continue
        if name in ("imputations", "completions"):  # lying down: what was done to a row stands below it
            grid = grid.transpose(1, 0, 2)
        drawn = images.tiles(grid.reshape(-1, grid.shape[-1]), grid.shape[1], image_shape)
        shown.append(_picture(title, drawn, caption))
    return shown


def _sheet(stacks: np.ndarray, image_shape: tuple[int, int] | None) -> tuple[np.ndarray, str]:
    """(stack, n, D) -> one picture, the stacks in turn line by line; and how to read it."""
    kinds, count, size = stacks.shape
    if not image_shape or size != math.prod(image_shape):
        gap = np.full((1, size), np.nan)
        lines = [part for stack in stacks for part in (stack, gap)]
        return np.concatenate(lines)[:-1], ". A line is a datum, a column a dimension"
    columns = min(count, 12 if kinds == 2 else 16)
    lines = [stack[i : i + columns] for i in range(0, count, columns) for stack in stacks]
    full = [np.concatenate([line, np.full((columns - len(line), size), np.nan)]) for line in lines]
    return images.tiles(np.concatenate(full), columns, image_shape), ""


def _picture(title: str, drawn: np.ndarray, how: str, signed: bool = False) -> dict[str, str]:
    """With its caption; the middle grey of `signed` values is 0."""
    solid = drawn[np.isfinite(drawn)]
    low, high = (float(solid.min()), float(solid.max())) if solid.size else (0.0, 1.0)
    if low >= 0 and high <= 1 and not signed:
        low, high = 0.0, 1.0
    if signed:
        low, high = -max(-low, high), max(-low, high)
        how = ". ".join(filter(None, (how, "Middle grey is no coupling; white favours the pixel, black its absence")))
    caption = ". ".join(part for part in (how, f"Black is {number(low)}, white {number(high)}.") if part)
    return {"title": title, "caption": caption, "address": images.png(drawn, low, high)}


def _render(
    results: Mapping[str, Any], facts: Sequence[tuple[str, str]], drawings: Sequence[tuple[str, str, str]],
    pictures: Mapping[str, np.ndarray], image_shape: tuple[int, int] | None, table: Mapping[str, Any] | None = None,
    listing: Mapping[str, Any] | None = None, judged: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files("inference").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    return page.render(
        title=f"{results.get('model') or 'model'} on {(results.get('data') or {}).get('name') or 'data'}",
        verdict=results.get("verdict_sentence") or "No verdict.",
        judged=judged,
        command=results.get("command") or "–",
        facts=facts,
        table=table,
        listing=listing,
        drawings=[(title, caption, Markup(drawn)) for title, caption, drawn in drawings if drawn],
        pictures=_pictures(pictures, image_shape),
        manifest=json.dumps(results.get("manifest") or {}, indent=2, ensure_ascii=False, default=str),
    )
