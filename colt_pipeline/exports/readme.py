"""The README of an export: what the kernel is, how fast, how that was measured, who found it, and how to run it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from colt_pipeline.analysis.labels import search_title
from colt_pipeline.analysis.tree.words import backends, end, label, samples_so_far
from colt_pipeline.app import printable
from colt_pipeline.exports.bench_files import BUILD, Buffer
from colt_pipeline.exports.library import LINK, OBJECT, packing
from colt_pipeline.exports.rendering import render
from colt_pipeline.exports.winner import Winner
from colt_pipeline.workloads.workload import Parameter


def readme_text(
    winner: Winner, target: dict[str, Any], function: str, unlinked: str | None, buffers: Sequence[Buffer]
) -> str:
    """The text.

    Args:
        winner: what is exported.
        target: what the library was compiled for.
        function: its name.
        unlinked: see `write.Export`.
        buffers: its parameters, if there is a library.
    """
    run, timing, workload = winner.run, winner.timing, winner.workload
    baseline, secs = run.started.baseline_secs, timing.latency_secs
    outputs = [workload.parameters[position] for position in workload.outputs]
    return render(
        "README.md.j2",
        winner=winner,
        name=printable(workload.name),
        function=function,
        facts=timing.header["device"] if timing.header is not None else {},
        latency=milliseconds(secs),
        cold=None if timing.cold_secs is None else milliseconds(timing.cold_secs),
        baseline=milliseconds(baseline),
        speedup=f"{baseline / secs:.2f}",
        how=how_measured(winner),
        tuned=described(winner.target),
        compiled=described(target),
        retargeted=target != winner.target,
        outputs=list(zip(outputs, workload.rtols, strict=True)),
        search=search_title(str(run.config["search"]["name"])),
        models=[label(run, model.name) for model in run.models if model.provider != "none"],
        backends=backends(run),
        samples=f"{samples_so_far(run)} samples{end(run)}",
        unlinked=unlinked,
        packed=_packed(winner),
        pack=packing(function),
        buffers=buffers,
        build=BUILD,
        object=OBJECT,
        link=LINK,
        versions={name: version(name) for name in ("apache-tvm", "apache-tvm-ffi", "numpy")},
    )


def _packed(winner: Winner) -> list[tuple[Parameter, Parameter]]:
    """Each input that is packed ahead, with its packed form."""
    return [(winner.workload.parameters[position], form) for position, form in winner.parts.packed]


def how_measured(winner: Winner) -> str:
    """How the latency was measured, in a sentence."""
    timing = winner.timing
    if winner.is_estimated:
        return "estimated by a formula from the GPU's data sheet, not measured"
    if timing.rounds:
        return (
            "confirmed: the best programs of the search were measured again in turn, and this is the median of "
            f"{timing.rounds} rounds"
        )
    if timing.header is None:
        return "as in the search's journal; whether it was confirmed is in the recording, which is not beside the run"
    what = "one run" if len(timing.run_secs) == 1 else f"the median of {len(timing.run_secs)} runs"
    return f"not confirmed: {what} during the search; the best of many noisy latencies is too low on average"


def milliseconds(secs: float) -> str:
    return f"{secs * 1e3:.4g} ms"


def described(target: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(target.items()))
