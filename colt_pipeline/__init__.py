"""COLT: several LLMs of different sizes share one Monte Carlo tree search over tensor program schedules."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colt_pipeline.api import Tuned, TunedModel, tune_model, tune_module

__all__ = ["Tuned", "TunedModel", "tune_model", "tune_module"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the Python API, and with it TVM, when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from colt_pipeline import api

    return getattr(api, name)
