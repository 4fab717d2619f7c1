"""A block of a small transformer, of PyTorch; for ``workload=own_model``, a function returns a module and inputs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

TOKENS, HIDDEN, HEADS, INNER = 32, 64, 4, 256


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.query, self.key, self.value, self.out = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.up, self.down = nn.Linear(HIDDEN, INNER), nn.Linear(INNER, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def heads(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        y = self.first(x)
        attended = functional.scaled_dot_product_attention(
            heads(self.query(y)), heads(self.key(y)), heads(self.value(y)), is_causal=True
        )
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.second(x))))


def block() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return Block(), (torch.randn(1, TOKENS, HIDDEN),)
