"""mace-torch's own training, in the environment of the peers: ``mace_run_train`` and a clock.

``python -m workers.mace_training FOLDER OPTIONS…``: the options are those of ``mace_run_train``,
which runs as it is; what it logs of every validation is also written as a curve. The clock starts
with its first validation, before the first step, so reading the data is not counted.
"""

from __future__ import annotations

import os

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = (
    "1"  # the pinned e3nn opens its own tables with an old torch.load
)

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mace.cli import run_train
from mace.tools import build_default_arg_parser
from mace.tools.utils import MetricsLogger

from workers.curves import CurveClock, Point, append_point

MILLI = 1e3
"""meV per eV."""
MODEL = "*_stagetwo.model"
"""File of the trained network."""
PARAMETERS = "parameters of the network:"
"""What stands before their number in the last line."""


class Recorder:
    """Writes the curve from what mace-torch logs.

    Args:
        folder: of the curve.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.first = folder, CurveClock(folder), True

    def record(self, entry: Mapping[str, Any]) -> None:
        """Take over one entry: of a step, of the state at the start, or of an epoch from 0."""
        if entry.get("mode") != "eval":
            return
        epoch = entry["epoch"]
        if epoch is not None:
            if self.first and epoch > 0:  # from its checkpoint after this epoch, which it repeats
                self.clock.go_on_from(epoch + 1)
            self.first = False
            error = MILLI * float(entry["mae_f"])
            append_point(self.folder, Point(epoch + 1, error, self.clock.stop()))
        self.clock.start()


def main(arguments: Sequence[str]) -> None:
    """Train.

    Args:
        arguments: folder of the curve, then options of ``mace_run_train``.
    """
    recorder, log = Recorder(Path(arguments[0])), MetricsLogger.log

    def log_and_record(logger: MetricsLogger, entry: dict[str, Any]) -> None:
        log(logger, entry)
        recorder.record(entry)

    MetricsLogger.log = log_and_record
    run_train.run(build_default_arg_parser().parse_args(arguments[1:]))
    network = torch.load(next(recorder.folder.glob(MODEL)), weights_only=False)
    print(PARAMETERS, sum(each.numel() for each in network.parameters()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
