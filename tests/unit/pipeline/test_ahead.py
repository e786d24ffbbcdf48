"""Work done ahead of its use: order, errors and an early end."""

import threading
from contextlib import closing

import pytest

from mlepi.errors import PhysicsError
from mlepi.pipeline.ahead import run_ahead


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "run_ahead"]


@pytest.mark.parametrize("depth", [1, 3])
def test_items_come_in_order_from_another_thread(depth):
    threads = []

    def numbers():
        for number in range(20):
            threads.append(threading.current_thread())
            yield number

    assert list(run_ahead(numbers(), depth)) == list(range(20))
    assert threading.current_thread() not in threads
    assert not alive()
    assert list(run_ahead([None, None])) == [None, None]


def test_an_error_comes_where_its_item_would_have_come():
    def numbers():
        yield 1
        raise PhysicsError("sample: a failure on purpose")

    ahead = run_ahead(numbers())
    assert next(ahead) == 1
    with pytest.raises(PhysicsError, match="a failure on purpose"):
        next(ahead)
    assert not alive()


def test_the_thread_ends_when_nobody_takes_more():
    made = []

    def numbers():
        for number in range(1000):
            made.append(number)
            yield number

    def interrupted():
        with closing(run_ahead(numbers(), depth=2)) as ahead:
            for number in ahead:
                if number == 3:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not alive()
    assert len(made) < 10
