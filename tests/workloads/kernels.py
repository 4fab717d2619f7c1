"""Programs of a user's own, as text."""

from tests.support import ROOT

GEMM_FILE = ROOT / "tests" / "data" / "kernels" / "gemm_relu.py"
GEMM = GEMM_FILE.read_text()

ROWS = """
@T.prim_func(s_tir=True)
def rows(x: T.handle, s: T.handle):
    n = T.int64()
    A = T.match_buffer(x, (n, 32), "float32")
    B = T.match_buffer(s, (n,), "float32")
    for i, k in T.grid(n, 32):
        with T.sblock("B"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                B[vi] = T.float32(0)
            B[vi] = B[vi] + A[vi, vk]
"""
"""Sums of rows, of which the number is open."""


def kernel(body: str, parameters: str = 'A: T.Buffer((8, 8), "float32"), C: T.Buffer((8, 8), "float32")') -> str:
    """A function with one block over an 8 x 8 grid whose body is this."""
    return f"""
@T.prim_func(s_tir=True)
def small({parameters}):
    for i, j in T.grid(8, 8):
        with T.sblock("C"):
            vi, vj = T.axis.remap("SS", [i, j])
            {body}
"""


DOUBLED = kernel("C[vi, vj] = A[vi, vj] * T.float32(2)")
