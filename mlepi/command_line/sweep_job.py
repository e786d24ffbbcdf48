"""A job of a sweep, where a launcher may send it to another process, as those of submitit do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig

from mlepi.errors import MlepiError


class SweepJob:
    """What Hydra calls for every job of a sweep, and for a single run.

    In the process to which a launcher has sent it, the resolvers that configs need are registered
    first; and a failure is raised there, since the list of those that failed stays behind.

    Args:
        action: of one job; it adds what failed to ``failed``.
        register: makes everything known that the composition of a config needs.
        failed: name of a job → what is printed of its error.
    """

    def __init__(
        self,
        action: Callable[[DictConfig], Any],
        register: Callable[[], None],
        failed: Mapping[str, str],
    ) -> None:
        self.__wrapped__ = action  # Hydra looks there for the module
        self._register = register
        self._failed = failed
        self._sent = False

    def __call__(self, config: DictConfig) -> Any:
        """Run it.

        Raises:
            MlepiError: it failed in a process to which it was sent.
        """
        result = self.__wrapped__(config)
        if self._sent and self._failed:
            raise MlepiError("\n".join(self._failed.values()))
        return result

    def __getstate__(self) -> dict[str, Any]:
        """Travel, and know it."""
        return {**self.__dict__, "_sent": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in another process, before any config is looked at."""
        self.__dict__.update(state)
        self._register()
