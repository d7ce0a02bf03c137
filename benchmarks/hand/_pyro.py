"""A VAE in plain PyTorch: eager steps and the fused Adam."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from benchmarks.hand.weights import DATA, HIDDEN, LATENT, weights

Params = dict[str, torch.Tensor]


def layers(params: Params, part: str, x: torch.Tensor) -> torch.Tensor:
    """Two dense layers with a softplus between."""
    h = softplus(torch.addmm(params[f"{part}.0.bias"], x, params[f"{part}.0.weight"]))
    return torch.addmm(params[f"{part}.1.bias"], h, params[f"{part}.1.weight"])


def loss(params: Params, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """KL(q(z | x) ‖ N(0, I)) − log p(x | z), mean over the data."""
    mean, log_variance = layers(params, "encoder", x).chunk(2, dim=1)
    logits = layers(params, "decoder", mean + torch.exp(log_variance / 2) * noise)
    kl = (mean**2 + log_variance.exp() - log_variance - 1).sum() / 2
    return (kl + binary_cross_entropy_with_logits(logits, x, reduction="sum")) / len(x)


def epochs(data: np.ndarray, batch: int, lr: float, seed: int, dynamic: bool) -> Iterator[float]:
    """Train for ever; each item is the seconds that one epoch took."""
    params = {name: torch.from_numpy(w).requires_grad_() for name, w in weights(seed).items()}
    adam = torch.optim.Adam(params.values(), lr=lr, fused=True)
    source = torch.Generator().manual_seed(seed)
    rows, losses = torch.from_numpy(data), torch.zeros(len(data) // batch)
    while True:
        start = time.perf_counter()
        order = torch.randperm(len(rows), generator=source)[: len(losses) * batch].view(-1, batch)
        for i, index in enumerate(order):
            x = rows[index]
            # faster than torch.bernoulli, and the same law
            x = (torch.rand(x.shape, generator=source) < x).to(x.dtype) if dynamic else x
            value = loss(params, x, torch.randn(batch, LATENT, generator=source))
            adam.zero_grad(set_to_none=True)
            value.backward()
            adam.step()
            losses[i] = value.detach()
        yield time.perf_counter() - start


def gradient(params: dict[str, np.ndarray], x: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient of one step, to hold against the other peer's."""
    leaves = {name: torch.from_numpy(w).requires_grad_() for name, w in params.items()}
    loss(leaves, torch.from_numpy(x), torch.from_numpy(noise)).backward()
    return {name: leaf.grad.numpy() for name, leaf in leaves.items() if leaf.grad is not None}


def settings() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "dtype": "float32",
        "rng": "mt19937",
        "optimiser": "torch.optim.Adam(fused=True)",
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def prepare() -> None:
    """One thread, and float32 products that are float32."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")


def gflops() -> float:
    """The speed of the first layer's product on this machine."""
    a, b = torch.ones(128, DATA), torch.ones(DATA, HIDDEN)
    start = time.perf_counter()
    for _ in range(50):
        torch.mm(a, b)
    return 50 * 2 * 128 * DATA * HIDDEN / (time.perf_counter() - start) / 1e9
