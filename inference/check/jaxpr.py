"""A traced JAX program, run by NumPy equation by equation: numbers of one small batch without compiling anything.

XLA takes seconds where NumPy takes a millisecond. What has no rule here, or whose rule fails, runs by itself as JAX
runs it. Random bits come from NumPy's own generators, seeded by the key: the same law, other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import linalg, special

Rule = Callable[..., Any]


def run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, map(_host, consts), strict=True))
    known.update(zip(jaxpr.invars, map(_host, args), strict=True))
    with np.errstate(all="ignore"):
        for eqn in jaxpr.eqns:
            given = [v.val if hasattr(v, "val") else known[v] for v in eqn.invars]
            known.update(zip(eqn.outvars, _equation(eqn, given), strict=True))
    return [v.val if hasattr(v, "val") else known[v] for v in jaxpr.outvars]


def _host(value: Any) -> Any:
    return _words(value) if _is_key(value) else np.asarray(value)


def _is_key(value: Any) -> bool:
    return "key" in str(getattr(value, "dtype", ""))


def _words(key: Any) -> np.ndarray:
    """A key as the two words that it is made of."""
    return np.asarray(key._base_array) if hasattr(key, "_base_array") else np.asarray(key)


def _equation(eqn: Any, given: list[Any]) -> list[Any]:
    rule = RULES.get(eqn.primitive.name)
    if rule is not None:
        try:
            out = rule(eqn, *given)
            out = out if isinstance(out, list) else [out]
            return [_as(v, x) for v, x in zip(eqn.outvars, out, strict=True)]
        except Exception:  # another version's parameters: JAX knows them
            pass
    inner = next((eqn.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in eqn.params), None)
    if inner is not None and eqn.primitive.name not in ("scan", "while", "cond"):
        return run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given)
    out = eqn.primitive.bind(*given, **eqn.params)
    return [_host(v) for v in (out if eqn.primitive.multiple_results else [out])]


def _as(var: Any, value: Any) -> Any:
    dtype = var.aval.dtype
    return value if _is_key(var.aval) else np.asarray(value, dtype=dtype)


def _broadcast_in_dim(eqn: Any, x: Any, *_: Any) -> Any:
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    inner = [1] * len(shape)
    for axis, dim in enumerate(dims):
        inner[dim] = np.shape(x)[axis]
    return np.broadcast_to(np.reshape(x, inner), shape)


def _dot_general(eqn: Any, a: Any, b: Any) -> Any:
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    left, right = list(range(a.ndim)), [a.ndim + i for i in range(b.ndim)]
    for i, j in [*zip(ca, cb, strict=True), *zip(ba, bb, strict=True)]:
        right[j] = left[i]
    free_a = [left[i] for i in range(a.ndim) if i not in (*ca, *ba)]
    free_b = [right[j] for j in range(b.ndim) if j not in (*cb, *bb)]
    return np.einsum(a, left, b, right, [left[i] for i in ba] + free_a + free_b)


def _select_n(eqn: Any, which: Any, *cases: Any) -> Any:
    return np.choose(np.asarray(which, int), np.broadcast_arrays(*cases)) if cases[0].ndim else cases[int(which)]


def _slice(eqn: Any, x: Any) -> Any:
    p = eqn.params
    strides = p["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, p["start_indices"], p["limit_indices"], strides))]


def _dynamic_slice(eqn: Any, x: Any, *starts: Any) -> Any:
    sizes = eqn.params["slice_sizes"]
    begin = [min(max(int(s), 0), n - k) for s, n, k in zip(starts, x.shape, sizes, strict=True)]
    return x[tuple(slice(s, s + k) for s, k in zip(begin, sizes, strict=True))]


def _dynamic_update_slice(eqn: Any, x: Any, update: Any, *starts: Any) -> Any:
    out = np.array(x)
    begin = [min(max(int(s), 0), n - k) for s, n, k in zip(starts, x.shape, update.shape, strict=True)]
    out[tuple(slice(s, s + k) for s, k in zip(begin, update.shape, strict=True))] = update
    return out


def _gather(eqn: Any, x: Any, indices: Any) -> Any:
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shared, batching = numbers.start_indices_batching_dims, numbers.operand_batching_dims
    gone, missing = {*numbers.collapsed_slice_dims, *batching}, eqn.params["fill_value"]
    fills = "FILL" in str(eqn.params["mode"]) and missing is None
    lead = indices.shape[:-1]
    rows = []
    for place in np.ndindex(*lead):
        start = [0] * x.ndim
        for dim, value in zip(numbers.start_index_map, indices[place], strict=True):
            start[dim] = int(value)
        for dim, axis in zip(batching, shared, strict=True):
            start[dim] = place[axis]
        fine = all(0 <= s <= n - k for s, n, k in zip(start, x.shape, sizes, strict=True))
        start = [min(max(s, 0), n - k) for s, n, k in zip(start, x.shape, sizes, strict=True)]
        cut = x[tuple(slice(s, s + k) for s, k in zip(start, sizes, strict=True))]
        cut = cut.reshape([k for dim, k in enumerate(sizes) if dim not in gone])
        rows.append(cut if fine or not fills else np.full_like(cut, np.nan if x.dtype.kind == "f" else 0))
    out = np.stack(rows).reshape(*lead, *rows[0].shape)
    where = [d for d in range(out.ndim) if d not in numbers.offset_dims]
    return np.moveaxis(out, range(out.ndim), [*where, *numbers.offset_dims])


def _linear_solve(eqn: Any, *given: Any) -> list[Any]:
    lengths, programs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    first = lengths.matvec + lengths.vecmat
    constants, right = given[first : first + lengths.solve], given[sum(n for n in lengths) :]
    return _closed(programs.solve, [*constants, *right])


def _lu(eqn: Any, x: Any) -> list[Any]:
    packed, pivots, orders = [], [], []
    for matrix in x.reshape(-1, *x.shape[-2:]):
        lu, pivot = linalg.lu_factor(matrix)
        order = np.arange(len(matrix))
        for i, j in enumerate(pivot):
            order[[i, j]] = order[[j, i]]
        for part, value in zip((packed, pivots, orders), (lu, pivot, order), strict=True):
            part.append(value)
    lead = x.shape[:-2]
    return [np.stack(part).reshape(*lead, *part[0].shape) for part in (packed, pivots, orders)]


def _split(eqn: Any, x: Any) -> list[Any]:
    return np.split(x, np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"])


def _closed(inner: Any, args: Sequence[Any]) -> list[Any]:
    return run(inner.jaxpr, inner.consts, args)


def _scan(eqn: Any, *given: Any) -> list[Any]:
    p = eqn.params
    consts, carry = list(given[: p["num_consts"]]), list(given[p["num_consts"] : p["num_consts"] + p["num_carry"]])
    xs, steps = given[p["num_consts"] + p["num_carry"] :], range(p["length"])
    outputs = []
    for t in reversed(steps) if p["reverse"] else steps:
        out = _closed(p["jaxpr"], [*consts, *carry, *(x[t] for x in xs)])
        carry, y = out[: p["num_carry"]], out[p["num_carry"] :]
        outputs.append(y)
    ordered = outputs[::-1] if p["reverse"] else outputs
    return [*carry, *(np.stack(column) for column in zip(*ordered, strict=True))]


def _while(eqn: Any, *given: Any) -> list[Any]:
    p = eqn.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    state = list(given[m:])
    while bool(_closed(p["cond_jaxpr"], [*given[:n], *state])[0]):
        state = _closed(p["body_jaxpr"], [*given[n:m], *state])
    return state


def _cond(eqn: Any, which: Any, *given: Any) -> list[Any]:
    branches = eqn.params["branches"]
    return _closed(branches[min(max(int(which), 0), len(branches) - 1)], given)


def _random_bits(eqn: Any, key: Any) -> Any:
    shape, width = eqn.params["shape"], eqn.params["bit_width"]
    keys = np.asarray(key).reshape(-1, np.shape(key)[-1])
    count = int(np.prod(shape, dtype=int))
    dtype = np.dtype(f"uint{width}")
    rows = [np.random.Generator(np.random.PCG64(k.tolist())).integers(0, 2**width, count, dtype) for k in keys]
    return np.stack(rows).reshape(*np.shape(key)[:-1], *shape)


def _random_split(eqn: Any, key: Any) -> Any:
    shape, width = eqn.params["shape"], np.shape(key)[-1]
    keys = np.asarray(key).reshape(-1, width)
    count = int(np.prod(shape, dtype=int))
    rows = [np.random.SeedSequence(k.tolist()).generate_state(count * width).astype(np.uint32) for k in keys]
    return np.stack(rows).reshape(*np.shape(key)[:-1], *shape, width)


def _random_fold_in(eqn: Any, key: Any, number: Any) -> Any:
    return np.random.SeedSequence([*np.ravel(key).tolist(), int(number)]).generate_state(np.shape(key)[-1])


def _random_gamma(eqn: Any, key: Any, shape: Any) -> Any:
    draw = np.random.Generator(np.random.PCG64(np.ravel(key).tolist())).standard_gamma(shape)
    return np.log(draw) if eqn.params["log_space"] else draw


def _cumulative(f: Any) -> Rule:
    def rule(eqn: Any, x: Any) -> Any:
        axis = eqn.params["axis"]
        return np.flip(f(np.flip(x, axis), axis=axis), axis) if eqn.params["reverse"] else f(x, axis=axis)

    return rule


def _each(f: Callable[..., Any]) -> Rule:
    return lambda eqn, *xs: f(*xs)


def _over(f: Callable[..., Any]) -> Rule:
    return lambda eqn, x: f(x, axis=tuple(eqn.params["axes"]))


def _triangular_solve(eqn: Any, a: Any, b: Any) -> Any:
    p = eqn.params
    keep = np.tril(a) if p["lower"] else np.triu(a)
    if p["unit_diagonal"]:
        keep = np.where(np.eye(a.shape[-1], dtype=bool), 1.0, keep)
    keep = np.swapaxes(keep, -1, -2) if p["transpose_a"] else keep
    if p["left_side"]:
        return np.linalg.solve(keep, b)
    return np.swapaxes(np.linalg.solve(np.swapaxes(keep, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)


RULES: dict[str, Rule] = {
    **{name: _each(getattr(np, name)) for name in ("exp", "log", "log1p", "expm1", "tanh", "sqrt", "sign", "floor", "ceil",
       "sin", "cos", "square", "nextafter", "exp2", "arctan2", "sinh", "cosh")},
    "add": _each(np.add), "add_any": _each(np.add), "sub": _each(np.subtract), "mul": _each(np.multiply),
    "neg": _each(np.negative), "abs": _each(np.abs), "max": _each(np.maximum), "min": _each(np.minimum),
    "pow": _each(np.power), "rsqrt": _each(lambda x: 1 / np.sqrt(x)), "logistic": _each(special.expit),
    "div": _each(lambda a, b: a / b if a.dtype.kind in "fc" else np.trunc(a / b)), "rem": _each(np.fmod),
    "integer_pow": lambda eqn, x: x ** eqn.params["y"], "is_finite": _each(np.isfinite),
    "round": lambda eqn, x: np.rint(x) if int(eqn.params["rounding_method"]) else np.trunc(x + np.copysign(0.5, x)),
    "lgamma": _each(special.gammaln), "digamma": _each(special.digamma), "erf": _each(special.erf),
    "erfc": _each(special.erfc), "erf_inv": _each(special.erfinv), "polygamma": _each(special.polygamma),
    "eq": _each(np.equal), "ne": _each(np.not_equal), "lt": _each(np.less), "le": _each(np.less_equal),
    "gt": _each(np.greater), "ge": _each(np.greater_equal), "and": _each(np.bitwise_and), "or": _each(np.bitwise_or),
    "xor": _each(np.bitwise_xor), "not": _each(np.invert), "shift_left": _each(np.left_shift),
    "shift_right_logical": _each(np.right_shift), "clamp": _each(lambda low, x, high: np.clip(x, low, high)),
    "convert_element_type": lambda eqn, x: np.asarray(x).astype(eqn.params["new_dtype"]), "copy": _each(np.asarray),
    "copy_p": _each(np.asarray), "stop_gradient": _each(np.asarray), "bitcast_convert_type":
    lambda eqn, x: np.ascontiguousarray(x).view(eqn.params["new_dtype"]),
    "broadcast_in_dim": _broadcast_in_dim, "reshape": lambda eqn, x: np.reshape(x, eqn.params["new_sizes"]),
    "squeeze": lambda eqn, x: np.squeeze(x, tuple(eqn.params["dimensions"])),
    "expand_dims": lambda eqn, x: np.expand_dims(x, tuple(eqn.params["dimensions"])),
    "transpose": lambda eqn, x: np.transpose(x, eqn.params["permutation"]),
    "rev": lambda eqn, x: np.flip(x, tuple(eqn.params["dimensions"])),
    "concatenate": lambda eqn, *xs: np.concatenate(xs, eqn.params["dimension"]), "split": _split,
    "iota": lambda eqn: np.broadcast_to(np.arange(eqn.params["shape"][eqn.params["dimension"]]).reshape(
        [-1 if i == eqn.params["dimension"] else 1 for i in range(len(eqn.params["shape"]))]), eqn.params["shape"]),
    "slice": _slice, "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice,
    "select_n": _select_n, "dot_general": _dot_general, "reduce_sum": _over(np.sum), "reduce_max": _over(np.max),
    "reduce_min": _over(np.min), "reduce_prod": _over(np.prod), "reduce_and": _over(np.all), "reduce_or": _over(np.any),
    "argmax": lambda eqn, x: np.argmax(x, eqn.params["axes"][0]), "argmin": lambda eqn, x: np.argmin(x, eqn.params["axes"][0]),
    "cumsum": _cumulative(np.cumsum), "cumprod": _cumulative(np.cumprod), "cummax": _cumulative(np.maximum.accumulate),
    "cholesky": _each(np.linalg.cholesky), "triangular_solve": _triangular_solve, "scan": _scan, "while": _while,
    "cond": _cond, "gather": _gather, "custom_linear_solve": _linear_solve, "lu": _lu,  "random_bits": _random_bits,
    "random_split": _random_split, "random_fold_in": _random_fold_in, "random_gamma": _random_gamma,
    "platform_index": lambda eqn: next(i for i, p in enumerate(eqn.params["platforms"]) if p is None or "cpu" in p),
    "random_wrap": _each(np.asarray), "random_unwrap": _each(np.asarray),
    "random_seed": _each(lambda seed: np.array([0, int(seed) & 0xFFFFFFFF], np.uint32)),
}  # fmt: skip
