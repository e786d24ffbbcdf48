"""Damage small genuine files of every format thousands of times, and count what became of them.

``python benchmarks/fuzz_files.py --each 200``: damage is drawn from the seed, so that a finding can
be repeated. Silent is what loads with other content than before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "attacks")]

from mutations import Outcome, attack  # noqa: E402 - helpers of the tests
from small_files import make_all  # noqa: E402 - helpers of the tests

RESULTS = ("refused", "same", "tiny", "told", "less", "silent", "raw", "hang", "large")


def main() -> int:
    """Run, print the table, and fail where there was a traceback, a hang or too much memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=100, help="files damaged per format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="*", help="names; all by default")
    parser.add_argument("--seconds", type=float, default=1e9, help="processor time, children too")
    parser.add_argument("--show", type=int, default=5, help="examples of what is no refusal")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: Counter[tuple[str, str]] = Counter()
    shown: Counter[tuple[str, str]] = Counter()
    examples: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        made = make_all(Path(folder))
        start = time.process_time()
        chosen = {name: made[name] for name in given.formats or made}
        spent = 0.0
        for number, (name, small) in enumerate(chosen.items()):
            rng = np.random.default_rng([given.seed, number])
            for outcome in attack(name, small, rng, given.each):
                counts[name, outcome.result] += 1
                spent += outcome.seconds
                if outcome.result in RESULTS[5:] and shown[name, outcome.result] < given.show:
                    shown[name, outcome.result] += 1
                    examples.append(outcome)
                if spent > given.seconds * (number + 1) / len(chosen):
                    break
    print(f"| format | {' | '.join(RESULTS)} |\n|---|{'---|' * len(RESULTS)}")
    for name in [*chosen, "all"]:
        row = [
            sum(n for (one, what), n in counts.items() if what == result and name in (one, "all"))
            for result in RESULTS
        ]
        print(f"| {name} | {' | '.join(map(str, row))} |")
    for outcome in examples:
        print(f"{outcome.result}: {outcome.name}, {outcome.file}, {outcome.kind}: {outcome.detail}")
    own = time.process_time() - start
    print(f"{sum(counts.values())} files, {spent:.0f} s of processor time, {own:.0f} s of it here")
    return int(any(counts[name, what] for name in chosen for what in RESULTS[6:]))


if __name__ == "__main__":
    sys.exit(main())
