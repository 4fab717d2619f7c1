"""The README of an exported model: what it is, how fast it and its kernels are, who found that, and how to run it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from colt_pipeline.analysis.labels import search_title
from colt_pipeline.analysis.tree.words import backends, end, label
from colt_pipeline.app import printable
from colt_pipeline.exports.bench_files import BUILD
from colt_pipeline.exports.library import identifier
from colt_pipeline.exports.model_files import Written
from colt_pipeline.exports.model_run import TunedKernel, TunedModel
from colt_pipeline.exports.readme import described, how_measured, milliseconds
from colt_pipeline.exports.rendering import render

_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy")


def model_readme(tuned: TunedModel, target: dict[str, Any], written: Written) -> str:
    """The text.

    Args:
        tuned: what is exported.
        target: what it was compiled for.
        written: its files.
    """
    runs = [kernel.run for kernel in tuned.kernels]
    searched = [run for run in runs if run.state.samples] or runs
    run, summary, model = searched[0], tuned.summary, tuned.whole.model
    headers = [winner.timing.header for winner in tuned.winners if winner.timing.header is not None]
    return render(
        "model_README.md.j2",
        name=printable(tuned.name),
        function=identifier(tuned.name),
        device=summary["device"],
        facts=headers[0]["device"] if headers else {},
        tuned_latency=milliseconds(summary["tuned_secs"]),
        tuned_how=summary["tuned_how"],
        untuned_latency=milliseconds(summary["unoptimized_secs"]),
        untuned_how=summary["unoptimized_how"],
        speedup=f"{summary['unoptimized_secs'] / summary['tuned_secs']:.2f}",
        referee=printable(model.referee),
        tuned_for=described(tuned.target),
        compiled_for=described(target) if target != tuned.target else None,
        search=search_title(str(tuned.config["search"]["name"])),
        seed=tuned.config["seed"],
        samples=sum(len(each.state.samples) for each in runs),
        end=next((words for each in searched if (words := end(each))), ""),
        model_set=tuned.config["model_set"],
        models=[label(run, spec.name) for spec in run.models if spec.provider != "none"],
        backends=", ".join(dict.fromkeys(backends(each) for each in searched)),
        kernels=[_kernel(kernel) for kernel in tuned.kernels],
        left=[printable(name) for name in tuned.left],
        how=list(dict.fromkeys(how_measured(winner) for winner in tuned.winners)),
        inputs=[buffer for buffer in written.buffers if buffer.rtol is None],
        outputs=[buffer for buffer in written.buffers if buffer.rtol is not None],
        weights=len(written.weights),
        megabytes=f"{sum(weight.bytes for weight in written.weights) / 1e6:.4g}",
        unlinked=written.unlinked,
        objects=written.objects,
        link=written.link,
        vector_math=tuned.vector_math,
        packed=any(winner.parts.packed for winner in tuned.winners),
        build=BUILD,
        versions={name: version(name) for name in _PACKAGES},
    )


def _kernel(kernel: TunedKernel) -> dict[str, str]:
    row, winner = kernel.row, kernel.winner
    cold = row.get("cold_secs")
    packed = [winner.workload.parameters[place].name for place, _ in winner.parts.packed] if winner else []
    return {
        "name": printable(row["task"]),
        "shape": row["shape"],
        "calls": str(row["weight"]),
        "before": milliseconds(row["unoptimized_secs"]),
        "after": milliseconds(row["best_secs"]) if winner else "unscheduled",
        "cold": "-" if cold is None else milliseconds(cold),
        "packed": ", ".join(packed),
        "program": winner.program.key[:12] if winner else "-",
    }
