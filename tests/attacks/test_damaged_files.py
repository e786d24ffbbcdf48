"""Seeded damage to small genuine files of every format: refused, or read as before.

``benchmarks/fuzz_files.py`` does the same thousands of times.
"""

from __future__ import annotations

import numpy as np
import pytest
from mutations import attack
from small_files import OWN, make_all

EACH = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("small"))


def test_damage_is_refused_or_does_no_harm(made):
    wrong = []
    n_refused = 0
    for number, (name, small) in enumerate(made.items()):
        for outcome in attack(name, small, np.random.default_rng([5, number]), EACH):
            n_refused += outcome.result == "refused"
            harmful = ("raw", "hang", "large") + (("silent", "less", "told") if name in OWN else ())
            wrong += [outcome] if outcome.result in harmful else []
    assert not wrong
    assert n_refused > 0.4 * EACH * len(made)
