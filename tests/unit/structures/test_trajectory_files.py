import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlepi.errors import ConfigError, DataError
from mlepi.structures.trajectory_files import TrajectoryFiles

TEMPERATURES = (100.0, 300.0)


def write_beads(folder, n_frames=6, n_beads=2):
    """Frames whose first atom stands at (temperature, bead, frame) Å, with that frame's weight."""
    for temperature in TEMPERATURES:
        for bead in range(n_beads):
            frames = []
            for frame in range(n_frames):
                atoms = Atoms("BN", positions=[[temperature, bead, frame], [0, 0, 9]])
                atoms.info["bias"] = 1.0 + frame
                frames.append(atoms)
            write(folder / f"bead{bead}_T{temperature:g}.extxyz", frames)
    return str(folder / "bead*_T{temperature:g}.extxyz")


def test_frames_of_every_bead_in_the_order_of_time(tmp_path):
    source = TrajectoryFiles(write_beads(tmp_path), skip=1, stride=2, weights="bias")
    assert [path.name for path in source.paths(TEMPERATURES)] == [
        f"bead{bead}_T{temperature:g}.extxyz" for temperature in TEMPERATURES for bead in (0, 1)
    ]
    beads = source.read(300.0)
    assert len(beads) == 2
    for number, bead in enumerate(beads):
        names, frames, weights = zip(*bead, strict=True)
        assert [name.split(", ")[1] for name in names] == ["frame 1", "frame 3", "frame 5"]
        np.testing.assert_array_equal(
            [atoms.positions[0] for atoms in frames], [[300, number, frame] for frame in (1, 3, 5)]
        )
        assert weights == (2.0, 4.0, 6.0)


def test_all_frames_weigh_the_same_unless_told(tmp_path):
    source = TrajectoryFiles(write_beads(tmp_path))
    assert {weight for bead in source.read(100.0) for *_, weight in bead} == {1.0}
    assert source.settings() == {"file": source.file, "skip": 0, "stride": 1, "weights": None}


def test_beads_are_counted_not_spelt(tmp_path):
    file = write_beads(tmp_path, n_frames=1, n_beads=11)
    names = [path.name for path in TrajectoryFiles(file).paths((100.0,))]
    assert names == [f"bead{bead}_T100.extxyz" for bead in range(11)]


def test_unusable_files_are_refused(tmp_path):
    file = write_beads(tmp_path)
    with pytest.raises(DataError, match=r"got no frames after the first 40; expected at least one"):
        TrajectoryFiles(file, skip=40).read(300.0)
    with pytest.raises(DataError, match=r"got no file .*T50.extxyz'; expected a trajectory at"):
        TrajectoryFiles(file).read(50.0)
    with pytest.raises(
        DataError, match=r"T100.extxyz: got mass=None in a frame; expected a weight"
    ):
        TrajectoryFiles(file, weights="mass").read(100.0)
    (tmp_path / "bead0_T300.extxyz").write_text("nonsense")
    with pytest.raises(DataError, match=r"bead0_T300.extxyz: got an unreadable file"):
        TrajectoryFiles(file).read(300.0)


def test_settings_that_make_no_sense():
    with pytest.raises(ConfigError, match=r"sampler: got skip 0, stride 0; expected skip ≥ 0, str"):
        TrajectoryFiles("x", stride=0)
    with pytest.raises(
        ConfigError, match=r"got 'md.xyz'; expected \{temperature:g\} in the path of"
    ):
        TrajectoryFiles("md.xyz").paths(TEMPERATURES)
    with pytest.raises(
        ConfigError, match=r"got '\{kelvin\}.xyz'; expected \{temperature:g\} as the"
    ):
        TrajectoryFiles("{kelvin}.xyz").paths(TEMPERATURES)
