"""Speed and memory beside other networks: ``mlepi bench [--quick] …``, in a clone.

The benchmarks need an environment with the peers, which ``make bench`` makes: they are scripts of
the repository, not of the package.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from mlepi.errors import ConfigError, message
from mlepi.project_files import PROJECT_FOLDER

SCRIPT = PROJECT_FOLDER / "benchmarks" / "speed.py"


def main(arguments: Sequence[str]) -> int:
    """Run ``benchmarks/speed.py`` of the clone and return its exit status.

    Raises:
        ConfigError: the package was installed from a wheel, without the benchmarks.
    """
    if not SCRIPT.is_file():
        fix = "Clone the repository and run `make bench-quick` there; it installs the peers too."
        raise ConfigError(message("mlepi bench", "a package without benchmarks", "a clone", fix))
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, check=False).returncode  # noqa: S603
