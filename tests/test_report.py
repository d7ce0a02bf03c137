from __future__ import annotations

import copy
import re
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

from inference import images, numbers, plots, report

NASTY = "<script>alert('x')</script>$\\frac{$.npz"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order; collects tags and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser


def around(value, share):
    return {"value": value, "low": value * (1 - share), "high": value * (1 + share)}


def estimator(name, point, scale, verdict, engine="numpyro"):
    return {
        "name": name, "engine": engine, "point": point, "applicable": True, "reason": None,
        "unbiased_for": [] if verdict == "biased" else ["elbo"], "verdict": verdict, "replicates": 1000,
        "bias_max_abs_z": 2.5, "bias_relative": around(0.01, 0.5), "minimal_detectable_bias": 0.02,
        "variance_trace": around(scale, 0.1), "snr": 0.7, "seconds_per_gradient": 2e-3,
        "seconds_per_gradient_vectorised": 1e-4, "model_evaluations": 1, "efficiency": 1 / (scale * 2e-3),
        "final_elbo": {"value": -103.27, "low": -103.5, "high": -103.0},
    }  # fmt: skip


def compared(names=("pathwise", "score", "relaxed", "enumerate")):
    verdicts = ("unbiased", "inconclusive", "biased", "exact")
    rows = [
        estimator(name, point, 10.0 ** (i % 8 - 3), verdicts[i % 4])
        for i, name in enumerate(names)
        for point in ("initial", "trained")
    ]
    refused = {"applicable": False, "reason": "site z is continuous", "verdict": None, "unbiased_for": ["elbo"]}
    rows += [{"name": "stock-traceenum", "engine": "numpyro", "point": p, **refused} for p in ("initial", "trained")]
    steps = list(range(0, 500, 50))
    curves = [
        {"name": name, "engine": "numpyro", "seed": seed,
         "steps": steps, "seconds": [0.01 * (i + 1) * s for s in steps],
         "elbo": [-100.0 - i - seed - 300 * 0.98**s for s in steps]}
        for i, name in enumerate(names) for seed in range(2)
    ]  # fmt: skip
    return {
        "command": "ppl compare vae --data digits", "verdict_sentence": "pathwise wins.", "model": "vae",
        "settings": {"latent_dim": 20, "hidden": [200, 200]}, "engine": "numpyro",
        "data": {"name": "digits", "card": "8 by 8", "binarisation": "threshold", "num_data": 1797, "data_dim": 64},
        "reference": {"kind": "long-run", "points": {"initial": {"gradient_norm": 3.2, "relative_error": 0.001}}},
        "estimators": rows, "curves": curves,
        "manifest": {"versions": {"numpyro": "0.22"}, "device": "cpu", "dtype": "float32", "seed": 0,
                     "wall_seconds": 312.0, "commit": None},
    }  # fmt: skip


def fitted():
    return {
        "command": "ppl fit vae", "verdict_sentence": "A fair fit.", "model": "vae", "settings": {}, "engine": "pyro",
        "estimator": "pathwise", "data": {"name": "digits"},
        "heldout_elbo": {"value": -21.13, "low": -21.5, "high": -20.8},
        "baseline": {"name": "independent pixels", "value": -31.2}, "seconds_per_step": 1.2e-3, "manifest": {"seed": 1},
    }  # fmt: skip


def history(epochs=6):
    return [
        {"epoch": e, "step": 10 * e, "seconds": 0.2 * e, "train_elbo": around(-40 + e, 0.01),
         "heldout_elbo": around(-42 + e, 0.02) if e % 2 else None}
        for e in range(epochs)
    ]  # fmt: skip


def pictures():
    x = np.random.default_rng(0).random((20, 64))
    holes = np.stack([x[:4], np.where(x[:4] > 0.5, np.nan, x[:4]), x[:4]], 1)
    grids = dict.fromkeys(("manifold", "classes", "analogies", "interpolations", "traversals"), x[:9].reshape(3, 3, 64))
    halves = np.repeat(holes, 2, 1)
    return {"data": x, "reconstructions": x, "samples": 3 * x - 1, "imputations": holes, "completions": halves, **grids}


def evaluated():
    return {
        "log_likelihood": {"value": -85.31, "low": -85.9, "high": -84.7}, "kind": "importance-sampled", "bound": "L_5000",
        "num_samples": 5000, "standard_error_sampling": 0.012, "standard_error_rows": 0.3, "shortfall": 0.05,
        "elbo": around(-89.0, 0.01), "gap": around(3.7, 0.01), "effective_samples": 41.5, "rows": 10_000,
        "binarisation": NASTY, "kl": {"z": [0.5, 2.5, 0.001], "y": 1.2}, "active_units": {"z": 2},
        "variances": {"z": [0.3, 0.9, 0.001]}, "threshold": 0.01,
    }  # fmt: skip


