"""The decoder of Llama-3-8B as a Relax module, and the same computation in NumPy.

The architecture is that of the public config of Llama-3-8B: RMSNorm, grouped-query attention with rotary positions (the
two halves of a head rotate against each other), a causal mask, SwiGLU. float32, a prefill of `tokens` positions.

Three things differ from a real checkpoint. Weights are random. All layers share one set of weights, because 32 sets
would take 26 GiB; one layer's 872 MB still exceed any cache, so each layer reads them from memory. The input is hidden
states, as returned by an embedding lookup, which merely copies `tokens` rows. Matrices are stored (inner, outer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, te

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.models.model import NUM_INPUT, Model

Array = NDArray[np.float32]

_MASKED = -1e30


@dataclass(frozen=True)
class Llama:
    """The sizes of a model and of its input."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tokens: int
    rope_theta: int
    epsilon: float = 1e-5
    """Epsilon of RMSNorm."""

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameters of ``main`` in order, hidden states (tokens, hidden) first."""
        d, width, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "hidden": (self.tokens, d),
            "cos": (self.tokens, self.head_dim),
            "sin": (self.tokens, self.head_dim),
            "mask": (self.tokens, self.tokens),
            "attention_norm": (d,),
            "q": (d, width),
            "k": (d, kv),
            "v": (d, kv),
            "o": (width, d),
            "mlp_norm": (d,),
            "gate": (d, self.intermediate),
            "up": (d, self.intermediate),
            "down": (self.intermediate, d),
            "norm": (d,),
            "lm_head": (d, self.vocabulary),
        }

    def parameters(self, seed: int = 0) -> dict[str, Array]:
        """Seeded random weights that keep activations near one, hidden states, position tables and mask."""
        angles = np.outer(np.arange(self.tokens), self.rope_theta ** (-np.arange(0, 1, 2 / self.head_dim)))
        angles = np.concatenate([angles, angles], axis=1)
        visible = np.tri(self.tokens, dtype=bool)
        tables = {"cos": np.cos(angles), "sin": np.sin(angles), "mask": np.where(visible, 0.0, _MASKED)}
        return {
            name: tables[name].astype(np.float32) if name in tables else _drawn(name, shape, seed, number)
            for number, (name, shape) in enumerate(self.parameter_shapes.items())
        }

    @property
    def model(self) -> Model:
        """The model with its one input, `parameters`, and NumPy's logits."""
        names = list(self.parameter_shapes)

        def reference(inputs: Sequence[Array]) -> list[Array]:
            (hidden,) = inputs
            return [self.reference({**self.parameters(), names[0]: hidden})]

        def weights() -> list[Array]:
            given = self.parameters()
            return [given.pop(name) for name in names[1:]]

        module = self.module()
        module.update_func(module.get_global_var("main"), module["main"].with_attr(NUM_INPUT, 1))
        hidden = _drawn(names[0], self.parameter_shapes[names[0]], 0, 0)
        # Recorded kernels are those of the module as it is written here.
        return Model("llama3_8b", module, weights, reference, "NumPy", (hidden,), as_is=True)

    def module(self) -> tvm.IRModule:
        """``main``(parameters in order) -> logits (tokens, vocabulary)."""
        op, builder = relax.op, relax.BlockBuilder()
        given = {name: relax.Var(name, relax.TensorType(s, "float32")) for name, s in self.parameter_shapes.items()}
        group, emit = self.heads // self.kv_heads, builder.emit

        def norm(x: relax.Expr, weight: str) -> relax.Expr:
            return emit(op.nn.rms_norm(x, given[weight], axes=-1, epsilon=self.epsilon))

        def product(x: relax.Expr, weight: str) -> relax.Expr:
            return emit(op.matmul(x, given[weight]))

        def heads(x: relax.Expr, per_group: int) -> relax.Expr:
            """(tokens, heads * dim) -> (kv_heads, heads of a group, tokens, dim)."""
            apart = emit(op.reshape(x, (self.tokens, self.kv_heads, per_group, self.head_dim)))
            return emit(op.permute_dims(apart, (1, 2, 0, 3)))

        def rotated(x: relax.Expr) -> relax.Expr:
            return builder.emit_te(_rope, x, given["cos"], given["sin"], primfunc_name_hint="rope")

        with builder.function("main", list(given.values())):
            with builder.dataflow():
                x = given["hidden"]
                for _ in range(self.layers):
                    y = norm(x, "attention_norm")
                    q, k, v = (product(y, name) for name in "qkv")
                    keys = emit(op.permute_dims(rotated(heads(k, 1)), (0, 1, 3, 2)))
                    scores = emit(op.matmul(rotated(heads(q, group)), keys))
                    scores = emit(op.multiply(scores, relax.const(self.head_dim**-0.5, "float32")))
                    attend = emit(op.nn.softmax(emit(op.add(scores, given["mask"])), -1))
                    context = emit(op.permute_dims(emit(op.matmul(attend, heads(v, 1))), (2, 0, 1, 3)))
                    context = emit(op.reshape(context, (self.tokens, self.heads * self.head_dim)))
                    x = emit(op.add(x, product(context, "o")))
                    y = norm(x, "mlp_norm")
                    up = product(y, "up")
                    y = emit(op.multiply(emit(op.nn.silu(product(y, "gate"))), up))
                    x = emit(op.add(x, product(y, "down")))
                logits = builder.emit_output(op.matmul(norm(x, "norm"), given["lm_head"]))
            builder.emit_func_output(logits)
        return builder.get()

    def reference(self, given: dict[str, Array]) -> Array:
        """Logits computed by NumPy in the precision of `given`."""
        group = self.heads // self.kv_heads

        def norm(x: Array, weight: str) -> Array:
            return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * given[weight])

        def heads(x: Array) -> Array:
            return x.reshape(self.tokens, -1, self.head_dim).transpose(1, 0, 2)

        def rotated(x: Array) -> Array:
            low, high = np.split(x, 2, axis=-1)
            return np.asarray(x * given["cos"] + np.concatenate([-high, low], axis=-1) * given["sin"])

        x = given["hidden"]
        for _ in range(self.layers):
            y = norm(x, "attention_norm")
            q, k = rotated(heads(y @ given["q"])), rotated(heads(y @ given["k"]))
            k, v = (np.repeat(t, group, axis=0) for t in (k, heads(y @ given["v"])))
            scores = q @ k.transpose(0, 2, 1) * np.float32(self.head_dim**-0.5) + given["mask"]
            attend = np.exp(scores - scores.max(-1, keepdims=True))
            attend /= attend.sum(-1, keepdims=True)
            x = x + (attend @ v).transpose(1, 0, 2).reshape(self.tokens, -1) @ given["o"]
            y = norm(x, "mlp_norm")
            gate = y @ given["gate"]
            x = x + (gate / (1 + np.exp(-gate)) * (y @ given["up"])) @ given["down"]
        return np.asarray(norm(x, "norm") @ given["lm_head"])


