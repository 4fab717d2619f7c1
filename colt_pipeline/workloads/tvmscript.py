"""TVMScript as text, parsed without executing code.

TVM's parser evaluates the expressions that it meets as Python, with all builtins in reach. Therefore a text is first
compared with what kernels consist of: everything else is refused before TVM sees it.
"""

from __future__ import annotations

import ast
import builtins
import re
import types
from collections.abc import Iterator
from typing import Any

import tvm
from tvm.script.parser import ir, tirx

from colt_pipeline.errors import ConfigError

_LANGUAGES = {"ir": ir, "tirx": tirx, "tir": tirx}
"""Modules of ``tvm.script`` that a text may import; ``tir`` is what older dialects called ``tirx``."""
_USUAL = {"I": ir, "T": tirx}
"""Their names in a text without imports."""

_STATEMENTS = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.With, ast.withitem, ast.For, ast.While),
    *(ast.If, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Pass, ast.Return),
)
_EXPRESSIONS = (
    *(ast.Name, ast.Attribute, ast.Call, ast.keyword, ast.Constant, ast.Subscript, ast.Slice, ast.Tuple, ast.List),
    *(ast.Dict, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Starred),
)
_OPERATORS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context)
_SIZE = re.compile(r"[\w +*/%-]*")
"""Strings in annotations: types such as ``float32``, and symbolic sizes such as ``n * 2``."""
_BUILTINS = frozenset({"range", "int", "float", "bool", "len", "min", "max", "abs"})

_OF_VALUES = frozenset({"astype", "data", "dtype", "elem_offset", "shape", "strides"})
"""Attributes of buffers and expressions."""
_OF_MODULES = frozenset({"ir_module", "module_attrs"})
_OF_AXES = frozenset({"opaque", "reduce", "remap", "scan", "spatial", "R", "S"})
_OF_KERNELS = frozenset(
    {
        *("prim_func", "func_attr", "func_name", "match_buffer", "Buffer", "handle", "Ptr", "let", "Range"),
        *("grid", "serial", "parallel", "vectorized", "unroll", "thread_binding", "launch_thread", "env_thread"),
        *("sblock", "sblock_attr", "sblock_alloc_buffer", "axis", "reads", "writes", "where", "init", "evaluate"),
        *("alloc_buffer", "decl_buffer", "block_name_suffix_context", "attr", "bool", "boolean", "Let", "bind"),
        *("Add", "Sub", "Mul", "Div", "Mod", "FloorDiv", "FloorMod", "Min", "Max", "EQ", "NE", "LT", "LE", "GT", "GE"),
        *("And", "Or", "Not", "Cast", "Select", "Broadcast", "Ramp", "Shuffle", "broadcast", "ramp", "min", "max"),
        *("block", "block_attr"),  # of older dialects, for TVM's own message
        *("abs", "IntImm", "FloatImm", "min_value", "max_value", "clz"),
    }
)


def parse(text: str, where: str) -> Any:
    """The PrimFunc or IRModule that `text` defines.

    Args:
        text: imports of ``tvm.script`` and one function or class.
        where: its name for messages.

    Raises:
        ConfigError: the text has something that kernels do not need, or is not TVMScript; the message gives the line.
        DiagnosticError: TVM refuses it; the first line says why.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{where}, line {error.lineno}: {error.msg}; only .py files may hold other Python") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{where} is not TVMScript: {error or 'too deeply nested'}") from error
    names = _imported(tree, where)
    defined = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    if len(defined) != 1:
        raise ConfigError(
            f"{where} defines {', '.join(node.name for node in defined) or 'nothing'}; TVMScript as text is one "
            "@T.prim_func, or one @I.ir_module class around several"
        )
    try:
        for node in _nodes(defined[0]):
            if reason := _refused(node, names):
                line = getattr(node, "lineno", None)
                raise ConfigError(
                    f"{where}{f', line {line}' if line else ''}: {reason} is not part of a kernel as text; only a .py "
                    "file, which is executed, may hold it"
                )
        return tvm.script.from_source(ast.unparse(defined[0]), extra_vars=dict(names))
    except RecursionError as error:
        raise ConfigError(f"{where} is too deeply nested") from error


def models(text: str) -> list[str]:
    """Names of Relax functions in a text."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return [f.name for f in functions if any(ast.unparse(d).startswith("R.function") for d in f.decorator_list)]


