"""The kernels in PyTorch, in each layout that a model might use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Version:
    """One way to compute a kernel."""

    label: str
    """Layout or function."""
    run: Callable[..., Any]
    """Of the activations, then the weights."""
    activations: tuple[Any, ...]
    weights: tuple[Any, ...] = ()
    arranged: Callable[[Any], Any] = lambda out: out
    """Its result in the layout of our kernel."""


def _projection(torch: Any, x: Any, w: Any) -> list[Version]:
    return [
        Version("matmul", torch.matmul, (x,), (w,)),
        Version("F.linear", torch.nn.functional.linear, (x,), (w.T.contiguous(),)),
    ]


def _convolutions(torch: Any, x: Any, w: Any, bias: Any = None, relu: bool = False, **settings: int) -> list[Version]:
    def run(x: Any, w: Any, bias: Any = None) -> Any:
        y = torch.nn.functional.conv2d(x, w, bias, **settings)
        return torch.relu(y) if relu else y

    wide = torch.channels_last
    rest = () if bias is None else (bias,)
    return [
        Version("NCHW", run, (x,), (w, *rest)),
        Version("channels_last", run, (x.to(memory_format=wide),), (w.to(memory_format=wide), *rest)),
    ]


def _attention(torch: Any, q: Any, key: Any, value: Any) -> list[Version]:
    def run(q: Any, key: Any, value: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, key, value)

    return _by_layout(run, q, key, value)


def _masked_attention(torch: Any, q: Any, key: Any, value: Any, mask: Any) -> list[Version]:
    def run(q: Any, key: Any, value: Any, mask: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, key, value, attn_mask=mask)

    return _by_layout(run, q, key, value, mask.expand(1, 1, q.shape[1], key.shape[1]))


def _by_layout(run: Callable[..., Any], q: Any, key: Any, value: Any, *rest: Any) -> list[Version]:
    """Attention of heads that lie one after the other, and as a model's projections write them: token by token."""
    apart = tuple(x[None] for x in (q, key, value))
    by_token = tuple(x.transpose(0, 1).contiguous().transpose(0, 1)[None] for x in (q, key, value))
    return [
        Version("SDPA, heads apart", run, (*apart, *rest), arranged=lambda out: out[0]),
        Version("SDPA, heads of a token together", run, (*by_token, *rest), arranged=lambda out: out[0]),
    ]


def _causal_attention(torch: Any, q: Any, key: Any, value: Any) -> list[Version]:
    """Grouped-query attention of the last positions of a context."""
    heads, tokens, context = q.shape[0], q.shape[1], key.shape[1]
    visible = torch.ones(tokens, context, dtype=torch.bool, device=q.device).tril(context - tokens)
    group = heads // key.shape[0]

    def grouped(q: Any, key: Any, value: Any, mask: Any) -> Any:
        attention = torch.nn.functional.scaled_dot_product_attention
        return attention(q, key, value, attn_mask=mask, enable_gqa=True)

    def stacked(q: Any, key: Any, value: Any, mask: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, key, value, attn_mask=mask)

    together = q.reshape(key.shape[0], group * tokens, -1)
    return [
        Version("SDPA, enable_gqa", grouped, (q[None], key[None], value[None], visible), arranged=lambda out: out[0]),
        Version(
            "SDPA, queries of a group stacked",
            stacked,
            (together[None], key[None], value[None], visible.repeat(group, 1)),
            arranged=lambda out: out[0].reshape(heads, tokens, -1),
        ),
    ]


def _batched_matmul_nt(torch: Any, a: Any, b: Any) -> list[Version]:
    return [Version("bmm", lambda a, b: torch.bmm(a, b.transpose(1, 2)), (a, b))]


def _gated_mlp(torch: Any, x: Any, gain: Any, to_gate: Any, to_up: Any, down: Any) -> list[Version]:
    functional, hidden = torch.nn.functional, x.shape[1:]

    def linear(x: Any, gain: Any, to_gate: Any, to_up: Any, down: Any) -> Any:
        norm = functional.rms_norm(x, hidden, gain, 1e-5)
        gated = functional.silu(functional.linear(norm, to_gate)) * functional.linear(norm, to_up)
        return functional.linear(gated, down)

    def product(x: Any, gain: Any, to_gate: Any, to_up: Any, down: Any) -> Any:
        norm = functional.rms_norm(x, hidden, gain, 1e-5)
        return (functional.silu(norm @ to_gate) * (norm @ to_up)) @ down

    turned = tuple(w.T.contiguous() for w in (to_gate, to_up, down))
    return [
        Version("matmul", product, (x,), (gain, to_gate, to_up, down)),
        Version("F.linear", linear, (x,), (gain, *turned)),
    ]


def _normalized_gelu(torch: Any, x: Any, gain: Any, shift: Any, w: Any, bias: Any) -> list[Version]:
    functional, hidden = torch.nn.functional, x.shape[1:]

    def linear(x: Any, gain: Any, shift: Any, w: Any, bias: Any) -> Any:
        return functional.gelu(functional.linear(functional.layer_norm(x, hidden, gain, shift, 1e-5), w, bias))

    def product(x: Any, gain: Any, shift: Any, w: Any, bias: Any) -> Any:
        return functional.gelu(torch.addmm(bias, functional.layer_norm(x, hidden, gain, shift, 1e-5), w))

    return [
        Version("addmm", product, (x,), (gain, shift, w, bias)),
        Version("F.linear", linear, (x,), (gain, shift, w.T.contiguous(), bias)),
    ]


VERSIONS: dict[str, Callable[..., list[Version]]] = {
    "llama3_8b_attention": _projection,
    "deepseek_r1_moe": _projection,
    "flux_attention": _attention,
    "flux_conv": lambda torch, x, w: _convolutions(torch, x, w, padding=1),
    "llama4_scout_mlp": _projection,
    "llama3_8b_attention_core": _causal_attention,
    "batched_matmul_nt": _batched_matmul_nt,
    "depthwise_conv": lambda torch, x, w: _convolutions(torch, x, w[:, None], padding=1, groups=w.shape[0]),
    "bert_large_attention": _masked_attention,
    "rmsnorm_gated_mlp": _gated_mlp,
    "pointwise_conv_relu": lambda torch, x, w, b: _convolutions(torch, x, w[:, :, None, None], b, relu=True),
    "strided_conv_relu": lambda torch, x, w, b: _convolutions(torch, x, w, b, relu=True, padding=1, stride=2),
    "layernorm_matmul_gelu": _normalized_gelu,
}
"""Kernel -> its versions, from the module torch and the inputs as tensors; the first takes them as our kernel does.

F.linear has its weights as models keep them: (out, in)."""


def compiled(torch: Any, version: Version) -> Callable[[], Any]:
    """A version as PyTorch compiles it, with its weights frozen; compiles at the first call, which takes seconds."""
    torch._inductor.config.freezing = True
    torch._inductor.config.compile_threads = 1  # no processes that stay

    class Frozen(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterList(torch.nn.Parameter(w, False) for w in version.weights)

        def forward(self, *activations: Any) -> Any:
            return version.run(*activations, *self.weights)

    module = torch.compile(Frozen().eval(), dynamic=False)
    return lambda: module(*version.activations)
