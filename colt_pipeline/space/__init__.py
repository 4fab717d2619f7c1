"""The space of schedules: programs (base module + trace) and the transformations between them."""

from colt_pipeline.space.program import Program
from colt_pipeline.space.space import Space

__all__ = ["Program", "Space"]
