"""The table of all commands: what ``mlepi --help`` shows, and what is imported when one is called.

A further command is a module of this package with ``main(arguments) -> exit status`` and one line
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: of the command and of its module in ``mlepi.commands``.
        group: of ``GROUPS``.
        summary: one line of the help.
        takes_keys: it takes KEY=VALUE and the options of Hydra.
    """

    name: str
    group: str
    summary: str
    takes_keys: bool = False

    def load(self) -> Callable[[Sequence[str]], int]:
        """Import the command: a function of its arguments that returns the exit status."""
        main: Callable[[Sequence[str]], int] = import_module(f"mlepi.commands.{self.name}").main
        return main


GROUPS = {
    "first": "First steps, with the networks and the data that come along",
    "own": "Your own material, with KEY=VALUE for every setting",
    "trust": "Trust and speed",
}
"""Group → heading in the help."""

COMMANDS = {
    command.name: command
    for command in (
        Command("demo", "first", "bands and v_F of bilayer graphene at six temperatures", True),
        Command("checkpoints", "first", "shipped networks: list, model cards, where the files lie"),
        Command("inspect", "own", "what is in files of any program, or in a data set"),
        Command("convert", "own", "files of other programs to one data set"),
        Command("unpickle", "own", "HamGNN's graph_data.npz to files that convert reads"),
        Command("overlaps", "own", "a table of overlaps from .pao, .ion.xml or Gaussians"),
        Command("mace", "own", "a foundation model of mace-torch as a checkpoint to start from"),
        Command("design", "own", "which structures to label: proposals for a material", True),
        Command("label", "own", "DFT: structures in, H, S, energies and forces out", True),
        Command(
            "study", "own", "design, label, train, infer, again until the error is small", True
        ),
        Command("split", "own", "divide labelled structures into train, val and test"),
        Command("train", "own", "train a phonon or an electron network", True),
        Command("infer", "own", "from a structure to bands at temperature", True),
        Command(
            "export", "own", "matrices, phonons, samples, couplings as files of other programs"
        ),
        Command("report", "trust", "write the page of finished runs again, of any version"),
        Command("compare", "trust", "lay runs side by side: settings, numbers, figures"),
        Command("eval", "trust", "judge a network on labelled structures: tables and a page"),
        Command("verify", "trust", "compare the package with known answers"),
        Command("bench", "trust", "speed and memory beside other networks; needs a clone"),
    )
}
"""Name → command, in the order of the help."""
