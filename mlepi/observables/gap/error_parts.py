"""What the width of the lines does to peaks and gap: the estimator part of their errors.

The maximum of a broadened spectrum is pulled by whatever weight lies beside it. Lines √2 times as
wide are the stored spectra convolved once more; half of what the peaks then move is the half range
of the two estimates. What the supercells show themselves is another quantity, with rows of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlepi.figures import Records
from mlepi.observables.gap.record import GapRecord
from mlepi.observables.near_k.peaks import distance_of_edges, smallest_direct_distance
from mlepi.physics.averages.error_budget import ESTIMATOR, ErrorPart, estimator_spread
from mlepi.physics.bands.spectra import find_peaks, widen_spectra

STAGE = "gap"
FACTOR = math.sqrt(2.0)
"""Width of the other lines, in units of that of the run."""


def width_parts(records: Records) -> Iterator[ErrorPart]:
    """Yield half the range of peaks, gaps and their changes over two widths of the lines.

    Args:
        records: of a run.
    """
    record: GapRecord = records[STAGE]
    width = record.peak_width
    spectra = widen_spectra(
        record.energies, record.spectral_functions, width, FACTOR * width, "gaussian"
    )
    peaks = find_peaks(record.energies, spectra, allow_missing=True) + record.centres
    gaps = distance_of_edges(peaks)
    source = (
        f"half the range of peaks of lines of {1e3 * width:.0f} and {1e3 * FACTOR * width:.0f} meV"
    )
    found = [
        ("band_energies", record.band_energies, peaks),
        ("gaps", record.gaps, gaps),
        ("gap_changes", record.gap_changes, gaps - gaps[0]),
    ]
    if record.direct_gaps.size:
        found.append(("direct_gaps", record.direct_gaps, smallest_direct_distance(peaks)))
    for path, own, other in found:
        yield ErrorPart(ESTIMATOR, f"{STAGE}/{path}", estimator_spread([own, other]), source)
