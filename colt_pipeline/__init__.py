"""COLT: several LLMs of different sizes share one Monte Carlo tree search over tensor program schedules."""

__version__ = "0.1.0"
