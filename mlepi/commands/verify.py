"""Compare the package with known answers: ``mlepi verify [--quick] [--only NAME]``."""

from __future__ import annotations

import os
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the pack; trainings of the full loop run two at a time, with one thread each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mlepi.verification.__main__ import main as verify

    return verify(arguments, prog="mlepi verify")
