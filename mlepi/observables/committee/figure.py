"""What the networks of a committee disagree about, as a table of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.figures import Fact, Paragraph, Presentation, Section, Table
from mlepi.observables.committee.compare import list_numbers
from mlepi.observables.committee.record import CommitteeRecord
from mlepi.physics.averages.error_budget import NETWORK, ErrorPart

MOST = 6
"""Numbers of a field that the table still shows."""


def list_facts(record: CommitteeRecord) -> list[Fact]:
    """Return how many networks there are, and how their spread was calibrated."""
    facts: list[Fact] = []
    for kind, count, factor in (
        ("electron", record.n_electron_networks, record.electron_factor),
        ("phonon", record.n_phonon_networks, record.phonon_factor),
    ):
        if count > 1:
            calibrated = "uncalibrated" if kind in record.uncalibrated else f"factor {factor:.2f}"
            facts.append((f"{kind} networks", f"{count}, {record.drive} drives, {calibrated}"))
    return facts


def build_section(records: Mapping[str, Any]) -> Section | None:
    """Return the standard deviations that networks leave in the numbers of a run."""
    record: CommitteeRecord | None = records.get("committee")
    if record is None:
        return None
    rows = []
    for stage, spread in record.stages.items():
        for name, total in record.network_errors(stage).items():
            if 0 < total.size <= MOST:
                parts = (spread.electron.get(name), spread.phonon.get(name), total)
                rows.append((f"{stage}: {name}", *map(_format, parts)))
    text = Paragraph(
        f"Standard deviations among {record.n_electron_networks} electron and "
        f"{record.n_phonon_networks} phonon networks on the first {record.n_samples} samples per "
        "temperature, in the units of the records; the last column is calibrated and adds both in "
        "squares. They do not fall with the number of samples."
    )
    header = ("quantity", "electron networks", "phonon networks", "network error")
    return Section("Network errors", (text, Table(header, tuple(rows))))


def list_error_parts(records: Mapping[str, Any]) -> list[ErrorPart]:
    """Return the network part of the error of every number that was compared.

    The error budget writes "/" before the names of fields of inner records.
    """
    record: CommitteeRecord = records["committee"]
    calibrated = "uncalibrated" if record.uncalibrated else "calibrated on labelled structures"
    source = (
        f"spread among {record.n_electron_networks} electron and {record.n_phonon_networks} phonon "
        f"networks on {record.n_samples} samples per temperature, {calibrated}"
    )
    known = {
        f"{stage}/{name}": values.shape
        for stage in record.stages
        if stage in records
        for name, values in list_numbers(records[stage]).items()
    }
    return [
        ErrorPart(NETWORK, f"{stage}/{name.replace('.', '/')}", sizes, source)
        for stage in record.stages
        for name, sizes in record.network_errors(stage).items()
        if known.get(f"{stage}/{name}") == sizes.shape
    ]


def _format(values: NDArray[np.float64] | None) -> str:
    return "" if values is None else ", ".join(f"{x:.2g}" for x in np.ravel(values))


PRESENTATION = Presentation(
    facts=list_facts,
    sections=(build_section,),
    error_parts=(list_error_parts,),
    tab="trust",
)
