"""Tab completion: commands by their table, keys by Hydra."""

import pytest

from mlepi.commands.main import main
from mlepi.commands.table import COMMANDS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mlepi", list(COMMANDS)),
        ("mlepi ", list(COMMANDS)),
        ("mlepi tr", ["train"]),
        ("mlepi infer n_sam", ["n_samples="]),
        ("mlepi infer sampler=so", ["sampler=sobol"]),
        ("mlepi infer sampler=sobol n_sam", ["n_samples="]),
        ("mlepi demo n_sam", ["n_samples="]),
        ("  /bin/mlepi  train  optimizer=phonon_c", ["optimizer=phonon_cosine"]),
        ("mlepi checkpoints l", []),
        ("mlepi trian mod", []),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_what_comes_next(line, expected, shell, monkeypatch, capsys):
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", f"query={shell}"]) == 0
    assert capsys.readouterr().out.split() == expected


def test_the_shell_is_told_to_ask_mlepi(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bin/mlepi", "-sc", "install=bash"])
    assert main() == 0
    assert capsys.readouterr().out.rstrip().endswith("-F hydra_bash_completion mlepi")
