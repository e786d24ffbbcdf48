"""Runs that are killed, stopped or joined by another one: nothing lost, nothing mixed.

``make attack`` does it to ranks, trainings and workers of dask as well, and many times.
"""

import numpy as np
import pytest
from kills import OTHER, kill_once, list_programs, meet, run_whole, stop_once


@pytest.fixture(scope="module")
def inference(tmp_path_factory):
    """A program, the digest of what it leaves, and its duration, s."""
    folder = tmp_path_factory.mktemp("whole")
    program = list_programs(folder)["inference"]
    return (program, *run_whole(program, folder / "run"))


def test_a_killed_run_goes_on_to_the_same_records(tmp_path, inference):
    program, whole, seconds = inference
    delay = float(np.random.default_rng(3).uniform(0.4, 0.9)) * seconds
    attempt = kill_once(program, tmp_path / "run", whole, delay, "first")
    assert attempt.is_fine, attempt


def test_a_stopped_run_says_so_and_goes_on(tmp_path, inference):
    program, whole, seconds = inference
    attempt = stop_once(program, tmp_path / "run", whole, 0.3 * seconds, "SIGUSR1", "run.lock")
    assert attempt.is_fine, attempt


def test_of_two_runs_in_one_folder_one_is_refused(tmp_path, inference):
    program, whole, _ = inference
    other, _ = run_whole(program, tmp_path / "other", OTHER)
    attempt = meet(program, tmp_path / "run", (whole, other), 0.0)
    assert attempt.is_fine, attempt
