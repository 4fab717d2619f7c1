"""Measurement settings for tests: little time and few processes."""

from colt_pipeline.measurement.devices import cpu_target, host_cpu
from tests.support import configured

SETTINGS = configured(
    "measure=default",
    "measure.max_repeats=4",
    "measure.max_spread=0.5",
    "measure.min_repeat_secs=0",
    "measure.budget_secs=0.01",
    "measure.slower=0",
    "measure.build_timeout_secs=20",
    "measure.run_timeout_secs=20",
    "measure.memory_mib=1024",
    "measure.builders=2",
).measure


def target() -> dict[str, object]:
    device = host_cpu()
    return cpu_target(device.facts["threads"], device.facts["mcpu"])