def model_of(name: str, shape: dict[str, int]) -> Llama:
    """The model `name` at `shape`.

    Raises:
        ConfigError: unknown name, or a missing, unknown or invalid size.
    """
    if name not in MODELS:
        raise ConfigError(f"{name} is not a model that can be tuned as a whole; choose one of {', '.join(MODELS)}")
    wanted = [f.name for f in fields(Llama) if f.name != "epsilon"]
    if sorted(shape) != sorted(wanted):
        raise ConfigError(f"workload.shape of {name} needs the sizes {', '.join(wanted)}; got {', '.join(shape)}")
    small = {k: v for k, v in shape.items() if v < 1}
    if small:
        raise ConfigError(f"workload.shape of {name}: sizes must be at least 1; got {small}")
    model = Llama(**shape)
    if model.heads % model.kv_heads or model.head_dim % 2:
        raise ConfigError(
            f"workload.shape of {name}: heads={model.heads} must be a multiple of kv_heads={model.kv_heads}, and "
            f"head_dim={model.head_dim} must be even"
        )
    return model


MODELS = ("llama3_8b",)
"""Models that can be tuned as a whole; their sizes are in ``conf/workload/models``."""


def _drawn(name: str, shape: tuple[int, ...], seed: int, number: int) -> Array:
    drawn = np.random.default_rng([seed, number]).standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:  # weights of a norm
        return 1 + np.float32(0.1) * drawn
    if name != "hidden":
        drawn *= np.float32(shape[0] ** -0.5)
    return drawn


def _rope(x: te.Tensor, cos: te.Tensor, sin: te.Tensor) -> te.Tensor:
    """Apply rotary positions to `x` (kv_heads, heads per group, tokens, dim), given tables (tokens, dim)."""
    half = int(x.shape[-1]) // 2

    def turned(kv: tvm.tirx.Var, g: tvm.tirx.Var, i: tvm.tirx.Var, d: tvm.tirx.Var) -> tvm.tirx.PrimExpr:
        other = te.if_then_else(d < half, -x[kv, g, i, d + half], x[kv, g, i, d - half])
        return x[kv, g, i, d] * cos[i, d] + other * sin[i, d]

    return te.compute(x.shape, turned, name="rope")
