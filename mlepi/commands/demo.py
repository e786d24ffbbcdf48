"""Bands, A(k, E) and v_F of bilayer graphene at six temperatures: ``mlepi demo``.

``mlepi infer experiment=demo``; further KEY=VALUE change it, ``mlepi demo n_samples=100``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mlepi.commands import infer


def main(arguments: Sequence[str]) -> int:
    """Run the demo, its two processes with one thread each unless the environment says more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    given = list(arguments)
    keys = [place for place, word in enumerate(given) if "=" in word and not word.startswith("-")]
    given.insert(keys[0] if keys else len(given), "experiment=demo")  # Hydra takes keys in a row
    return infer.main(given)
