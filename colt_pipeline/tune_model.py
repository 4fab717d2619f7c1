"""Tune a whole model: ``python -m colt_pipeline.tune_model workload=own_model workload.source=FILE samples=256``.

The file is ONNX (.onnx), an archive of ``torch.export.save`` (.pt2), Python, or a Relax module as JSON. Without one,
``experiment=end_to_end`` tunes Llama-3-8B (paper section 4, table 2). See `whole_model` for what a run does. An
interrupted one resumes when the same command is given again.
"""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from colt_pipeline.app import attempt, command, escaping, message_and_exit
from colt_pipeline.config.arguments import with_open_keys
from colt_pipeline.config.compose import CONF
from colt_pipeline.config.schema import Config
from colt_pipeline.progress.standing import followed_model
from colt_pipeline.progress.watch import watched
from colt_pipeline.tools.forecast import announced


def run(config: Config) -> None:
    """Tune (or resume, or replay) the model, write the outputs of all its runs, and print what came of it.

    Raises:
        ColtError: a run cannot continue; all can be resumed.
    """
    from colt_pipeline.whole_model.job import tune  # it imports TVM, which --help does not need
    from colt_pipeline.whole_model.report import shown

    print(shown(config, tune(config).summary), flush=True)


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _job(raw: DictConfig) -> None:
    attempt(run, raw)


@escaping()
def main() -> None:
    """Announce the cost of live calls and run Hydra's jobs; see `app.command`."""
    sys.argv[1:] = with_open_keys(sys.argv[1:])
    with message_and_exit():
        configs = announced(sys.argv[1:])
    with watched(configs, followed_model):
        command(_job)


if __name__ == "__main__":
    main()
