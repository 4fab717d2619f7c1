"""Run directories and the noise of their devices -> five tidy frames (runs, curves, calls, turns, noise), as CSV files.

A run directory is finished if it contains ``summary.json``; ``curve.csv``, ``calls.csv`` and ``turns.csv`` are next to
it. One that contains only a journal is still running or was interrupted, which is an error: figures never omit a run
silently.
"""

from __future__ import annotations

import io
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from colt_pipeline.analysis.journals import COUNTS, JOURNAL_FIELDS, TEXTS, journal_fields
from colt_pipeline.analysis.noise import NOISE_COLUMNS, read_noise
from colt_pipeline.config.spaces import space_name
from colt_pipeline.errors import ConfigError, RunDirError
from colt_pipeline.records import LIMIT, NO_MODEL
from colt_pipeline.runs.jsonl import refuse_endless
from colt_pipeline.runs.layout import CALLS, CONFIG, CURVE, JOURNAL, SUMMARY, TURNS
from colt_pipeline.runs.rundir import read_config
from colt_pipeline.runs.summary import read_summary
from colt_pipeline.search.outcome import ALTERATIONS, CALL_HEAD, CALL_TAIL

IDS = ("workload", "target", "space", "search", "model_set", "largest", "seed")
"""The columns that identify a run, at the start of every row of curves.csv, calls.csv and turns.csv."""
SPACE = "space"
"""The column with the design space, see `space_name`; of a summary, the additions to TVM's, if there are any."""
CONFIRMED = "confirmed_secs"
"""The column with the latency that was measured again at a run's end, see `measurement.confirm`; it may lack."""

# Listed, because inferred types would turn the model set "2" into a number.
_TEXT = (
    *(name for name in IDS if name != "seed"),
    "experiment",
    "run",
    "stopped",
    "best_program",
    "llm_backend",
    "measurement",
    "device",
    "sample_unit",
    "model",
    "backend",
    "program",
    *TEXTS,
)
_FLOAT = (
    "baseline_secs",
    "best_secs",
    "speedup",
    CONFIRMED,
    "initial_secs",
    "latency_secs",
    "parameters_b",
    "hit_rate",
    "gflops",
    "best_sample",
    "llm_secs",
    "alteration_llm_secs",
    "usd",
    "alteration_usd",
    "estimated_usd",
    "timed_secs",
    "minutes",
    "median_secs",
    "spread_within",
    "spread_between",
    "floor",
    *COUNTS,  # unknown without a journal
)
_POSITIVE = ("baseline_secs", "best_secs", "speedup", CONFIRMED)
_COUNTS = ("regular_calls", "course_alterations", "small_model_calls")
_TIMED = "timed_secs"
_DTYPES = {**dict.fromkeys(_TEXT, "str"), **dict.fromkeys(_FLOAT, "float64"), "is_largest": "bool"}

_RUN_FIELDS = (
    *IDS,
    "samples",
    "baseline_secs",
    "best_secs",
    "speedup",
    "llm_backend",
    "measurement",
    "device",
    "warmup_samples",
    *_COUNTS,
)
_CURVE_FIELDS = ("sample", "latency_secs", "best_secs", "speedup")
_TURN_FIELDS = ("sample", ALTERATIONS)


@dataclass(frozen=True, eq=False)
class Tidy:
    """All runs of one comparison. Compared by identity, so that derived data can be cached."""

    runs: pd.DataFrame
    """One row per run: the scalar fields of its summary.json, and its `journal_fields`."""
    curves: pd.DataFrame
    """One row per run and sample: IDS, sample (from 1), latency_secs, best_secs, speedup."""
    calls: pd.DataFrame
    """One row per run and model: IDS, the model, its counts, one column per kind of rejection, its tokens, children
    and regressions (see `ModelStats`), and estimated_usd, the cost of the tokens at the configured prices."""
    turns: pd.DataFrame
    """One row per run and number of measured samples: IDS and the columns of `outcome.turns`."""
    noise: pd.DataFrame
    """One row per device and workload of the runs with recorded noise, see `noise.read_noise`."""


_NAMES = tuple(field.name for field in fields(Tidy))
_COLUMNS = {
    "runs": (*_RUN_FIELDS, *JOURNAL_FIELDS, _TIMED),
    "curves": (*IDS, *_CURVE_FIELDS),
    "calls": (*IDS, *CALL_HEAD, *CALL_TAIL),
    "turns": (*IDS, *_TURN_FIELDS),
    "noise": NOISE_COLUMNS,
}
"""Frame -> the columns that it always has."""


