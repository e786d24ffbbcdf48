"""Doing the next piece of work in a thread while the present one is in use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

import torch

Item = TypeVar("Item")

_POLL = 0.1
"""s, how often a waiting thread looks whether it is still wanted."""


def run_ahead(items: Iterable[Item], depth: int = 1) -> Generator[Item]:
    """Yield the items of an iterable, in order, while a thread prepares the next ones.

    An error of the iterable is raised where its item would have come. Close the generator
    (``contextlib.closing``) to end the thread early: it finishes the item that it is preparing and
    stops.

    Args:
        items: advanced in the thread only.
        depth: items that may wait to be taken.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(maxsize=depth)
    closed = threading.Event()
    num_threads = torch.get_num_threads()

    def hand_over(more: bool, value: Item | BaseException | None) -> None:
        while not closed.is_set():
            try:
                ready.put((more, value), timeout=_POLL)
                return
            except queue.Full:
                continue

    def work() -> None:
        torch.set_num_threads(num_threads)  # a thread of its own starts with the default
        try:
            for item in items:
                hand_over(True, item)
                if closed.is_set():
                    return
            hand_over(False, None)
        except BaseException as error:  # raised in the thread that waits for the item
            hand_over(False, error)

    thread = threading.Thread(target=work, name="run_ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, value = ready.get()
            if more:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]
    finally:
        closed.set()
        thread.join()
