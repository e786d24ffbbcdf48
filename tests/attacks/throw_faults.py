"""Faults at everything that writes, in a process with one thread; a line of JSON for each.

``python tests/attacks/throw_faults.py FOLDER SEED WRITERS RUNS``: so many faults at each of them.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
from fault_scenarios import list_runs, list_writers, throw
from warm_python import import_everything


def main(folder: Path, seed: int, writers: int, runs: int) -> None:
    """Throw them."""
    warnings.simplefilter("ignore")
    if runs:
        import_everything()
    for each, scenarios in ((writers, list_writers()), (runs, list_runs())):
        for number, scenario in enumerate(scenarios if each else []):
            rng = np.random.default_rng([seed, number])
            for outcome in throw(scenario, folder / scenario.name, rng, each):
                print(json.dumps({**asdict(outcome), "fine": outcome.is_fine}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:5]))