def aggregate(runs_dir: Path, noise_dir: Path | None = None, whole_seeds: bool = False) -> Tidy:
    """Read every run directory below `runs_dir`, in the order of their names.

    Args:
        runs_dir: contains run directories, at any depth.
        noise_dir: contains the noise of the devices, see `read_noise`; None if unknown.
        whole_seeds: whether seeds that lack a finished run are left out, which is said on stderr.

    Raises:
        ConfigError: there is no run; a run is unfinished, inconsistent, or lacks a file or field; two directories hold
            the same run; what a sample is differs; or a noise recording is invalid.
        RunDirError: a summary or configuration is unreadable.
        JournalError: a journal or a noise recording is corrupt.
    """
    runs, curves, calls, turns = [], [], [], []
    seen: dict[tuple[Any, ...], Path] = {}
    for run_dir in _of_whole_seeds(runs_dir) if whole_seeds else _run_dirs(runs_dir):
        summary = _read_summary(run_dir)
        ids = {name: summary[name] for name in IDS}
        twin = seen.setdefault(tuple(ids.values()), run_dir)
        if twin != run_dir:
            raise ConfigError(f"{twin} and {run_dir} hold the same run ({ids}); aggregate them separately")
        own_calls = _read_part(run_dir / CALLS, (*CALL_HEAD, *CALL_TAIL))
        _check_counts(summary, own_calls, run_dir)
        runs.append(summary | journal_fields(run_dir))
        curves.append(_with_ids(_read_curve(run_dir, summary), ids))
        calls.append(_with_ids(own_calls, ids))
        own_turns = _read_part(run_dir / TURNS, _TURN_FIELDS)
        if foreign := set(own_turns.columns).difference(_TURN_FIELDS, own_calls["model"], [NO_MODEL.name]):
            raise _unusable(run_dir / TURNS, f"has columns of models that are not in {CALLS}: {', '.join(foreign)}")
        turns.append(_with_ids(own_turns, ids))
    frame = pd.DataFrame(runs)
    frame[_TIMED] = frame.pop(_TIMED)  # last
    if "sample_unit" in frame and frame["sample_unit"].isna().any():
        raise ConfigError(
            f"a sample of some runs below {runs_dir} is a call (search.sample), of others a measured program; "
            "aggregate them separately"
        )
    calls_of_all, turns_of_all = _complete_calls(pd.concat(calls)), _complete_turns(pd.concat(turns))
    noise = _noise_of(frame, noise_dir)
    return Tidy(*map(_settle, (frame, pd.concat(curves), calls_of_all, turns_of_all, noise)))


def all_confirmed(runs: pd.DataFrame) -> bool:
    """Whether the best program of every run was measured again at its end."""
    return CONFIRMED in runs and bool(runs[CONFIRMED].notna().all())


def write_tidy(tidy: Tidy, data_dir: Path) -> None:
    """Write runs.csv, curves.csv, calls.csv, turns.csv and noise.csv to `data_dir`."""
    for name in _NAMES:
        write_csv(getattr(tidy, name), data_dir / f"{name}.csv")


def read_tidy(data_dir: Path) -> Tidy:
    """Read what `write_tidy` wrote.

    Raises:
        ConfigError: a file is missing, unreadable or not what `write_tidy` writes.
    """
    frames = {name: _read_csv(data_dir / f"{name}.csv") for name in _NAMES}
    for name, required in _COLUMNS.items():
        path = data_dir / f"{name}.csv"
        if missing := set(required).difference(frames[name].columns):
            raise _unusable(path, f"lacks {', '.join(sorted(missing))}")
        if "seed" in required and not frames[name].empty and not pd.api.types.is_integer_dtype(frames[name]["seed"]):
            raise _unusable(path, "has a seed that is not an integer")
        _check_numbers(frames[name], required if name == "runs" else frames[name].columns, path)
    if frames["runs"].empty:
        raise _unusable(data_dir / "runs.csv", "holds no run")
    if frames["runs"].duplicated(list(IDS)).any():
        raise _unusable(data_dir / "runs.csv", "holds a run twice")
    if (rows := len(frames["curves"])) != (samples := frames["runs"]["samples"].sum()):
        raise _unusable(data_dir / "curves.csv", f"has {rows} rows for the {samples} samples in runs.csv")
    numbers = frames["curves"].groupby(list(IDS))["sample"].agg(list)
    for ids, samples in frames["runs"].set_index(list(IDS))["samples"].items():
        if numbers.get(ids, []) != list(range(1, samples + 1)):
            raise _unusable(data_dir / "curves.csv", f"does not have one row for each sample of {ids}")
    return Tidy(**frames)


