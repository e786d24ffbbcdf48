"""``python -m mlepi``: the command ``mlepi`` where it is not on the path."""

import sys

from mlepi.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
