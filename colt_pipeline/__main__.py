"""The ``colt COMMAND ...`` entry point, equivalent to ``python -m colt_pipeline.COMMAND ...``."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "tune": ("tune", "tune a workload, or several with -m"),
    "compare": ("compare", "compare searches at equal sample counts"),
    "tune-model": ("tune_model", "tune a whole model"),
    "export": ("export", "export a tuned kernel: library, scripts, database"),
    "show": ("show", "inspect a run and its tree"),
    "check-models": ("tools.check_models", "ask each model once: key, name, schema, limits, price"),
    "forecast": ("tools.forecast", "estimate what live calls will cost"),
    "recordings": ("tools.recordings", "manage recordings of LLM answers"),
    "noise": ("tools.noise", "estimate the measurement noise on this machine"),
    "experience": ("tools.experience", "add what runs measured to what the cost model starts from"),
    "serve": ("tools.serve", "serve a GGUF file on this machine"),
}
"""Command -> its module below colt_pipeline, imported only when the command runs, and its help text."""


def main() -> None:
    """Run a command and exit with its status, or with 2 and a message if there is no such command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))  # app.aligned would import Hydra for this
        lines = [f"  {command.ljust(width)}  {words}" for command, (_, words) in COMMANDS.items()]
        print("\n".join(["usage: colt COMMAND ...", "", *lines, "", "Run colt COMMAND --help for details."]))
        return
    if name not in COMMANDS:
        from colt_pipeline.app import printable  # imports Hydra, which --help does not need

        print(f"error: {printable(name)} is not a command; choose one of: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    module, _ = COMMANDS[name]
    sys.argv = [f"colt {name}", *sys.argv[2:]]
    try:
        sys.exit(import_module(f"colt_pipeline.{module}").main())
    except KeyboardInterrupt:  # while it is imported; later it has its own way
        sys.exit(130)


if __name__ == "__main__":
    main()
