"""The scripts of benchmarks/ import each other by name.

Last on the path, because tests/references has a path_network too.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
