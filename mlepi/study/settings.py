"""What decides a study, and the words of the commands that its steps are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlepi.study.steps import Step

KINDS = ("electron", "phonon")
DEFAULT_TARGETS = ("gap", "fermi_dos")
"""Observables where none is asked for: the first that this material has."""

INFORMATIVE, RANDOM = "informative", "random"
CHOICES = (INFORMATIVE, RANDOM)
"""How structures to label are chosen from the second round on."""

STRUCTURE, CHOSEN, LABELS, SPLIT = "structure.extxyz", "chosen.extxyz", "labels", "split.json"
DATA = {"electron": "hamiltonians.h5", "phonon": "forces.extxyz"}
"""Kind of networks → its labels, in the folder of the set and, as they then were, of a round."""
OVERLAP = "overlap.h5"
CHECKPOINT = Path("checkpoints") / "best.ckpt"


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What decides a study.

    Attributes:
        folder: where all of it lies.
        targets: observables; the first that the material has is the target.
        temperatures: K.
        n_first: labels of the first round.
        n_more: labels of every further round.
        n_candidates: structures that those are chosen from.
        candidates: files of structures to choose from; none to let ``mlepi design`` propose them.
        select: one of ``CHOICES``.
        given: kind of networks → model of that kind that is not trained.
        members: networks of each kind that is trained.
        fractions: of the labels, to train, validate and test on.
        supercell: of the observables.
        n_samples: displaced supercells per temperature.
        n_compared: first of them on which all networks are tried.
        design: further words of ``mlepi design``.
        label: of ``mlepi label``, the code and its settings among them.
        train: of ``mlepi train``, for "both", "electron", "phonon", and "warm" where a network
            starts from that of the round before.
        infer: of ``mlepi infer``.
        seed: of everything random.
    """

    folder: Path
    targets: tuple[str, ...]
    temperatures: tuple[float, ...]
    n_first: int
    n_more: int
    n_candidates: int
    candidates: tuple[str, ...]
    select: str
    given: Mapping[str, Any]
    members: int
    fractions: tuple[float, float, float]
    supercell: tuple[int, int, int]
    n_samples: int
    n_compared: int
    design: tuple[str, ...]
    label: tuple[str, ...]
    train: Mapping[str, tuple[str, ...]]
    infer: tuple[str, ...]
    seed: int

    @property
    def trained(self) -> tuple[str, ...]:
        """Kinds of networks that are trained."""
        return tuple(kind for kind in KINDS if kind not in self.given)

    @property
    def structure(self) -> Path:
        """Of the primitive cell, as the study has read it."""
        return self.folder / STRUCTURE

    @property
    def labels(self) -> Path:
        """Folder of the labelled set."""
        return self.folder / LABELS

    def round_folder(self, number: int) -> Path:
        """Return the folder of a round."""
        return self.folder / f"round_{number:02d}"

    def network(self, number: int, kind: str, member: int) -> Path:
        """Return the folder of a training of a round; members count from 1."""
        return self.round_folder(number) / f"{kind}_{member}"

    def list_networks(self, number: int, kind: str) -> Any:
        """Return the networks of a kind after a round, as ``mlepi infer`` takes them."""
        if kind in self.given:
            return self.given[kind]
        return [
            str(self.network(number, kind, member) / CHECKPOINT)
            for member in range(1, self.members + 1)
        ]


def build_design(settings: StudySettings, number: int) -> Step:
    """Return the step that proposes structures: the labels of the first round, then candidates.

    Those of later rounds differ from what is labelled.
    """
    folder = settings.round_folder(number) / "design"
    n_structures = settings.n_first if number == 0 else settings.n_candidates
    known = [settings.labels / DATA["phonon"]] if number else []
    words = [
        "design",
        write_word("structure", str(settings.structure)),
        write_word("folder", str(folder)),
        write_word("n_structures", n_structures),
        write_word("seed", settings.seed + number),
        *(write_word("labelled", str(path)) for path in known),
        *settings.design,
    ]
    return Step("design", tuple(words), folder / "structures.extxyz")


def build_label(settings: StudySettings, number: int) -> Step:
    """Return the step that labels what was chosen."""
    words = [
        "label",
        write_word("structures", str(settings.round_folder(number) / CHOSEN)),
        write_word("folder", str(settings.labels)),
        *settings.label,
    ]
    return Step("label", tuple(words), settings.labels / DATA["phonon"])


def build_trainings(settings: StudySettings, number: int) -> list[Step]:
    """Return the trainings of a round, from the second on with the networks of the one before."""
    folder, steps = settings.round_folder(number), []
    for kind in settings.trained:
        for member in range(1, settings.members + 1):
            own = settings.network(number, kind, member)
            words = [
                "train",
                write_word("data", str(folder / DATA[kind])),
                write_word("data.split", str(folder / SPLIT)),
                write_word("folder", str(own)),
                write_word("seed", settings.seed + member),
                "auto_resume=true",
                "test=false",
            ]
            if kind == "electron" and (folder / OVERLAP).is_file():
                words.append(write_word("data.overlap_table", str(folder / OVERLAP)))
            if number:
                start = settings.network(number - 1, kind, member) / CHECKPOINT
                words.append(write_word("init_from", str(start)))
            words += [*settings.train["both"], *settings.train[kind]]
            words += settings.train["warm"] if number else []
            steps.append(Step(f"train_{kind}_{member}", tuple(words), own / CHECKPOINT))
    return steps


def build_infer(settings: StudySettings, number: int, stages: Sequence[str]) -> Step:
    """Return the step that computes the target with all networks.

    Args:
        settings: of the study.
        number: of the round.
        stages: that know the target.
    """
    folder = settings.round_folder(number) / "infer"
    words = [
        "infer",
        write_word("structure", str(settings.structure)),
        *(write_word(kind, settings.list_networks(number, kind)) for kind in KINDS),
        write_word("temperature", list(settings.temperatures)),
        write_word("supercell", list(settings.supercell)),
        write_word("n_samples", settings.n_samples),
        write_word("seed", settings.seed),
        write_word("stage", [*stages, "committee"]),
        write_word("stage.committee.n_samples", settings.n_compared),
        "stage.sampling.export=true",
        write_word("folder", str(folder)),
        *settings.infer,
    ]
    return Step("infer", tuple(words), folder / "results.h5")


def write_word(key: str, value: Any) -> str:
    """Write a key and its value as a word of a command."""
    return f"{key}={write_value(value)}"


def write_value(value: Any) -> str:
    """Write plain data as Hydra reads it on a command line.

    Args:
        value: null, a number, a text, or lists and mappings of these.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{write_value(x)}" for key, x in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(write_value(x) for x in value) + "]"
    text = str(value)
    if not isinstance(value, str) or re.fullmatch(r"[A-Za-z_./][\w./+@-]*", text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
