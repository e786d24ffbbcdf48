"""What people type about stages, networks and relations, as keys of the config."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlepi.former_names import FORMER_EXPERIMENT_NAMES, FORMER_STAGE_NAMES

OWN_FOLDERS = ("hamiltonian", "bands", "sparse_bands")
"""Stages of a cell of its own: chosen alone, they do not write into the folder of a scan."""


def translate_arguments(arguments: Sequence[str]) -> list[str]:
    """Write what people type about stages as keys of the config.

    ``stage=NAME`` chooses what to run, ``stage.run``; former names of stages and experiments are
    understood. ``phonon._target_=CLASS phonon.KEY=VALUE`` puts a class in the place of a file, and
    ``graph.cutoffs.B-N=4`` names a relation that only the data know.

    Args:
        arguments: of the command line.
    """
    former = "|".join(FORMER_STAGE_NAMES)
    translated = []
    for argument in _open_sources(arguments):
        if found := re.fullmatch(r"stage=(.*)", argument):
            translated.append(f"stage.run={found[1]}")
            chosen = any(re.match(r"\+{0,2}stage\.folder=", other) for other in arguments)
            if found[1] in OWN_FOLDERS and not chosen:
                translated.append(f"stage.folder={found[1]}")
        elif re.match(r"valence_electrons=\{|graph\.cutoffs(=\{|\.)", argument):
            translated.append(f"++{argument}")  # of elements that the default does not know
        elif found := re.fullmatch(r"(\+{0,2}experiment=)(.*)", argument):
            name = FORMER_EXPERIMENT_NAMES.get(found[2], found[2])
            translated.append(f"{found[1]}{name}")
        elif found := re.match(rf"(\+{{0,2}}|~)stage\.({former})(?=[.=]|$)", argument):
            name = FORMER_STAGE_NAMES[found[2]]
            translated.append(f"{found[1]}stage.{name}{argument[found.end() :]}")
        else:
            translated.append(argument)
    return translated


def _open_sources(arguments: Sequence[str]) -> list[str]:
    """Let a ``_target_`` stand where the config holds a file, with whatever keys it has."""
    own: list[str] = []
    rest = []
    for argument in arguments:
        if found := re.fullmatch(r"\+{0,2}(phonon|electron)\._target_=(.*)", argument):
            targets = ",".join(f"{{_target_:{target}}}" for target in found[2].split(","))
            own.insert(0, f"{found[1]}={targets}")
        elif (found := re.fullmatch(r"\+{0,2}((phonon|electron)\.[\w.]+=.*)", argument)) and any(
            re.match(rf"\+{{0,2}}{found[2]}\._target_=", other) for other in arguments
        ):
            own.append(f"++{found[1]}")
        else:
            rest.append(argument)
    return rest + own
