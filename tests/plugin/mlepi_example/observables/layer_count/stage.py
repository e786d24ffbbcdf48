"""The layer_count stage: how many layers the structure has."""

from dataclasses import dataclass
from typing import Any, ClassVar

from mlepi.pipeline import PlainStage, Run, Settings
from mlepi.structures import get_layers
from mlepi_example.observables.layer_count.record import LayerCountRecord


@dataclass(frozen=True, kw_only=True)
class LayerCountStage(PlainStage):
    """Count layers; settings in ``conf/stage/layer_count.yaml``."""

    name: ClassVar[str] = "layer_count"
    requires: ClassVar[tuple[str, ...]] = ("structure",)
    record: ClassVar[type] = LayerCountRecord

    at_least: int

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting."""
        return {"at_least": self.at_least}

    def compute(self, run: Run, line: Any) -> LayerCountRecord:
        """Count."""
        n_layers = 1 + int(get_layers(run.read("structure").atoms).max())
        return LayerCountRecord(n_layers=n_layers, at_least=self.at_least)

    def summarize(self, record: LayerCountRecord) -> str:
        """Say how many there are."""
        return f"{record.n_layers} layers"

    @staticmethod
    def doubts(record: LayerCountRecord) -> list[str]:
        """Tell of fewer layers than were expected."""
        few = record.n_layers < record.at_least
        return [f"fewer than {record.at_least} layers."] if few else []
