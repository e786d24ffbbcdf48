"""``constraints.txt`` pins all that an installation brings, also for newer Pythons and on macOS.

Followed through what the installed packages say of each other, with the markers of other systems:
what they need under those and this environment does not have would come in an unknown version.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINS = {
    canonicalize_name(line.split("==")[0]): line.split("==")[1]
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
}
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
MACOS = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}


@cache
def parse(requirement: str) -> Requirement:
    return Requirement(requirement)


def hold(texts: list[str], environment: dict[str, str], extras: set[str]) -> list[Requirement]:
    """Choose the requirements whose markers hold, for any of the extras that were asked for."""
    return [
        requirement
        for requirement in map(parse, texts)
        if requirement.marker is None
        or any(requirement.marker.evaluate({**environment, "extra": e}) for e in extras or {""})
    ]


def needed(environment: dict[str, str], extra: str) -> list[Requirement]:
    """List what an installation with an extra needs, directly and through others."""
    texts = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    todo, found, seen = hold(texts, environment, set()), [], set()
    while todo:
        requirement = todo.pop()
        found.append(requirement)
        if (key := (requirement.name, *sorted(requirement.extras))) in seen:
            continue
        seen.add(key)
        # what is for another system is not installed, and its own needs are not known here
        with suppress(PackageNotFoundError):
            todo += hold(requires(requirement.name) or [], environment, requirement.extras)
    return found


@pytest.mark.parametrize("system", [LINUX, MACOS], ids=["linux", "macos"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_all_that_is_needed_is_pinned(python, system):
    environment = {
        **system,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
    }
    wrong = {
        f"{requirement.name}{requirement.specifier}": pin
        for requirement in needed(environment, "dev")
        if (pin := PINS.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(pin, prereleases=True)
    }
    assert wrong == {}


def test_versions_of_python_are_those_of_the_project():
    """The workflow tries every version that the package is meant for."""
    allowed = SpecifierSet(PROJECT["requires-python"])
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    tried = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert tried == ["3.11", "3.12", "3.13"]
    assert all(allowed.contains(version) for version in tried)
    assert not allowed.contains("3.10")
