"""Where samples are computed: one process, several, or workers that come and go.

The results are the same to the last bit.
"""

from mlepi.pipeline.engines.dask_engine import Dask
from mlepi.pipeline.engines.engine import Engine, Found, Task, Work
from mlepi.pipeline.engines.local import Local, Ranks

__all__ = ["Dask", "Engine", "Found", "Local", "Ranks", "Task", "Work"]
