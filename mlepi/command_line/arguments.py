"""What people type, as overrides of Hydra: short forms, former names, keys that no default has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlepi.former_names import FORMER_EXPERIMENT_NAMES, FORMER_STAGE_NAMES

OF_ANY_DATA = ("in_memory", "workers", "train_order")
"""Arguments of every data set that no file of ``conf/data`` has to list."""

OWN_FOLDERS = ("hamiltonian", "bands", "sparse_bands")
"""Stages of a cell of its own: chosen alone, they do not write into the folder of a scan."""


def translate_arguments(arguments: Sequence[str], config_name: str = "infer") -> list[str]:
    """Write what people type about stages as keys of the config.

    ``stage=NAME`` chooses what to run, ``stage.run``; former names of stages and experiments are
    understood. ``phonon._target_=CLASS phonon.KEY=VALUE`` puts a class in the place of a file,
    ``structure.KEY=VALUE`` is any argument of its builder, ``graph.cutoffs.B-N=4`` names a relation
    that only the data know, ``dft.potentials={B: FILE}`` elements and keywords of a program,
    ``data.workers=4`` is an argument of every data set, ``data=FILE`` a data set of one's own, and
    ``folder=`` names the run folder of a training as it does that of an inference, or of a sweep,
    which an experiment may be without ``-m``. Lightning names further processes, and so their logs,
    after a training, whatever they do: here they are named after the script.

    Args:
        arguments: of the command line.
        config_name: primary config that they are for.
    """
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    brings_own = any(re.match(r"\+{0,2}experiment=", argument) for argument in arguments)
    kinds = ("sweep",) if sweep else ("run", "sweep") if brings_own else ("run",)
    former = "|".join(FORMER_STAGE_NAMES)
    translated = []
    for argument in _open_data(_open_structure(_open_sources(arguments), config_name)):
        if found := re.fullmatch(r"stage=(.*)", argument):
            translated.append(f"stage.run={found[1]}")
            chosen = any(re.match(r"\+{0,2}stage\.folder=", other) for other in arguments)
            if found[1] in OWN_FOLDERS and not chosen:
                translated.append(f"stage.folder={found[1]}")
        elif config_name == "train" and (found := re.fullmatch(r"folder=(.+)", argument)):
            translated += [f"hydra.{kind}.dir={found[1]}" for kind in kinds]
        elif found := re.fullmatch(r"hydra\.job\.name=train_ddp_process_(\d+)", argument):
            translated.append(f"hydra.job.name={config_name}_process_{found[1]}")
        elif re.match(r"valence_electrons=\{|graph\.cutoffs(=\{|\.)", argument):
            translated.append(f"++{argument}")  # of elements that the default does not know
        elif re.match(r"dft\.\w+(=\{|\.)|engine\.job(=\{|\.)", argument):
            translated.append(f"++{argument}")  # of elements or keywords, of which none is there
        elif re.match(rf"data\.({'|'.join(OF_ANY_DATA)})=", argument):
            translated.append(f"++{argument}")
        elif found := re.fullmatch(r"(\+{0,2}experiment=)(.*)", argument):
            name = FORMER_EXPERIMENT_NAMES.get(found[2], found[2])
            translated.append(f"{found[1]}{name}")
        elif found := re.match(rf"(\+{{0,2}}|~)stage\.({former})(?=[.=]|$)", argument):
            name = FORMER_STAGE_NAMES[found[2]]
            translated.append(f"{found[1]}stage.{name}{argument[found.end() :]}")
        else:
            translated.append(argument)
    return translated


HAMILTONIAN_FILES = (".h5", ".hdf5")
"""Ends of the names of data sets of Hamiltonians; others hold energies and forces."""


def _open_data(arguments: Sequence[str]) -> list[str]:
    """Let a file stand for the settings of a data set of one's own, which all follow from it."""
    opened: list[str] = []
    own_graph = any(re.match(r"\+{0,2}(graph\b|init_from=|experiment=)", a) for a in arguments)
    for argument in arguments:
        found = re.fullmatch(r"data=([^{}\[\]]*[./][^{}\[\]]*)", argument)
        if not found:
            opened.append(argument)
            continue
        with_h = found[1].split(",")[0].endswith(HAMILTONIAN_FILES)
        opened += [f"data={'hamiltonians' if with_h else 'forces'}", f"data.path={found[1]}"]
        # the lengths of graphs of forces are those of bilayer graphene, unless a choice is made
        opened += [] if with_h or own_graph else ["graph.cutoffs=null"]
    return opened


OF_THE_BUILDER = ("stacking", "spacing")
"""Arguments of the structure that the default builder takes, and others need not."""


def _open_structure(arguments: Sequence[str], config_name: str) -> list[str]:
    """Take any argument of a builder, and leave those of the default one, where there is one."""
    opened = [
        f"++{argument}" if re.match(r"structure\.\w+=", argument) else argument
        for argument in arguments
    ]
    named = any(re.match(r"\+{0,2}structure\._target_=", argument) for argument in arguments)
    brings_own = any(re.match(r"\+{0,2}experiment=", argument) for argument in arguments)
    if not named or brings_own or config_name in ("design", "study"):
        return opened
    mentioned = " ".join(arguments)
    return opened + [
        f"~structure.{key}" for key in OF_THE_BUILDER if f"structure.{key}" not in mentioned
    ]


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
