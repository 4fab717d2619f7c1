from stages.benchmarks import Row
from stages.benchmarks.gpu.plan import Plan


def rows(plan: Plan) -> list[Row]:
    return []
