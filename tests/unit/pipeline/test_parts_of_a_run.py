import logging

import numpy as np
import pytest

from mlepi.errors import ConfigError, PhysicsError, StructureError
from mlepi.pipeline.processes import Processes, launch_processes
from mlepi.pipeline.sources import Source, load_structure
from mlepi.pipeline.stages.structure.relaxation import measure_spacings
from mlepi.structures import build_graphene


def test_one_process_needs_no_launcher():
    processes = launch_processes(1, 1)
    assert (processes.rank, processes.n_processes, processes.is_first) == (0, 1, True)
    assert processes.gather("x") == ["x"]
    assert processes.on_first(lambda: 3) == 3
    processes.close()


def test_an_error_in_the_first_process_reaches_all():
    def fail():
        raise PhysicsError("no")

    with pytest.raises(PhysicsError, match=r"^no$"):
        Processes().on_first(fail)


def test_sources_say_what_is_wrong():
    with pytest.raises(ConfigError, match=r"electron: got nothing; expected a path or {_target_"):
        Source("electron", None).fingerprint()
    with pytest.raises(StructureError, match=r"structure: got date; expected an ase.Atoms"):
        load_structure(
            Source("structure", {"_target_": "datetime.date", "year": 2000, "month": 1, "day": 1})
        )


def test_fingerprint_is_of_the_content(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"weights")
    b.write_bytes(b"weights")
    assert Source("phonon", str(a)).fingerprint() == Source("phonon", str(b)).fingerprint()
    b.write_bytes(b"others")
    assert Source("phonon", str(a)).fingerprint() != Source("phonon", str(b)).fingerprint()


@pytest.mark.parametrize("shift", [0.0, 9.0])
def test_layer_spacings(shift):
    atoms = build_graphene("ABA", spacing=3.3)
    atoms.positions[:, 2] += shift + np.tile([0.01, -0.01], 3)
    atoms.wrap()
    np.testing.assert_allclose(measure_spacings(atoms), [3.3, 3.3], atol=1e-12)
    assert measure_spacings(build_graphene("monolayer")).shape == (0,)


def test_logging_of_the_launcher_is_left_alone_for_one_process():
    before = logging.getLogger("lightning.fabric.utilities.distributed").level
    launch_processes(1, 1)
    assert logging.getLogger("lightning.fabric.utilities.distributed").level == before
