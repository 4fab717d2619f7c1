"""Models of PyTorch: exported, or as a function that returns a module and its inputs."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.extracted import ExtractedModel
from colt_pipeline.workloads.models.files import of_parts
from colt_pipeline.workloads.models.model import Model
from tests.workloads.models.common import EXTENDED, check, read, run, scheduled

pytest.importorskip("torch")  # after TVM: tvm_ffi decides then how tensors are exchanged

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attention

pytestmark = pytest.mark.tvm
assert tvm


def model(module: Any, *examples: Any, sizes: dict[str, int] | None = None, dynamic: Any = None) -> Model:
    from colt_pipeline.workloads.models.torch_programs import of_module

    return of_parts("mine", of_module(module, examples, "here", dynamic), sizes or {}, "here")


class Function(nn.Module):  # type: ignore[misc]
    """A module of a function of its tensors and its inputs."""

    def __init__(self, function: Callable[..., Any], *tensors: Any) -> None:
        super().__init__()
        self.function = function
        self.own = nn.ParameterList(tensors)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*self.own, *inputs)


def seeded(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def qkv(tokens: int = 5, context: int = 7, heads: int = 4, groups: int = 4, dtype: Any = torch.float32) -> list[Any]:
    return [seeded(2, heads, tokens, 8, dtype=dtype), *(seeded(2, groups, context, 8, dtype=dtype) for _ in "kv")]


def causal_mask() -> Any:
    return torch.ones(5, 7, dtype=torch.bool).tril()


def test_attention() -> None:
    """Each with other options, as one model."""
    cases: list[tuple[Sequence[Any], dict[str, Any]]] = [
        (qkv(), {"scale": 0.7}),
        (qkv(5, 5), {"is_causal": True}),
        (qkv(dtype=torch.float16), {"is_causal": True}),
        (qkv(), {"attn_mask": causal_mask()}),
        (qkv(dtype=torch.float16), {"attn_mask": causal_mask()}),
        (qkv(), {"attn_mask": seeded(2, 1, 5, 7)}),
        (qkv(), {"attn_mask": torch.where(causal_mask(), 0.0, float("-inf"))}),
        (qkv(), {"attn_mask": seeded(5, 1)}),
        (qkv(groups=2), {"enable_gqa": True, "attn_mask": seeded(5, 7)}),
        ([seeded(3, n, 8) for n in (5, 7, 7)], {"attn_mask": causal_mask()}),
        ([seeded(n, 8) for n in (5, 7, 7)], {}),
    ]

    def all_of_them(*inputs: Any) -> list[Any]:
        return [attention(*inputs[3 * i : 3 * i + 3], **options) for i, (_, options) in enumerate(cases)]

    run(model(Function(all_of_them), *(x for inputs, _ in cases for x in inputs)))


def test_attention_with_dropout_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dropout_p=0.5; export the model in eval\(\)"):
        model(Function(lambda q, k, v: attention(q, k, v, dropout_p=0.5)), *qkv())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_types(dtype: Any) -> None:
    module = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 8, bias=False), nn.RMSNorm(8))
    made = model(module.to(dtype), seeded(3, 16, dtype=dtype))
    run(made)
    assert made.inputs_of_main[0].dtype == str(dtype).removeprefix("torch.")


def test_convolutions() -> None:
    module = nn.Sequential(
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, groups=16, padding=1, bias=False),
        nn.Conv2d(16, 16, 3, groups=4, padding=(1, 0)),
        nn.Conv2d(16, 8, 1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LazyLinear(10),
    ).eval()
    with torch.no_grad():
        module(seeded(1, 8, 10, 10))
        module[1].running_mean.normal_()
    run(model(module, seeded(2, 8, 10, 10)))


def test_convolutions_of_other_ranks_and_types() -> None:
    run(model(nn.Sequential(nn.Conv1d(8, 16, 3, padding=1), nn.ConvTranspose1d(16, 8, 2)), seeded(1, 8, 12)))
    run(model(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 4, 4, 2, 1, 1)), seeded(1, 4, 8, 8)))
    run(model(nn.Conv3d(4, 8, 3).half(), seeded(1, 4, 5, 5, 5).half()))


def test_multihead_attention_beside_a_convolution() -> None:
    """TVM's change of layouts takes no negative axes."""
    heads = nn.MultiheadAttention(16, 2, batch_first=True)

    class Both(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.heads = nn.Conv2d(3, 16, 4, stride=4), heads

        def forward(self, x: Any) -> Any:
            tokens = self.conv(x).flatten(2).transpose(1, 2)
            return self.heads(tokens, tokens, tokens)

    run(model(Both(), seeded(2, 3, 8, 8)))


def test_kernels_of_both_spaces() -> None:
    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.qkv, self.out = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)

        def forward(self, x: Any) -> Any:
            q, k, v = self.qkv(self.norm(x)).view(1, 6, 3, 4, 8).permute(2, 0, 3, 1, 4)
            return x + self.out(attention(q, k, v, is_causal=True).transpose(1, 2).reshape(1, 6, 32))

    made = model(Block(), seeded(1, 6, 32))
    for prepack, additions in ((True, EXTENDED), (False, ())):
        whole = ExtractedModel(made, prepack)
        assert any(task.constants for task in whole.tasks) == prepack
        modules = scheduled(whole, additions)
        if not additions:
            del modules["attention"]  # TVM's own space has programs of it that compute something else
        check(made, whole, modules)


def test_weights_that_are_shared_or_are_outputs() -> None:
    weight, scale = nn.Parameter(seeded(40, 64)), nn.Parameter(torch.tensor(2.0))
    run(
        model(Function(lambda w, s, x: ((x @ w * s).relu() @ w.t(), w, x, torch.ones(3)), weight, scale), seeded(3, 40))
    )
    run(model(Function(lambda x, y: ({"sum": x + y}, [y]), nn.Parameter(seeded(3))), seeded(3)))
    run(model(Function(lambda given: given["a"] + given["b"]), {"a": seeded(3, 4), "b": seeded(1, 4)}))
    run(model(Function(lambda x: x), seeded(3)))