def swept():
    return [
        {"latent_dim": d, "heldout_elbo": around(-110 + d, 0.01), "log_likelihood": around(-105 + d, 0.01) if d < 20 else None,
         "kl": 3.0 + d, "active_units": d, "seconds": 20.0 * d}
        for d in (2, 5, 10, 20)
    ]  # fmt: skip


def nulled(tree):
    """The same tree, every number null."""
    if isinstance(tree, dict):
        return {key: nulled(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [nulled(value) for value in tree]
    return None if isinstance(tree, int | float) and not isinstance(tree, bool) else tree


PAGES = {
    "compare": lambda: report.compare_report(compared(), pictures(), (8, 8)),
    "compare-flat": lambda: report.compare_report(compared(), pictures(), None),
    "fit": lambda: report.fit_report(fitted(), history(), pictures(), (8, 8)),
    "fit-evaluated": lambda: report.fit_report(fitted() | {"evaluation": evaluated()}, history(), pictures(), (8, 8)),
    "fit-flat": lambda: report.fit_report(fitted(), history(), {"samples": np.ones((3, 5))}, None),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_stands_alone(page):
    html = PAGES[page]()
    parser = parsed(html)
    assert {"svg", "img", "details"} <= parser.tags
    assert not parser.tags & {"script", "link", "iframe", "metadata"}
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "url(http" not in html
    assert "@import" not in html


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_the_same_every_time(page):
    assert PAGES[page]() == PAGES[page]()


def test_the_verdict_is_before_the_table_and_each_estimator_has_its_own():
    results = compared()
    html = report.compare_report(results, {}, None)
    assert html.index("pathwise wins.") < html.index("<table") < html.index("<svg") < html.index("<details")
    bodies = re.findall(r"<tbody.*?</tbody>", html, re.DOTALL)
    assert len(bodies) == 5
    for row in results["estimators"]:
        body = next(body for body in bodies if f"</span>{row['name']}</th>" in body)
        assert (row["verdict"] or row["reason"]) in body
    assert bodies[-1].count("site z is continuous") == 1  # both points share one line
    assert "ppl compare vae --data digits" in html


def test_two_engines_are_told_apart():
    rows = [estimator("pathwise", "trained", 1.0, "unbiased", engine) for engine in ("pyro", "numpyro")]
    html = report.compare_report(compared() | {"estimators": rows, "curves": []}, {}, None)
    assert "pathwise · pyro" in html
    assert "pathwise · numpyro" in html


def test_whatever_is_given_is_escaped():
    results = compared((NASTY, "path & only"))
    results["data"] |= {"name": NASTY, "card": NASTY}
    results |= {"command": NASTY, "verdict_sentence": NASTY, "settings": {NASTY: NASTY}, "model": NASTY}
    results["manifest"][NASTY] = NASTY
    fit = fitted() | {"baseline": {"name": NASTY, "value": -31.2}, "verdict_sentence": NASTY}
    for html in (report.compare_report(results, {}, None), report.fit_report(fit, history(), {}, None)):
        assert "<script" not in html
        assert "script" not in parsed(html).tags
        assert "&lt;script&gt;" in html


def test_an_evaluation_says_how_log_likelihood_was_found_and_how_latents_are_used():
    html = report.fit_report(fitted() | {"evaluation": evaluated()}, history(), {}, None)
    text = " ".join(parsed(html).text)
    assert "−85.3 nats per datum (−85.9 to −84.7)" in text
    assert "L_5000, a lower bound in expectation" in text
    assert "sampling 0.0120, of rows 0.300" in text
    assert "2 of 3 in z" in text
    assert "dimension of z" in html
    assert html.count("opacity: 0.35") == 1  # the third unit alone is not active
    closed = report.fit_report(fitted() | {"evaluation": evaluated() | {"kind": "exact"}}, history(), {}, None)
    assert "in closed form" in closed
    assert "lower bound" not in closed
    assert "Latent dimensions" not in report.fit_report(fitted(), history(), {}, None)


def test_pictures_that_are_images_are_shown_with_captions():
    html = report.fit_report(fitted(), history(), pictures(), (8, 8))
    for name, (title, caption) in report._GRIDS.items():
        assert (title in html) == (caption in html) == (name in pictures())
    assert html.count("<img") == 9
    assert report.fit_report(fitted(), history(), pictures(), None).count("<img") == 2


def test_a_sweep_shows_every_fit():
    shared = {"command": "ppl fit vae --set latent_dim=2,5,10,20", "verdict_sentence": "20 is best.", "model": "vae"}
    html = report.sweep_report(swept(), "latent_dim", shared)
    parser = parsed(html)
    assert "svg" in parser.tags
    cells = " ".join(parser.text)
    for row in swept():
        assert report.nats(row["heldout_elbo"]).split(" (")[0] in cells
    assert html.count("<tr>") == 5
    assert html == report.sweep_report(swept(), "latent_dim", shared)
    named = [{"likelihood": name, "heldout_elbo": around(-3.0, 0.1)} for name in ("normal", NASTY)]
    assert "<script" not in report.sweep_report(named, "likelihood", {})
    parsed(report.sweep_report(nulled(swept()), "latent_dim", {}))
    parsed(report.sweep_report([], "latent_dim", {}))


def test_nulls_do_no_harm():
    results = nulled(compared())
    assert "–" in report.compare_report(results, {}, None)
    parsed(report.fit_report(nulled(fitted()), nulled(history()), {}, None))
    bare = {key: None for key in results} | {"estimators": [{"name": "score", "applicable": True}]}
    parsed(report.compare_report(bare, {}, None))
    parsed(report.fit_report({}, [], {}, None))
    parsed(report.fit_report({"evaluation": nulled(evaluated())}, [], {}, None))
    parsed(report.compare_report({}, {}, None))


@pytest.mark.parametrize("key", ["bias_relative", "variance_trace", "seconds_per_gradient", "efficiency"])
def test_one_null_or_zero_does_no_harm(key):
    for value in (None, 0.0, {"value": 0.0, "low": None, "high": None}, {"value": -1e-9, "low": -1e-8, "high": 1e-8}):
        results = copy.deepcopy(compared())
        for row in results["estimators"][::3]:
            row[key] = value if isinstance(row.get(key), dict) or not isinstance(value, dict) else None
        parsed(report.compare_report(results, {}, None))


def test_empty_curves_and_pictures_draw_nothing():
    html = report.compare_report(compared() | {"curves": []}, {}, (8, 8))
    assert "<h2>Training</h2>" not in html
    assert "<img" not in html
    gone = [{"name": "score", "engine": "numpyro", "seed": 0, "steps": [], "seconds": [], "elbo": []}]
    parsed(report.compare_report(compared() | {"curves": gone}, {"data": np.zeros((0, 64))}, (8, 8)))
    parsed(report.fit_report(fitted(), history(1), {"data": np.full((2, 4), np.nan)}, None))


def test_forty_estimators():
    names = [f"estimator-{i}" for i in range(40)]
    html = report.compare_report(compared(names), {}, None)
    assert all(f"</span>{name}</th>" in html for name in names)
    parsed(html)


def test_a_range_beyond_the_unit_interval_is_scaled_and_printed():
    html = report.compare_report(compared(), {"samples": np.array([[-2.0, 0.0, 5.0, 1.0]])}, (2, 2))
    assert "Black is −2.00, white 5.00." in html
    html = report.compare_report(compared(), {"samples": np.array([[0.2, 0.3, 0.4, 0.5]])}, (2, 2))
    assert "Black is 0, white 1.00." in html


def test_tiles_hold_every_image_and_blank_gaps():
    stack = np.arange(5.0)[:, None] * np.ones((5, 6))
    grid = images.tiles(stack, 2, (2, 3))
    assert grid.shape == (8, 7)
    assert np.isnan(grid[2]).all()
    assert np.isnan(grid[:, 3]).all()
    assert (grid[3:5, 4:7] == 3).all()
    assert np.isnan(grid[6:, 4:]).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (4096, "4,096"), (0.0012345, "0.00123"), (-12.345, "−12.3"), (12345.0, "12,300"),
     (9.999e5, "1.00×10⁶"), (1.5e-7, "1.50×10⁻⁷"), (float("nan"), "–")],
)  # fmt: skip
def test_numbers(value, text):
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (2e-3, "2.00 ms"), (3.21e-5, "32.1 µs"), (5e-9, "5.00 ns"), (0.0, "0 ns"), (1.5, "1.50 s"),
     (312.4, "5 min 12 s"), (8000.0, "2 h 13 min")],
)  # fmt: skip
def test_seconds(value, text):
    assert numbers.seconds(value).replace("\u00a0", " ") == text


def test_a_bound_has_the_digits_that_its_interval_bears():
    assert report.nats({"value": -103.274, "low": -103.42, "high": -103.12}) == "−103.27 (−103.42 to −103.12)"
    assert report.nats({"value": -103.274, "low": None, "high": None}) == "−103.27"
    assert report.nats(None) == "–"


def test_no_global_state_and_no_pyplot(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it raises
    keys = sorted(set(matplotlib.rcParams) - {"backend"})  # to read the backend is to import pyplot
    before = [matplotlib.rcParams[key] for key in keys]
    report.compare_report(compared(), pictures(), (8, 8))
    assert [matplotlib.rcParams[key] for key in keys] == before


def test_names_beside_a_frame_keep_their_distance():
    places = plots._spread([10.0, 10.0, 11.0, 90.0, 99.0, 99.0], 10.0, 0.0, 100.0)
    assert np.diff(places).min() >= 10 - 1e-9
    assert max(places) <= 100