def _imported(tree: ast.Module, where: str) -> dict[str, types.ModuleType]:
    """Name in the text -> module of TVMScript."""
    names = dict(_USUAL)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) or _is_docstring(node):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tvm.") and node.level == 0:
            found = {alias.asname or alias.name: _LANGUAGES.get(alias.name) for alias in node.names}
            names.update({name: module for name, module in found.items() if module is not None})
            continue  # what is unknown is refused where it is used
        raise ConfigError(
            f"{where}, line {node.lineno}: {ast.unparse(node).splitlines()[0][:60]} is not part of a kernel as text; "
            "only a .py file, which is executed, may hold it"
        )
    return names


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes; the names that attributes belong to only with their attribute."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        whole = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        waiting += [] if whole else list(ast.iter_child_nodes(node))


def _refused(node: ast.AST, names: dict[str, types.ModuleType]) -> str | None:
    """The part of a node that kernels do not need, as text for a message; None if there is none."""
    match node:
        case ast.Attribute():
            return None if _is_known(node, names) else ast.unparse(node)[:60]
        case ast.Name(id=name):
            plain = isinstance(node.ctx, ast.Load) and (name in _BUILTINS or not hasattr(builtins, name))
            if name.startswith("__") or name in names or not (plain or isinstance(node.ctx, ast.Store)):
                return name
        case ast.FunctionDef() | ast.ClassDef() if not _is_decorated(node, names):
            return f"{node.name}, which is not just a @T.prim_func or @I.ir_module,"
        case (
            ast.arg(annotation=ast.expr() as annotation)
            | ast.AnnAssign(annotation=annotation)
            | ast.FunctionDef(returns=ast.expr() as annotation)
        ):
            # TVM parses and evaluates strings in annotations.
            strings = (
                n.value for n in ast.walk(annotation) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            )
            return next((repr(text) for text in strings if not _SIZE.fullmatch(text) or "**" in text), None)
        case ast.BinOp(op=ast.Pow()):
            return "**"
    if isinstance(node, (*_STATEMENTS, *_EXPRESSIONS, *_OPERATORS)):
        return None
    return f"Python's {type(node).__name__}"


def _is_decorated(node: ast.FunctionDef | ast.ClassDef, names: dict[str, types.ModuleType]) -> bool:
    """Whether a definition has the one decorator that makes it a kernel or a module, and nothing else."""
    wanted, language = ("prim_func", tirx) if isinstance(node, ast.FunctionDef) else ("ir_module", ir)
    if len(node.decorator_list) != 1 or (isinstance(node, ast.ClassDef) and (node.bases or node.keywords)):
        return False
    decorator = node.decorator_list[0]
    decorator = decorator.func if isinstance(decorator, ast.Call) else decorator
    match decorator:
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return attribute == wanted and names.get(name) is language
    return False


def _is_known(node: ast.Attribute, names: dict[str, types.ModuleType]) -> bool:
    """Whether an attribute belongs to kernels: those of the languages, of axes, and of buffers and expressions."""
    match node.value:
        case ast.Name(id=name) if name in names:
            return _is_word(names[name], node.attr)
        case ast.Attribute(value=ast.Name(id=name), attr="axis") if name in names:
            return node.attr in _OF_AXES
    return node.attr in _OF_VALUES


def _is_word(language: types.ModuleType, word: str) -> bool:
    """Whether kernels may use this word of a language: named above, a type's constructor, or an operator of TIR."""
    if language is ir:
        return word in _OF_MODULES
    value = getattr(language, word, None)
    operator = isinstance(value, types.FunctionType) and value.__module__ == "tvm.tirx.op"
    return word in _OF_KERNELS or (not word.startswith("_") and (operator or isinstance(value, _CONSTRUCTOR)))


_CONSTRUCTOR = type(tirx.float32)