def write_csv(frame: pd.DataFrame, path: Path, digits: int = 9) -> None:
    """Write `frame` without its index, creating the directory if needed; the bytes depend only on the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_csv_text(frame, digits).encode())


def _csv_text(frame: pd.DataFrame, digits: int = 9) -> str:
    return frame.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n")


def _parse(source: Path | io.StringIO) -> pd.DataFrame:
    """Read CSV with the column types listed above; only empty cells are missing values, or "" in text columns."""
    frame = pd.read_csv(source, dtype=_DTYPES, keep_default_na=False, na_values=[""], encoding="utf-8")
    text = [name for name in frame.columns if name in _TEXT]
    frame[text] = frame[text].fillna("")
    return frame


def _settle(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as it will be read back from its CSV file, so that tables are the same from either."""
    return _parse(io.StringIO(_csv_text(frame)))


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        refuse_endless(path)
        return _parse(path)
    except FileNotFoundError:
        raise ConfigError(f"{path.parent} has no {path.name}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; run the command that made it again") from error
    except ValueError as error:  # what pandas raises for an empty file, a ragged row and a wrong type
        raise ConfigError(f"{path} is not a readable table: {error}") from error


def _run_dirs(runs_dir: Path) -> list[Path]:
    finished = {path.parent for path in runs_dir.rglob(SUMMARY)}
    started = {path.parent for path in runs_dir.rglob(JOURNAL)}
    if unfinished := sorted(started - finished):
        names = ", ".join(map(str, unfinished))
        raise ConfigError(f"unfinished (no {SUMMARY}): {names}; resume or delete before aggregating")
    if not finished:
        raise ConfigError(f"no run directory (one with a {SUMMARY}) below {runs_dir}")
    return sorted(finished, key=lambda path: path.relative_to(runs_dir).as_posix())


def _of_whole_seeds(runs_dir: Path) -> list[Path]:
    """The run directories of seeds with all runs that any seed has, every one of them finished.

    Raises:
        ConfigError: there are none.
        RunDirError: a summary or configuration is unreadable.
    """
    begun: defaultdict[int, dict[str, Path]] = defaultdict(dict)
    for path in sorted(journal.parent for journal in runs_dir.rglob(JOURNAL)):
        config = read_config(path / CONFIG)
        try:
            seed, name = config["seed"], f"{config['experiment']}/{config['run']}"
        except KeyError as error:
            raise RunDirError(f"{path / CONFIG} is not the configuration of a run (no {error}); restore it") from error
        begun[seed][name.removesuffix(f"-s{seed}")] = path
    every = {name for runs in begun.values() for name in runs}
    kept: list[Path] = []
    for seed, runs in sorted(begun.items()):
        finished = [path for path in runs.values() if _is_finished(path)]
        if len(finished) == len(every):
            kept += finished
        else:
            print(f"note: seed={seed} is left out: {len(finished)} of {len(every)} runs finished", file=sys.stderr)
    if not kept:
        raise ConfigError(f"no seed below {runs_dir} has all of its runs; the command that made them goes on with them")
    return sorted(kept, key=lambda path: path.relative_to(runs_dir).as_posix())


def _is_finished(run_dir: Path) -> bool:
    summary = run_dir / SUMMARY
    return summary.exists() and read_summary(summary).get("stopped") != LIMIT


def _read_summary(run_dir: Path) -> dict[str, Any]:
    """The scalar fields of the summary; counts by kind are in calls.csv, per model."""
    required = [name for name in (*_RUN_FIELDS, _TIMED) if name != SPACE]
    summary = read_summary(run_dir / SUMMARY, required)
    if summary.get("stopped") == LIMIT:
        raise ConfigError(f"{run_dir} stopped at a limit of its budget; resume it with a higher one before aggregating")
    scalars = {name: value for name, value in summary.items() if not isinstance(value, dict | list)}
    return dict(sorted({SPACE: space_name(summary.get(SPACE, ())), **scalars}.items()))


