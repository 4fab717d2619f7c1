"""All commands under one name: ``colt COMMAND ...``, which is ``python -m colt_pipeline.COMMAND ...``."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "tune": ("tune", "tune a workload, or many with -m"),
    "compare": ("compare", "compare searches at equal samples"),
    "tune-model": ("tune_model", "tune a whole model"),
    "show": ("show", "look at a run and its tree"),
    "forecast": ("tools.forecast", "what live calls will take"),
    "recordings": ("tools.recordings", "look after recordings of LLM answers"),
    "noise": ("tools.noise", "how far two measurements of one schedule differ here"),
    "serve": ("tools.serve", "serve a GGUF file to this machine"),
}
"""Command -> its module below colt_pipeline, which is imported when it is called, and what it does."""


def main() -> None:
    """Run a command; its exit status, or 2 with a message when there is no such command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))  # app.aligned would import Hydra for this
        lines = [f"  {command.ljust(width)}  {words}" for command, (_, words) in COMMANDS.items()]
        print("\n".join(["usage: colt COMMAND ...", "", *lines, "", "colt COMMAND --help says more."]))
        return
    if name not in COMMANDS:
        print(f"error: {name} is not a command; choose one of: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    module, _ = COMMANDS[name]
    sys.argv = [f"colt {name}", *sys.argv[2:]]
    sys.exit(import_module(f"colt_pipeline.{module}").main())


if __name__ == "__main__":
    main()
