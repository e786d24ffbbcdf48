"""Small trainings on the shipped data, composed like those of the command line."""

from pathlib import Path

import hydra

from mlepi.training.run import train

CONFIG_FOLDER = Path(__file__).resolve().parents[3] / "conf"
TINY_NETWORKS = {
    "phonon": [
        "model.network.backbone.num_features=4",
        "model.network.backbone.l_max=1",
        "model.network.backbone.radial_widths=[8]",
        "model.network.backbone.correlation=2",
        "graph.cutoffs.intra=2.0",
        "graph.cutoffs.inter=4.0",
    ],
    "electron": [
        "model.network.backbone.num_layers=1",
        "model.network.backbone.channels=[4,4,4]",
        "model.network.backbone.pseudo_channels=[0,2]",
        "model.network.backbone.l_max=2",
        "model.network.backbone.num_radial=8",
        "model.network.backbone.radial_hidden=[8]",
    ],
}
"""Kind → settings of a network that trains in seconds."""

FIRST_SPLITS = {
    "phonon": "data.split=data/blg_openmx/splits/forces_81_09_10.json",
    "electron": "data.split=data/blg_openmx/splits/hamiltonian_622.json",
}
"""Kind → the split of the first 45 structures, with few and small ones to evaluate."""

TINY_PHONON = [
    "model=hedgenet_phonon",
    *TINY_NETWORKS["phonon"],
    FIRST_SPLITS["phonon"],
    "data.n_train=6",
    "check_units=false",
]
TINY_ELECTRON = [
    "model=hedgenet_electron",
    *TINY_NETWORKS["electron"],
    FIRST_SPLITS["electron"],
    "data.n_train=3",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "task.level_shift=off",
    "check_units=false",
]
"""Units of the shipped data are judged by other tests, and in the trainings of test_train."""


def compose(overrides):
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_FOLDER)):
        return hydra.compose(
            "train", ["logger=csv", "trainer.accelerator=cpu", "name=test", *overrides]
        )


def run_training(folder, overrides):
    return train(compose(overrides), Path(folder))
