"""Whether the time of redaction is linear in the length of hostile answers: eight times the text, how much longer?

Each text repeats the beginning of a credential. Both sizes are timed in turn, in CPU time, so that other processes
matter little; the ideal ratio is 8.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

from colt_pipeline.llm.redact import redacted
from stages.benchmarks import Row, command_line, positive, write_rows

_TIMES = 8
REPEATED = (
    "sk-",
    "nvapi-",
    "hf_",
    "ghp_",
    "github_pat_",
    "AKIA",
    "eyJ",
    "eyJaaaaaaaa.",
    "token=",
    "api_key",
    "Bearer ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END ",
    "a plain text. ",
)


def rows(kib: int, rounds: int) -> list[Row]:
    """One row per repeated text: milliseconds of CPU time at `kib` KiB and at eight times as much, and their ratio."""
    found: list[Row] = []
    for text in REPEATED:
        once = text * ((kib << 10) // len(text) + 1)
        pairs = [(_secs(once), _secs(once * _TIMES)) for _ in range(rounds)]
        short, long = (statistics.median(secs) for secs in zip(*pairs, strict=True))
        found.append(
            {
                "repeated": text.strip(),
                "kib": kib,
                "ms": round(1e3 * short, 2),
                "ms_at_8x": round(1e3 * long, 2),
                "ratio": round(statistics.median(late / early for early, late in pairs), 2),
            }
        )
    return found


def _secs(text: str) -> float:
    begin = time.process_time()
    redacted(text)
    return time.process_time() - begin


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.redaction --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--kib", type=positive, default=128, help="size of the smaller text")
    parser.add_argument("--rounds", type=positive, default=7, help="timings of each size")
    given = parser.parse_args(argv)
    return write_rows(lambda: rows(given.kib, given.rounds), given.out / "redaction.csv")


if __name__ == "__main__":
    sys.exit(main())
