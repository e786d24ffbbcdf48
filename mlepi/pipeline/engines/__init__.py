"""Where samples are computed: one process, several, or workers that come and go.

The results are the same to the last bit. Long calls, such as DFT runs, go the same ways.
"""

from mlepi.pipeline.engines.calls import Calls, Ended
from mlepi.pipeline.engines.dask_engine import Dask
from mlepi.pipeline.engines.engine import Engine, Found, Task, Work
from mlepi.pipeline.engines.local import Local, Ranks

__all__ = ["Calls", "Dask", "Ended", "Engine", "Found", "Local", "Ranks", "Task", "Work"]
