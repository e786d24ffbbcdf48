"""The settings of services, ``conf/logger``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlepi.config_check import list_unknown_keys
from mlepi.errors import message

KNOWN: dict[str, dict[str, tuple[tuple[type, ...], str]]] = {
    "wandb": {
        "project": ((str,), "a name"),
        "entity": ((str, type(None)), "a name or null"),
        "name": ((str, type(None)), "a name or null"),
        "group": ((str, type(None)), "a name or null"),
        "tags": ((list,), "a list of words"),
        "offline": ((bool,), "true or false"),
        "files": ((bool,), "true or false"),
    },
    "tensorboard": {"folder": ((str,), "a folder below that of the run")},
}
"""Service → key → types of its value, and what is expected."""

FORMER = {"wandb": ("log_model",)}
"""Service → keys of earlier versions, which stored configs of finished trainings still hold."""


def list_mistakes(config: Any) -> list[str]:
    """Return what is wrong with the settings of services, one text per mistake.

    Args:
        config: plain content of ``logger``.
    """
    if not isinstance(config, Mapping):
        fix = "Choose logger=csv, logger=wandb or logger=tensorboard."
        return [message("logger", repr(config), "settings of services", fix)]
    problems = list_unknown_keys("logger", config, KNOWN)
    for service, options in config.items():
        if options is None or service not in KNOWN:
            continue
        where, known = f"logger.{service}", KNOWN[service]
        if not isinstance(options, Mapping):
            fix = f"Take them over from conf/logger/{service}.yaml."
            problems.append(message(where, repr(options), "settings of the service, or null", fix))
            continue
        problems += list_unknown_keys(where, options, known)
        for key, value in options.items():
            if key in known and not isinstance(value, known[key][0]):
                expected = known[key][1]
                problems.append(message(f"{where}.{key}", repr(value), expected, "Edit it."))
    return problems


def read_options(config: Mapping[str, Any], service: str) -> dict[str, Any] | None:
    """Return the settings of a service, None where it is not wanted.

    Args:
        config: plain content of ``logger``, of any version.
        service: one of ``KNOWN``.
    """
    options = config.get(service)
    if options is None:
        return None
    return {key: x for key, x in options.items() if key not in FORMER.get(service, ())}