def test_buffers_of_which_some_are_large() -> None:
    module = Function(lambda p, x: x @ p + x @ module.large + module.small, nn.Parameter(seeded(40, 40)))
    module.register_buffer("large", seeded(40, 40) / 7)
    module.register_buffer("small", seeded(40), persistent=False)
    assert len(run(model(module, seeded(3, 40))).values) == 1


def test_recurrent_network() -> None:
    run(model(nn.LSTM(16, 24, batch_first=True), seeded(2, 2, 16)))


def test_indices_are_within_the_table() -> None:
    table, dynamic = nn.Embedding(3, 40), ({0: torch.export.Dim("n", min=2, max=9)},)
    indices = torch.zeros(4, 5, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"without a value: (\w+) \(dimension 0 of input\); bind") as error:
        model(table, indices, dynamic=dynamic)
    name = str(error.value).split("without a value: ")[1].split()[0]
    made = model(table, indices, sizes={name: 7}, dynamic=dynamic)
    assert made.inputs()[0].shape == (7, 5)
    assert made.inputs()[0].max() < 3
    run(made)
    for size, limits in ((0, "at least 1"), (1, "from 2 to 9"), (10, "from 2 to 9")):
        with pytest.raises(ConfigError, match=f"workload.bind.{name}={size}: .*{limits}"):
            model(table, indices, sizes={name: size}, dynamic=dynamic)


def test_what_is_refused() -> None:
    refused = [
        (Function(lambda x, k: x * k), (seeded(3), 2.5), "here takes .*a Python float; pass a tensor"),
        (Function(lambda x: torch.fft.fft(x).real), (seeded(3),), "TVM cannot import here: Unsupported function types"),
        (Function(lambda x: 1 / 0), (seeded(3),), "here cannot be exported by torch.export: division by zero"),
        (nn.Linear(3, 4, device="meta"), (seeded(2, 3),), "here is on the device meta, so that weight has no values"),
    ]
    for module, examples, message in refused:
        with pytest.raises(ConfigError, match=message):
            model(module, *examples)


def exported(directory: Path) -> Path:
    path = directory / "mine.pt2"
    torch.export.save(torch.export.export(nn.Linear(48, 64), (seeded(2, 48),)), str(path))
    return path


def test_archives(tmp_path: Path) -> None:
    path = exported(tmp_path)
    made = read(path)
    np.testing.assert_array_equal(made.inputs()[0], seeded(2, 48).numpy())
    run(made)
    with pytest.raises(ConfigError, match=r"workload.function=f is for .py files"):
        read(path, "f")
    with pytest.raises(ConfigError, match=r"workload.weights=w.npz is for .py files"):
        read(path, weights=Path("w.npz"))


@pytest.mark.parametrize("share", [0.0, 0.5, None])
def test_archives_that_are_none(tmp_path: Path, share: float | None) -> None:
    path = exported(tmp_path)
    content = path.read_bytes()
    path.write_bytes(b"no archive" if share is None else content[: int(share * len(content))])
    with pytest.raises(ConfigError, match=r"is not an archive of torch.export.save that this PyTorch .* reads: "):
        read(path)


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["weight", "constant"])
def test_archives_execute_nothing(tmp_path: Path, kind: str) -> None:
    made = tmp_path / "made"
    reader = torch._C.PyTorchFileReader(str(exported(tmp_path)))
    records = {name: reader.get_record(name) for name in reader.get_all_records() if not name.startswith(".data")}
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    if kind == "weight":
        stream = io.BytesIO()
        torch.save(Harmful(made), stream)
        records["data/weights/opaque_obj_0"] = stream.getvalue()
        records["data/weights/model_weights_config.json"] = json.dumps({"config": {"weight": entry}}).encode()
    else:
        records["data/constants/opaque_obj_0"] = pickle.dumps(Harmful(made))
        records["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": entry}}).encode()
    writer = torch._C.PyTorchFileWriter(str(tmp_path / "harmful.pt2"))
    for name, content in records.items():
        if name not in ("version", "byteorder"):
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    with pytest.raises(ConfigError, match=r"harmful.pt2 (holds .*opaque_obj_0, not a tensor|is not an archive)"):
        read(tmp_path / "harmful.pt2")
    assert not made.exists()


META = """
import torch
from torch import nn
def model():
    with torch.device("meta"):
        made = nn.Sequential(nn.Linear(40, 40, bias=False), nn.ReLU(), nn.Linear(40, 40, bias=False))
        made[2].weight = made[0].weight
    return made, torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
"""


def test_weights_of_a_module_without(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch")
    path, weights = tmp_path / "mine.py", tmp_path / "w.safetensors"
    path.write_text(META)
    files.save_file({"0.weight": seeded(40, 40)}, weights)
    run(read(path, weights=weights))
    for tensors, message in (
        ({"0.weight": seeded(3, 40)}, "size mismatch for 0.weight"),
        ({"1.weight": seeded(3, 40)}, "Missing key"),
    ):
        files.save_file(tensors, weights)
        with pytest.raises(ConfigError, match=f"w.safetensors is not the state of .*, model: .*{message}"):
            read(path, weights=weights)
    weights.write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigError, match=r"w.safetensors is not the state of"):
        read(path, weights=weights)
    with pytest.raises(ConfigError, match=r"must be a .safetensors file"):
        read(path, weights=tmp_path / "w.npz")
    with pytest.raises(ConfigError, match="device meta"):
        read(path)
