"""DeePTB's own training, in an environment of its own: ``dptb train`` with a clock.

``python -m workers.deeptb_training FOLDER LIMIT``: FOLDER holds ``input.json``,
LIMIT is the number of processor seconds after which the training ends, "none" for no limit. After
every epoch the error of ours is measured on the validation subset, while the clock stands still;
what DeePTB validates itself counts. ``last.pth`` is where a killed training goes on, ``best.pth``
is tested at the end, into ``test.json``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from workers.curves import CurveClock, Point, append_point, lowest_error, read_curve

MILLI = 1e3
"""meV per eV."""


class TimeUp(Exception):  # noqa: N818 - no error
    """The training has had its time."""


def provide_scatter() -> None:
    """Stand in for torch_scatter, which has no wheels for recent versions of torch."""
    if importlib.util.find_spec("torch_scatter") is not None:
        return
    from torch_geometric.utils import scatter

    module = ModuleType("torch_scatter")
    module.scatter = scatter  # type: ignore[attr-defined]
    module.scatter_mean = partial(scatter, reduce="mean")  # type: ignore[attr-defined]
    sys.modules["torch_scatter"] = module


def gauge_free_sums(difference: Tensor, overlap: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return min over μ of Σ w·|ΔH − μS|, and Σ w.

    Args:
        difference: (n,), ΔH, eV.
        overlap: (n,), S.
        weight: (n,), how many elements of the matrix each stands for.
    """
    nonzero = overlap != 0.0
    ratio, order = (difference[nonzero] / overlap[nonzero]).sort()
    passed = (weight * overlap.abs())[nonzero][order].cumsum(0)
    shift = ratio[torch.searchsorted(passed, passed[-1] / 2.0)]
    total = (weight * (difference - shift * overlap).abs()).sum()
    return float(total), float(weight.sum())


def feature_weights(mapper: Any) -> Tensor:
    """Return how many elements of H each of DeePTB's features stands for.

    A feature of two shells stands for its transpose too, which has none of its own: in the block of
    an atom, or in that of the reverse edge.

    Args:
        mapper: DeePTB's ``OrbitalMapper``.

    Returns:
        (n_features,) float64.
    """
    mapper.get_orbpair_maps()
    weight = torch.full((mapper.reduced_matrix_element,), 2.0, dtype=torch.float64)
    for pair, columns in mapper.orbpair_maps.items():
        first, second = pair.split("-")
        if first == second:
            weight[columns] = 1.0
    return weight


@torch.no_grad()
def measure_error(model: Any, batches: Iterable[Any]) -> float:
    """Return the gauge-free MAE of H over structures, meV.

    Args:
        model: of DeePTB.
        batches: of one structure each, of DeePTB's loader.
    """
    from dptb.data import AtomicData, AtomicDataDict

    mapper = model.hamiltonian.idp
    weight = feature_weights(mapper)
    total = count = 0.0
    model.eval()
    for batch in batches:
        label = AtomicData.to_AtomicDataDict(batch)
        found = model(label.copy())
        keys = {
            "node": (AtomicDataDict.NODE_FEATURES_KEY, AtomicDataDict.NODE_OVERLAP_KEY),
            "edge": (AtomicDataDict.EDGE_FEATURES_KEY, AtomicDataDict.EDGE_OVERLAP_KEY),
        }
        exists = {
            "node": mapper.mask_to_nrme[found[AtomicDataDict.ATOM_TYPE_KEY].flatten()],
            "edge": mapper.mask_to_erme[found[AtomicDataDict.EDGE_TYPE_KEY].flatten()],
        }
        differences, overlaps, weights = [], [], []
        for part, (feature, overlap) in keys.items():
            mask = exists[part]
            differences.append((found[feature] - label[feature]).double()[mask])
            overlaps.append(label[overlap].double()[mask])
            weights.append(weight.expand(mask.shape)[mask])
        sums = gauge_free_sums(torch.cat(differences), torch.cat(overlaps), torch.cat(weights))
        total, count = total + sums[0], count + sums[1]
    return MILLI * total / count


class Recorder:
    """Writes curve and checkpoints after every epoch.

    Args:
        folder: of both.
        limit: processor seconds; None for no limit.
    """

    def __init__(self, folder: Path, limit: float | None) -> None:
        self.folder, self.limit, self.clock = folder, limit, CurveClock(folder)

    def record(self, trainer: Any) -> None:
        """Take over an epoch that DeePTB has finished.

        Raises:
            TimeUp: another one would not fit.
        """
        from dptb.plugins.saver import Saver

        seconds, epoch = self.clock.stop(), int(trainer.ep)
        error = measure_error(trainer.model, trainer.validation_loader)
        append_point(self.folder, Point(epoch, error, seconds))
        best = lowest_error(read_curve(self.folder)).epoch == epoch
        for name in ("last", "best") if best else ("last",):
            Saver._save(
                SimpleNamespace(trainer=trainer, checkpoint_path=str(self.folder)),
                name="unfinished",
                model=trainer.model,
                model_options=trainer.model.model_options,
                common_options=trainer.common_options,
                train_options=trainer.train_options,
            )
            (self.folder / "unfinished.pth").replace(self.folder / f"{name}.pth")
        if self.limit is not None and seconds * (epoch + 1) / epoch > self.limit:
            raise TimeUp
        self.clock.start()


def test(folder: Path) -> None:
    """Measure the error of the best network on the test subset."""
    from dptb.data import DataLoader
    from dptb.data.build import build_dataset
    from dptb.nn.build import build_model
    from dptb.utils.argcheck import collect_cutoffs, normalize

    config = normalize(json.loads((folder / "input.json").read_text(encoding="utf-8")))
    common = config["common_options"]
    torch.set_default_dtype(getattr(torch, common["dtype"]))
    data = config["data_options"]["validation"]
    data |= {"root": str(Path(data["root"]).parent / "test")}
    batches = DataLoader(build_dataset(**collect_cutoffs(config), **data, **common), batch_size=1)
    model = build_model(str(folder / "best.pth"), config["model_options"], common)
    found = {
        "test_error": measure_error(model, batches),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    (folder / "test.json").write_text(json.dumps(found), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Train and test.

    Args:
        arguments: folder, and processor seconds or "none".
    """
    folder = Path(arguments[0])
    limit = None if arguments[1] == "none" else float(arguments[1])
    provide_scatter()
    from dptb.entrypoints.train import train
    from dptb.nnops.trainer import Trainer

    recorder, run = Recorder(folder, limit), Trainer.run

    def run_and_record(trainer: Any, epochs: int = 1) -> None:
        recorder.clock.go_on_from(trainer.ep - 1)
        recorder.clock.start()
        run(trainer, epochs)

    Trainer.run = run_and_record
    Trainer.update = lambda trainer, **_: recorder.record(trainer)  # called after every epoch
    last = folder / "last.pth"
    restart = str(last) if last.is_file() else None
    try:
        train(str(folder / "input.json"), None, restart, str(folder / "output"), 20, None)
    except TimeUp:
        print("the time is used up")
    test(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
