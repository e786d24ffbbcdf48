"""Names that stages and experiments had in earlier versions.

Understood on the command line and in the files of old runs, used nowhere else.
"""

from __future__ import annotations

FORMER_STAGE_NAMES: dict[str, str] = {
    "observables": "fermi_velocity",
    "bands": "sparse_bands",
    "control": "control_variate",
}
"""Former name → present one."""

FORMER_EXPERIMENT_NAMES: dict[str, str] = {"cell_sizes": "headline"}
"""Former name → present one."""
