"""All services of a run behind one door, which lets no failure of theirs through."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlepi.tracking.service import Cell, Job, Service
from mlepi.tracking.settings import read_options

log = logging.getLogger(__name__)


def attempt(what: str, action: Callable[[], Any]) -> Any:
    """Return the result of a service that the run can do without; None when it fails."""
    try:
        return action()
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        log.warning(
            "%s is not installed (no module %s): the run continues, and its folder has everything; "
            "pip install %s, or logger=csv",
            what,
            missing,
            what,
        )
    except Exception as error:
        log.warning(
            "%s failed (%s: %s); the run continues, and its folder has everything",
            what,
            type(error).__name__,
            error,
        )
    return None


class Trackers:
    """The services of one run; what each cannot do is said once, and it is asked nothing more.

    Args:
        services: name → service.
    """

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = dict(services)

    def __bool__(self) -> bool:
        """Tell whether anybody listens, before something is made for them alone."""
        return bool(self._services)

    def log_values(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Add one point to every curve; see ``Service``."""
        self._each(lambda service: service.log_values(values, step))

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Say the numbers by which runs are compared; see ``Service``."""
        self._each(lambda service: service.log_summary(values))

    def log_table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Show a table; see ``Service``."""
        self._each(lambda service: service.log_table(name, header, rows))

    def log_curve(
        self, name: str, labels: tuple[str, str], x: Sequence[float], y: Sequence[float]
    ) -> None:
        """Draw a quantity against another; see ``Service``."""
        self._each(lambda service: service.log_curve(name, labels, x, y))

    def log_image(self, name: str, path: Path) -> None:
        """Show a PNG file; see ``Service``."""
        self._each(lambda service: service.log_image(name, path))

    def log_file(self, name: str, path: Path, kind: str) -> None:
        """Keep a file; see ``Service``."""
        self._each(lambda service: service.log_file(name, path, kind))

    def close(self) -> None:
        """End the run in all services."""
        self._each(lambda service: service.close())
        self._services.clear()

    def _each(self, action: Callable[[Service], None]) -> None:
        def guarded(service: Service) -> bool:
            action(service)
            return True

        for name, service in list(self._services.items()):
            if attempt(name, lambda found=service: guarded(found)) is None:  # type: ignore[misc]
                del self._services[name]


def start_trackers(config: Mapping[str, Any], job: Job) -> Trackers:
    """Start a run in every service that is wanted.

    Args:
        config: plain content of ``logger``.
        job: what the run is.
    """

    def start_wandb(options: dict[str, Any]) -> Service | None:
        from mlepi.tracking.wandb_service import start

        return start(options, job)

    def start_tensorboard(options: dict[str, Any]) -> Service | None:
        from mlepi.tracking.tensorboard_service import TensorboardService

        return TensorboardService(options, job)

    starters = {"wandb": start_wandb, "tensorboard": start_tensorboard}
    services = {}
    for name, start in starters.items():
        options = read_options(config, name)
        if options is None:
            continue
        service = attempt(name, partial(start, options))
        if service is not None:
            services[name] = service
    return Trackers(services)


def log_comparison(
    folder: Path,
    config: Mapping[str, Any],
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    figures: Mapping[str, Path],
) -> None:
    """Send the comparison of a sweep to the services of its runs, as a run of its own.

    Args:
        folder: of the sweep.
        config: plain content of ``logger`` of one of its runs.
        header: of the table.
        rows: as many cells each.
        figures: name → PNG file.
    """
    job = Job(folder, "comparison", "comparison", folder.resolve().name)
    trackers = start_trackers({**config, **_without_name(config)}, job)
    trackers.log_table("comparison/table", header, rows)
    for name, path in figures.items():
        trackers.log_image(f"comparison/{name}", path)
    trackers.close()


def _without_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of services whose name is that of another run, without it."""
    return {
        service: {**options, "name": None}
        for service, options in config.items()
        if isinstance(options, Mapping) and "name" in options
    }
