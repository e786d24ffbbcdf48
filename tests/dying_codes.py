"""Codes that kill the worker in which they compute, for the tests of engines."""

import os
import signal
import time
from pathlib import Path

from mlepi.labelling import Fake


class Dying(Fake):
    """The toy code, but a structure kills its process: always, or until a file is there."""

    def __init__(self, *, victim, mark="", **given):
        super().__init__(**given)
        self._victim, self._mark = victim, mark

    def compute(self, calculation):
        """Label a structure, or die."""
        if calculation.name == self._victim and not (self._mark and Path(self._mark).exists()):
            if self._mark:
                Path(self._mark).touch()
            time.sleep(0.5)  # the scheduler shall know who has begun what
            os.kill(os.getpid(), signal.SIGKILL)
        return super().compute(calculation)
