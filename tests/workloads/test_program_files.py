"""Files with a user's own kernel: each format gives the same program, each unsuitable file one message."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import tvm
import tvm_ffi
from tvm import te
from tvm.s_tir.meta_schedule.database import JSONDatabase

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.program_files import read_program
from tests.workloads.kernels import DOUBLED, GEMM, GEMM_FILE, ROWS, kernel

pytestmark = pytest.mark.tvm

MODULE = "@I.ir_module\nclass Two:\n" + "\n".join(
    f"    {line}" for line in (DOUBLED + DOUBLED.replace("def small", "def other")).splitlines()
)
RELAX = """
@I.ir_module
class Model:
    @R.function
    def main(x: R.Tensor((8, 8), "float32")) -> R.Tensor((8, 8), "float32"):
        return R.add(x, x)
"""


def read(
    path: Path, text: str, function: str | None = None, bind: Mapping[str, int] | None = None
) -> tvm.tirx.PrimFunc:
    path.write_text(text)
    return read_program(path, function, bind or {})


def same(one: tvm.tirx.PrimFunc, other: tvm.tirx.PrimFunc) -> bool:
    return bool(
        tvm_ffi.structural_equal(one.with_attr("global_symbol", "main"), other.with_attr("global_symbol", "main"))
    )


def database(directory: Path, *programs: tvm.tirx.PrimFunc) -> Path:
    path = directory / "workload.json"
    records = JSONDatabase(str(path), str(directory / "tuning_record.json"), allow_missing=True)
    for program in programs:
        records.commit_workload(tvm.IRModule({"main": program.with_attr("global_symbol", "main")}))
    return path


def test_all_formats_give_the_same_program(tmp_path: Path) -> None:
    program = read_program(GEMM_FILE, None, {})
    module = tvm.IRModule({"main": program})
    assert same(program, read(tmp_path / "k.txt", GEMM))
    assert same(program, read(tmp_path / "k.tir", module.script(show_meta=True)))
    assert same(program, read(tmp_path / "k.json", tvm.ir.save_json(module)))
    assert same(program, read(tmp_path / "f.json", tvm.ir.save_json(program)))
    assert same(program, read_program(database(tmp_path, program), None, {}))


def test_one_of_several_functions_is_named(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    with pytest.raises(ConfigError, match=r"two.txt holds several kernels.*workload.function=NAME: .*small"):
        read(path, MODULE)
    assert same(read(path, MODULE, "other"), read(tmp_path / "one.txt", DOUBLED))
    with pytest.raises(ConfigError, match="workload.function=third is not in .*two.txt, which holds .*other"):
        read(path, MODULE, "third")


def test_one_of_several_workloads_of_a_database_is_named_by_its_hash(tmp_path: Path) -> None:
    programs = [read_program(GEMM_FILE, None, {}), read(tmp_path / "k.txt", DOUBLED)]
    path = database(tmp_path, *programs)
    with pytest.raises(ConfigError, match="holds several kernels"):
        read_program(path, None, {})
    hashes = [json.loads(line)[0] for line in path.read_text().splitlines()]
    assert all(same(p, read_program(path, h, {})) for p, h in zip(programs, hashes, strict=True))


def test_symbolic_sizes_are_bound(tmp_path: Path) -> None:
    program = read(tmp_path / "rows.txt", ROWS, bind={"n": 6})
    assert [[int(size) for size in p.ty.shape] for p in program.params] == [[6, 32], [6]]
    assert " n" not in program.script()


def test_an_axis_may_have_the_name_of_a_size(tmp_path: Path) -> None:
    n = te.var("n", "int64")
    rows = te.placeholder((n, 8), name="A")
    doubled = te.compute((n, 8), lambda n, j: rows[n, j] * 2.0, name="B")
    text = tvm.ir.save_json(te.create_prim_func([rows, doubled]))
    program = read(tmp_path / "rows.json", text, bind={"n": 6})
    fixed = te.placeholder((6, 8), name="A")
    expected = te.compute((6, 8), lambda n, j: fixed[n, j] * 2.0, name="B")
    assert [[int(size) for size in p.ty.shape] for p in program.params] == [[6, 8], [6, 8]]
    tvm.compile(program, target="llvm")
    assert program.script().count("range") == te.create_prim_func([fixed, expected]).script().count("range")


@pytest.mark.parametrize(
    ("text", "bind", "message"),
    [
        (ROWS, {}, "symbolic sizes without a value: n; bind them, for example with workload.bind.n=128"),
        (ROWS, {"n": 0}, "workload.bind.n=0: sizes must be at least 1"),
        (ROWS, {"n": 4, "m": 3}, "workload.bind.m=3: the program in .* has the symbolic sizes n"),
        (DOUBLED, {"n": 4}, "workload.bind.n=4: the program in .* has no symbolic size"),
    ],
)
def test_sizes_that_do_not_fit_are_named(tmp_path: Path, text: str, bind: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "k.txt", text, bind=bind)


@pytest.mark.parametrize(
    "older",
    [
        GEMM.replace("import tirx as T", "import tir as T"),
        GEMM.replace("T.sblock(", "T.block("),
        GEMM.replace("(s_tir=True)", ""),
    ],
)
@pytest.mark.parametrize("ending", ["py", "txt"])
def test_an_older_dialect_is_named_with_what_to_change(tmp_path: Path, older: str, ending: str) -> None:
    if ending == "txt" and "tir as T" in older:
        assert same(read(tmp_path / "k.txt", older), read_program(GEMM_FILE, None, {}))  # nothing else differs
        return
    with pytest.raises(ConfigError, match=r"older dialect.*import tirx as T.*s_tir=True.*T\.sblock_alloc_buffer") as e:
        read(tmp_path / f"k.{ending}", older)
    assert len(str(e.value).splitlines()) == 1
    if "T.block" in older:
        assert "has no attribute 'block'" in str(e.value)


def test_a_model_is_told_from_a_kernel(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a whole model \(the Relax functions main\)"):
        read(tmp_path / "m.txt", RELAX)
    imports = "from tvm.script import ir as I, relax as R, tirx as T\n"
    both = imports + RELAX + "\n" + "\n".join(f"    {line}" for line in DOUBLED.splitlines())
    with pytest.raises(ConfigError, match="whole model .*main.*workload.function=NAME: small"):
        read(tmp_path / "m.py", both)
    assert same(read(tmp_path / "m.py", both, "small"), read(tmp_path / "k.txt", DOUBLED))
    with pytest.raises(ConfigError, match="workload.function=main is a whole model"):
        read(tmp_path / "m.py", both, "main")


def test_python_runs_as_in_its_directory_and_leaves_nothing_behind(tmp_path: Path) -> None:
    kernels = []
    before, path = set(sys.modules), list(sys.path)
    for size in (8, 16):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / "sizes.py").write_text(f"N = {size}\n")
        text = "from tvm.script import tirx as T\nfrom sizes import N\n" + DOUBLED.replace("8", "N")
        kernels.append(read(directory / "k.py", text))
    assert [int(k.params[0].ty.shape[0]) for k in kernels] == [8, 16]
    assert sys.path == path
    assert not {"sizes", "_own_kernel"} & (set(sys.modules) - before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no luck')", "cannot be executed: RuntimeError: no luck"),
        ("import sys; sys.exit(3)", "cannot be executed: SystemExit: 3"),
        ("import nowhere_at_all", "cannot be executed: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = (", "cannot be executed: SyntaxError"),
        ("x = 1", "holds no kernel; it needs a @T.prim_func"),
    ],
)
def test_python_that_fails_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "k.py", text)


HOSTILE = {
    "a statement": "import os\nos.mkdir('pwned')\n" + DOUBLED,
    "a body": kernel("C[vi, vj] = T.float32(__import__('os').mkdir('pwned') or 2)"),
    "a lambda": kernel("C[vi, vj] = (lambda: open('pwned', 'w'))()"),
    "a comprehension": kernel("C[vi, vj] = [open('pwned', 'w') for _ in range(1)]"),
    "a format": kernel('C[vi, vj] = T.float32(f\'{open("pwned", "w")}\')'),
    "a builtin": kernel("C[vi, vj] = open('pwned', 'w')"),
    "eval": kernel('C[vi, vj] = eval(\'open("pwned", "w")\')'),
    "a dunder": kernel("C[vi, vj] = A.__class__.__base__.__subclasses__()"),
    "a module": kernel("C[vi, vj] = T.ir.inspect.sys.modules['os'].mkdir('pwned')"),
    "a module by its name": kernel("C[vi, vj] = tvm.support.cc.subprocess.run(['touch', 'pwned'])"),
    "a size": kernel("C[vi, vj] = A[vi, vj]", "A: T.Buffer((\"open('pwned', 'w')\", 8)), C: T.Buffer((8, 8))"),
    "an annotation": kernel("C[vi, vj] = A[vi, vj]", "A: \"open('pwned', 'w')\", C: T.Buffer((8, 8))"),
    "a local annotation": kernel("x: \"open('pwned', 'w')\" = 1"),
    "a size of what is returned": DOUBLED.replace("):\n", ") -> T.Buffer((\"open('pwned', 'w')\", 8)):\n", 1),
    "a power as a size": kernel("C[vi, vj] = A[vi, vj]", 'A: T.Buffer(("9**9**9", 8)), C: T.Buffer((8, 8))'),
    "a default": kernel("C[vi, vj] = A[vi, vj]", "A: T.Buffer((8, 8)), C: T.Buffer((8, 8)) = open('pwned', 'w')"),
    "a decorator": "@open('pwned', 'w')\n@T.prim_func(s_tir=True)\n" + "def f():\n    T.evaluate(0)\n",
    "a helper": kernel("@T.inline\n            def f():\n                open('pwned', 'w')\n            f()"),
    "a base class": "@I.ir_module\nclass M(open('pwned', 'w')):\n    pass\n",
    "a name of a language": kernel("T = A; C[vi, vj] = T.float32(1)"),
    "a walrus": kernel("C[vi, vj] = (x := 2)"),
    "an assertion": kernel("assert open('pwned', 'w')"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_text_does_not_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="only a .py file, which is executed, may hold it"):
        read(tmp_path / "k.txt", HOSTILE[case])
    assert os.listdir(tmp_path) == ["k.txt"]


def test_json_does_not_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is not an IRModule or PrimFunc as JSON"):
        read(tmp_path / "k.json", HOSTILE["a statement"])
    assert os.listdir(tmp_path) == ["k.json"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.json", b"", "k.json is empty"),
        ("k.json", b"{", "is not an IRModule or PrimFunc as JSON"),
        ("k.json", b"[" * 100_000, "too deeply nested"),
        ("k.json", b"[]", "is not an IRModule or PrimFunc as JSON"),
        ("k.json", b'{"root_index": 0, "nodes": [{"type": "None"}]}', "not an IRModule or PrimFunc"),
        ("k.json", b'{"root_index": 7, "nodes": [{"type": "None"}]}', "not an IRModule or PrimFunc"),
        ("k.json", b'{"root_index": 0, "nodes": [{"type": "ir.IRModule", "data": {}}]}', "not an IRModule or PrimFunc"),
        ("k.json", b'["1", "!!"]', "workload 1 is not a workload of a MetaSchedule database"),
        ("k.json", b'["1", "AAAAAAAAAAA="]', "not an IRModule or PrimFunc"),
        ("k.json", b"\x80\x81", "is not UTF-8 text"),
        ("k.txt", b"\x80\x81", "is not UTF-8 text"),
        ("k.txt", b"a\0b", "k.txt"),
        ("k.txt", b"", "defines nothing"),
        ("k.txt", b"(" * 100_000, "k.txt"),
        ("k.txt", b"x = 1", "x = 1 is not part of a kernel as text"),
        ("k.txt", DOUBLED.encode() * 2, "defines small, small; TVMScript as text is one"),
        ("k.txt", DOUBLED.replace("A[vi, vj]", "Q[vi, vj]").encode(), "cannot be parsed: Undefined variable: Q"),
        ("k.txt", b"def broken(:", "k.txt, line 1"),
    ],
)
def test_rubbish_is_one_message(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_program(tmp_path / name, None, {})
    assert len(str(error.value)) < 600


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, tmp_path / "missing.py"):
        with pytest.raises(ConfigError, match=f"{path} is not a file"):
            read_program(path, None, {})
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(ConfigError, match="large.json has more than 64 MiB"):
        read_program(large, None, {})