def _read_part(path: Path, fields: tuple[str, ...]) -> pd.DataFrame:
    frame = _read_csv(path)
    if missing := set(fields).difference(frame.columns):
        raise _unusable(path, f"lacks {', '.join(sorted(missing))}")
    _check_numbers(frame, frame.columns, path)
    return frame


def _check_numbers(frame: pd.DataFrame, names: Iterable[str], path: Path) -> None:
    """Check that the columns `names`, except texts, hold counts or finite numbers, none of them negative."""
    for name in pd.Index(names).difference(["is_largest", *_TEXT]):
        column = frame[name]
        if name in _POSITIVE:
            bad = np.isinf(column) | (column <= 0)
        elif name in _FLOAT:
            bad = np.isinf(column) | (column < 0)
        elif pd.api.types.is_integer_dtype(column) or frame.empty:
            bad = column.lt(0)
        else:  # pandas keeps a column as text, or as floats, if one of its cells is not an integer
            bad = ~column.astype("str").str.fullmatch("[0-9]{1,18}")
        if bad.any():
            raise _unusable(path, f"has {str(column[bad].iloc[0])!r} in column {name}")


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} {why}; run the command that made it again")


def _read_curve(run_dir: Path, summary: dict[str, Any]) -> pd.DataFrame:
    """The curve, which must follow from its latencies and lead to what the summary says."""
    path = run_dir / CURVE
    curve = _read_part(path, _CURVE_FIELDS)
    if list(curve["sample"]) != list(range(1, summary["samples"] + 1)):
        raise _unusable(path, f"does not have one row for each of the {summary['samples']} samples in {SUMMARY}")
    initial = summary.get("initial_secs")  # known from the first sample on
    best = curve["latency_secs"].cummin().ffill().fillna(np.inf).clip(upper=initial or np.inf).replace(np.inf, np.nan)
    for name, expected in (("best_secs", best), ("speedup", summary["baseline_secs"] / best)):
        if not np.allclose(curve[name], expected, rtol=1e-6, atol=0, equal_nan=True):
            raise _unusable(path, f"has a {name} that does not follow from its latencies and {SUMMARY}")
    last = None if best.empty or np.isnan(best.iloc[-1]) else best.iloc[-1]
    if (last is None) != (summary["best_secs"] is None) or (last and not np.isclose(last, summary["best_secs"], 1e-6)):
        raise _unusable(path, f"ends with {last} s, but the best latency in {SUMMARY} is {summary['best_secs']} s")
    return curve


def _check_counts(summary: dict[str, Any], calls: pd.DataFrame, run_dir: Path) -> None:
    """Check that a run's two files agree on the counts from which all rates are computed."""
    small = calls.loc[~calls["is_largest"], "regular_calls"].sum()
    counted = (calls["regular_calls"].sum(), calls["course_alterations"].sum(), small)
    for name, count in zip(_COUNTS, counted, strict=True):
        if summary[name] != count:
            raise ConfigError(f"{run_dir}: {CALLS} adds up to {count} {name}, {SUMMARY} says {summary[name]}")


def _noise_of(runs: pd.DataFrame, noise_dir: Path | None) -> pd.DataFrame:
    """The noise for the devices and workloads of `runs`."""
    if noise_dir is None:
        return pd.DataFrame(columns=list(NOISE_COLUMNS))
    return read_noise(noise_dir).merge(runs[["device", "workload"]].drop_duplicates(), on=["device", "workload"])


def _with_ids(frame: pd.DataFrame, ids: dict[str, Any]) -> pd.DataFrame:
    columns = [*ids, *(name for name in frame.columns if name not in ids)]
    return frame.assign(**ids)[columns]


def _complete_calls(calls: pd.DataFrame) -> pd.DataFrame:
    """Fill in 0 for kinds of rejections that a run does not list, and place kinds between the fixed columns."""
    fixed = {*IDS, *CALL_HEAD, *CALL_TAIL}
    kinds = [name for name in calls.columns if name not in fixed]
    calls = calls[[*IDS, *CALL_HEAD, *kinds, *CALL_TAIL]]
    return calls.assign(**{kind: calls[kind].fillna(0).astype("int64") for kind in kinds})


def _complete_turns(turns: pd.DataFrame) -> pd.DataFrame:
    """Fill in 0 for models that were not called in a run."""
    models = sorted({*turns.columns} - {*IDS, "sample", ALTERATIONS})
    counts = turns[[*models, ALTERATIONS]].astype("float64").fillna(0).astype("int64")
    return pd.concat([turns[[*IDS, "sample"]], counts], axis="columns")
