"""Signals: noted, obeyed at safe points or after the grace, and what a scheduler is told."""

import os
import pickle
import signal
import stat
import threading
import time

import pytest

from mlepi import stopping
from mlepi.stopping import Stopped


def test_a_signal_is_obeyed_at_the_next_safe_point(capfd):
    handlers = [signal.getsignal(number) for number in stopping.SIGNALS]
    with stopping.listen():
        assert stopping.is_listening()
        stopping.stop_if_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.requested()
        with pytest.raises(Stopped, match="stopped by SIGTERM") as caught:
            stopping.stop_if_requested()
    assert (caught.value.status, caught.value.wants_requeue) == (143, False)
    assert not stopping.requested()
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == handlers
    assert "SIGTERM: stopping at the next safe point" in capfd.readouterr().err


def wait_for_the_alarm():
    while True:
        time.sleep(0.01)


def test_where_no_safe_point_comes_the_run_is_left_after_the_grace():
    with stopping.listen():
        stopping.give_time(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stopped, match="SIGUSR1") as caught:
            wait_for_the_alarm()
    assert (caught.value.status, caught.value.wants_requeue) == (143, True)


def test_a_second_signal_stops_at_once_and_ctrl_c_has_its_own_status():
    def ask(number):
        os.kill(os.getpid(), number)
        wait_for_the_alarm()

    with stopping.listen():
        stopping.give_time(60)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped) as caught:
            ask(signal.SIGINT)
    assert caught.value.status == 130


def test_no_handler_of_errors_keeps_a_run_from_stopping():
    assert not issubclass(Stopped, Exception)
    again = pickle.loads(pickle.dumps(Stopped(signal.SIGUSR1)))  # noqa: S301 - to other processes
    assert again.wants_requeue


def test_a_library_that_takes_the_signals_is_overruled():
    with stopping.listen():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopping.install()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.requested()


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with stopping.listen():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({"SLURM_JOB_ID": "12"}, "12"),
        ({"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}, "9_3"),
    ],
)
def test_slurm_is_asked_for_another_turn(tmp_path, monkeypatch, variables, job):
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert f"job {job} is in its queue again" in stopping.request_requeue(variables)
    assert (tmp_path / "asked").read_text() == f"requeue {job}\n"
    program.write_text("#!/bin/sh\nexit 1\n")
    assert "failed: submit it again" in stopping.request_requeue(variables)
    monkeypatch.setenv("PATH", "/nowhere")
    assert f"scontrol requeue {job} starts" in stopping.request_requeue(variables)


@pytest.mark.parametrize("job", ["", "12; rm -rf /"])
def test_without_a_job_nothing_is_asked(job):
    assert "submit it again" in stopping.request_requeue({"SLURM_JOB_ID": job})
