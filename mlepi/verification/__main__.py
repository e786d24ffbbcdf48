"""Run the verification pack: ``python -m mlepi.verification [--quick] [--only NAME]``.

Exit status 1 when a check fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlepi.errors import MlepiError
from mlepi.verification import PACK, print_table, run_pack, select, write_table


def main(arguments: Sequence[str] | None = None, prog: str = "python -m mlepi.verification") -> int:
    """Run what the command line asks for and return the exit status; ``prog`` is for its help."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Compare the package with known answers."
    )
    parser.add_argument("--quick", action="store_true", help="only what takes seconds")
    parser.add_argument(
        "--only",
        metavar="NAME",
        help="one of " + ", ".join(verification.name for verification in PACK),
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/verification"),
        help="of the tables; %(default)s",
    )
    given = parser.parse_args(arguments)
    try:
        checks = run_pack(select(given.quick, given.only), lambda line: print(line, flush=True))
    except MlepiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_table(checks)
    files = write_table(checks, given.folder)
    failed = sum(not check.passed for check in checks)
    print(
        f"{len(checks) - failed} of {len(checks)} checks passed; "
        f"{' and '.join(str(file) for file in files)}"
    )
    return int(failed > 0 or not checks)


if __name__ == "__main__":
    sys.exit(main())
