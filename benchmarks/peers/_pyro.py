"""In plain PyTorch: `run(rng_key, state)` takes so many sweeps, `state` in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Run = Callable[[Any, Any], Any]


def key(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def array(x: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.array(x), dtype=torch.float32)


def ready(x: Any) -> Any:
    return x


def gflops(rows: int, inner: int, columns: int, repeats: int = 20) -> Callable[[], Any]:
    """A product (rows, inner) @ (inner, columns) in float32, so many times."""
    a, b = (array(np.random.default_rng(0).normal(size=shape)) for shape in ((rows, inner), (inner, columns)))

    def run() -> Any:
        for _ in range(repeats + 1):
            out = a @ b
        return out

    return run


def rbm(weight: np.ndarray, x_bias: np.ndarray, h_bias: np.ndarray, sweeps: int, products: str = "highest") -> Run:
    """Block Gibbs with `rand < p`, which is faster than `torch.bernoulli`; `state` is x (chains, units).

    `products` in float32: "highest", or "medium", which on some processors is a faster float32 and on others bfloat16.
    """
    W, b, c = map(array, (weight, x_bias, h_bias))

    @torch.no_grad()
    def run(rng_key: torch.Generator, x: torch.Tensor) -> torch.Tensor:
        torch.set_float32_matmul_precision(products)
        for _ in range(sweeps):
            p = torch.addmm(c, x, W).sigmoid_()
            h = (torch.rand(p.shape, generator=rng_key) < p).float()
            p = torch.addmm(b, h, W.T).sigmoid_()
            x = (torch.rand(p.shape, generator=rng_key) < p).float()
        torch.set_float32_matmul_precision("highest")
        return x

    return run


def training(weight: np.ndarray, x: np.ndarray, batch: int, chains: int, lr: float) -> tuple[Callable[..., Any], Any]:
    """PCD-1 of an RBM with fused Adam, gradients by hand: (run(carry, rows) -> carry, carry)."""
    D, H = weight.shape
    W, b, c = array(weight), torch.zeros(D), torch.zeros(H)
    opt = torch.optim.Adam([W, b, c], lr=lr, fused=True)

    @torch.no_grad()
    def run(carry: Any, rows: torch.Tensor) -> Any:
        v, rng_key = carry
        for index in torch.randperm(len(rows), generator=rng_key)[: len(rows) // batch * batch].reshape(-1, batch):
            p = torch.addmm(c, v, W).sigmoid_()
            h = (torch.rand(p.shape, generator=rng_key) < p).float()
            p = torch.addmm(b, h, W.T).sigmoid_()
            v = (torch.rand(p.shape, generator=rng_key) < p).float()
            x = rows[index]
            data, model = torch.addmm(c, x, W).sigmoid_(), torch.addmm(c, v, W).sigmoid_()
            W.grad = v.T @ model / len(v) - x.T @ data / len(x)
            b.grad = v.mean(0) - x.mean(0)
            c.grad = model.mean(0) - data.mean(0)
            opt.step()
        return v, rng_key

    start = array(np.random.default_rng(0).integers(0, 2, (chains, D)))
    return run, (start, key(0))
