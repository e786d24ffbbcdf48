"""What is shown of the domain: histograms over the training range, shares, worst samples."""

from dataclasses import replace

import numpy as np
from matplotlib.patches import Polygon, Rectangle
from plain_records import TEMPERATURES, domain_record

from mlepi.observables.domain.figure import PRESENTATION, list_domain_facts, plot_domain


def test_a_panel_per_quantity_and_spread():
    record = domain_record()
    axes = [each for each in plot_domain(record).axes if each.axison]
    names = [f"{name} (Å)" for name in record.quantities] + ["spread of H (meV)"]
    assert [each.get_xlabel() for each in axes] == names
    assert {each.get_ylabel() for each in axes} == {"samples"}
    legend = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert sorted(legend) == sorted(["training", *(f"{t:g} K" for t in TEMPERATURES)])


def test_histograms_count_every_sample():
    record = domain_record()
    axes = plot_domain(record).axes[0]
    outlines = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    counts = [patch.get_xy()[1:-1:2, 1].sum() for patch in outlines]
    np.testing.assert_array_equal(counts, record.n_samples)  # of each temperature
    edges = outlines[0].get_xy()[:, 0]
    values = np.append(record.values[..., 0], record.training_values[:, 0])
    assert edges.min() < values.min() < values.max() < edges.max()


def test_the_training_range_is_grey():
    """From the smallest to the largest value; quantities that are not known have none."""
    record = domain_record()
    axes = plot_domain(record).axes
    for number, expected in enumerate(record.training_ranges):
        spans = [p for p in axes[number].patches if isinstance(p, Rectangle)]
        if np.isnan(expected).any():
            assert spans == []
        else:
            [span] = spans
            np.testing.assert_allclose([span.get_x(), span.get_x() + span.get_width()], expected)
    [span] = [p for p in axes[6].patches if isinstance(p, Rectangle)]
    np.testing.assert_allclose([span.get_x(), span.get_width()], [0.5, 1.0])  # meV


def test_a_monolayer_has_fewer_panels():
    """Distances between layers are not there; panels without a quantity stay empty."""
    record = domain_record()
    values = record.values.copy()
    values[..., 2:4] = np.nan
    single = replace(
        record, values=values, hamiltonian_spreads=np.empty((0, 0)), source="", n_training=0
    )
    axes = plot_domain(single).axes
    assert [each.axison for each in axes] == [True] * 4 + [False] * 2
    assert len(plot_domain(replace(record, force_spreads=np.full((30, 3), 0.1))).axes) == 9


def test_facts_are_shares_and_the_worst_samples():
    record = domain_record()
    facts = dict(list_domain_facts(record))
    assert facts["training structures"] == "2 of data.h5, train of split.json"
    assert facts["samples outside their range, 300 K"] == "0 %"
    assert facts["samples with ghost states"] == "0 of 30"
    assert facts["sample 3 at 300 K"] == (
        "0 ghost states, -0.5 standard deviations from the range (nearest pair); "
        "label/openmx/sample_000003_300K.dat"
    )
    distances = record.distances.copy()
    distances[:15, 0] = 2.0
    facts = dict(list_domain_facts(replace(record, distances=distances)))
    assert facts["samples outside their range, 0 K"] == "50 %"


def test_without_training_data_there_is_less_to_say():
    unknown = replace(domain_record(), source="", worst_quantities=np.full((30, 3), -1))
    assert list_domain_facts(unknown) == [
        ("samples with ghost states", "0 of 30"),
        ("sample 3 at 300 K", "0 ghost states; label/openmx/sample_000003_300K.dat"),
    ]
    assert [drawing.name for drawing in PRESENTATION.drawings] == ["domain"]
