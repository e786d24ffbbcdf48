"""Doubts are sentences that know what they mean."""

import pickle

import pytest

from mlepi.doubts import SEVERITIES, Doubt, join_doubts, rank_doubts


def test_a_doubt_is_its_sentences():
    doubt = Doubt("one.", remedy="do it.", severity="serious")
    assert doubt == "one. do it."
    assert isinstance(doubt, str)
    assert (doubt.seen, doubt.means, doubt.remedy) == ("one.", "", "do it.")
    told = doubt.about("phonon")
    assert told == "phonon: one. do it."
    assert (told.severity, told.remedy) == ("serious", "do it.")


def test_a_plain_text_is_a_caution():
    assert Doubt.of("so") == Doubt("so")
    assert Doubt.of("so").severity == "caution"
    own = Doubt("so", severity="note")
    assert Doubt.of(own) is own


def test_the_worst_come_first_and_equals_keep_their_order():
    given = [Doubt(f"{n}", severity=severity) for n, severity in enumerate([*SEVERITIES[::-1]] * 2)]
    assert rank_doubts(given) == ["2", "5", "1", "4", "0", "3"]


def test_what_holds_for_several_is_said_once():
    ghosts, other = Doubt("ghosts.", "missing.", severity="serious"), Doubt("ghosts. missing.")
    told = join_doubts([("gap", ghosts), ("dos", other), ("velocity", ghosts), ("gap", ghosts)])
    assert told == ["gap, velocity: ghosts. missing.", "dos: ghosts. missing."]
    assert [doubt.severity for doubt in told] == ["serious", "caution"]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_plain_data_hold_all_of_it(severity):
    doubt = Doubt("a", "b", "c", severity)
    again = Doubt.from_dict(doubt.to_dict())
    assert vars_of(again) == vars_of(doubt)
    assert Doubt.from_dict({"seen": "a", "severity": "loud"}).severity == "caution"


def vars_of(doubt):
    return (doubt.seen, doubt.means, doubt.remedy, doubt.severity)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_processes_can_hand_them_on(severity):
    doubt = Doubt("a", "b", "c", severity)
    again = pickle.loads(pickle.dumps(doubt))  # noqa: S301 - made in this test
    assert (again, again.seen, again.severity) == ("a b c", "a", severity)
