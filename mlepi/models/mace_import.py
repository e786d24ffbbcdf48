"""Copy the weights of a mace-torch ScaleShiftMACE into a ``PhononNetwork`` with MACE backbones.

The two differ in four conventions, each undone here:

* mace-torch's edge vectors point to the receiver, ours away from it: Y_l changes by (−1)^l, which
  goes into the weights that mix the messages of each path;
* its symmetric contraction keeps a weight for every coupling path, ours for every element of a
  minimal symmetric basis: the coupling tensors stored in its state dict are symmetrised and
  expanded in our basis;
* its energy of a free atom is E0 + shift + scale · (read-outs of an atom without neighbours), ours
  is E0: the difference goes into the atomic energies;
* ours uses the axes (y, z, x), a rotation, which no weight notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mlepi.errors import CheckpointError, ConfigError, message
from mlepi.models.channel_linear import ChannelLinear, ElementLinear
from mlepi.models.interaction import Interaction
from mlepi.models.mace import MACE
from mlepi.models.phonon_network import PhononNetwork
from mlepi.models.radial import RadialMLP
from mlepi.models.symmetric_contraction import SymmetricContraction, symmetric_couplings


def load_mace_weights(model: PhononNetwork, weights: Mapping[str, Tensor]) -> None:
    """Give a phonon network the weights of a mace-torch model.

    Every sub-network gets them, and the read-outs.

    Args:
        model: network of the same sizes, elements and ``mean_neighbours``; changed in place,
            float64 is advisable. A homogeneous network then predicts the same energies and forces
            as mace-torch.
        weights: state dict of mace-torch's ``ScaleShiftMACE`` with (Residual) RealAgnostic
            interactions and one head.

    Raises:
        ConfigError: the backbone is not MACE.
        CheckpointError: a weight is missing or has the wrong size.
    """
    source = MACEWeights(weights)
    with torch.no_grad():
        for backbone in model.network.backbones.values():
            if not isinstance(backbone, MACE):
                raise ConfigError(
                    message(
                        "model.network.backbone",
                        type(backbone).__name__,
                        "MACE",
                        "Choose a MACE model.",
                    )
                )
            source.copy_backbone(backbone)
        for layer, readout in enumerate(cast("list[RadialMLP]", list(model.readouts))):
            linears = cast("list[nn.Linear]", list(readout.layers))
            names = ["linear"] if len(linears) == 1 else ["linear_1", "linear_2"]
            for name, linear in zip(names, linears, strict=True):
                columns = source.take(
                    f"readouts.{layer}.{name}.weight", (linear.in_features, linear.out_features)
                )
                linear.weight.copy_(columns.T)
        model.energy_scale = float(source.take("scale_shift.scale", ()))
        free = model.energy_scale * model.free_atom_readouts()
        energies = source.take("atomic_energies_fn.atomic_energies", (len(model.atomic_energies),))
        total = energies + source.take("scale_shift.shift", ()) + free.to(energies)
        model.atomic_energies = tuple(float(energy) for energy in total)


class MACEWeights:
    """Weights of a mace-torch model, copied module by module.

    Args:
        weights: its state dict.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a weight in a shape, or raise ``CheckpointError``."""
        if name not in self.weights:
            raise CheckpointError(
                message(
                    "mace-torch weights",
                    f"no {name!r}",
                    "the state dict of a ScaleShiftMACE",
                    "Export it with state_dict().",
                )
            )
        weight = self.weights[name]
        if weight.numel() != torch.Size(shape).numel():
            raise CheckpointError(
                message(
                    f"mace-torch weight {name}",
                    f"{weight.numel()} values",
                    f"{shape}",
                    "Build the model with the same sizes.",
                )
            )
        return weight.reshape(shape)

    def copy_backbone(self, backbone: MACE) -> None:
        """Copy embedding, interactions, products and self-connections of all layers."""
        backbone.embedding.copy_(
            self.take("node_embedding.linear.weight", tuple(backbone.embedding.shape))
        )
        for layer in range(backbone.num_layers):
            name = f"interactions.{layer}"
            self.copy_interaction(name, cast(Interaction, backbone.interactions[layer]))
            self.copy_self_connection(
                f"{name}.skip_tp.weight", cast(ElementLinear, backbone.self_connections[layer])
            )
            self.copy_contraction(
                f"products.{layer}.symmetric_contractions",
                cast(SymmetricContraction, backbone.contractions[layer]),
            )
            self.copy_linear(
                f"products.{layer}.linear.weight", cast(ChannelLinear, backbone.linears[layer])
            )

    def copy_linear(self, name: str, linear: ChannelLinear) -> None:
        """Copy an equivariant linear map: one matrix per l, ascending."""
        linear.weight.copy_(self.take(name, tuple(linear.weight.shape)))

    def copy_self_connection(self, name: str, connection: ElementLinear) -> None:
        """Copy an element-dependent map, stored per l as (input, element, output)."""
        elements, degrees, inputs, outputs = connection.weight.shape
        connection.weight.copy_(
            self.take(name, (degrees, inputs, elements, outputs)).permute(2, 0, 1, 3)
        )

    def copy_interaction(self, name: str, interaction: Interaction) -> None:
        """Copy linear maps and radial network of one layer's messages.

        With the sign of the edge direction.
        """
        self.copy_linear(f"{name}.linear_up.weight", interaction.linear_up)
        for position, linear in enumerate(
            cast("list[nn.Linear]", list(interaction.radial_network.layers))
        ):
            shape = (linear.in_features, linear.out_features)
            linear.weight.copy_(
                self.take(f"{name}.conv_tp_weights.layer{position}.weight", shape).T
            )
        channels = interaction.num_features
        mixing = self.take(
            f"{name}.linear.weight", (len(interaction.paths), channels, channels)
        ).clone()
        for position, (_, l2, _) in enumerate(interaction.paths):
            mixing[position] *= (-1) ** l2
        for l3, weight in enumerate(interaction.mixing):
            chosen = [position for position, path in enumerate(interaction.paths) if path[2] == l3]
            weight.copy_(mixing[chosen].reshape(weight.shape))

    def copy_contraction(self, name: str, contraction: SymmetricContraction) -> None:
        """Expand mace-torch's couplings in the minimal basis and transform the weights."""
        for l in range(contraction.l_max_out + 1):
            for degree in range(1, contraction.correlation + 1):
                prefix = f"{name}.contractions.{l}"
                own = symmetric_couplings(contraction.l_max_in, l, degree).flatten(1)
                theirs = self.weights.get(f"{prefix}.U_matrix_{degree}")
                if theirs is None:
                    raise CheckpointError(
                        message(
                            "mace-torch weights",
                            f"no {prefix}.U_matrix_{degree}",
                            "its coupling tensors",
                            "Keep the buffers.",
                        )
                    )
                n_paths = theirs.shape[-1]
                shape = (2 * l + 1, *[contraction.num_inputs] * degree, n_paths)
                paths = torch.movedim(theirs.reshape(shape).to(own), -1, 0).flatten(1)
                # own tensors are orthogonal and symmetric, so the projection symmetrises as well
                transform = (paths @ own.T) / own.square().sum(1)
                suffix = (
                    "weights_max"
                    if degree == contraction.correlation
                    else f"weights.{contraction.correlation - 1 - degree}"
                )
                weight = self.take(
                    f"{prefix}.{suffix}",
                    (contraction.num_elements, n_paths, contraction.num_features),
                )
                target = contraction.weights[f"l{l}_degree{degree}"]
                target.copy_(torch.einsum("ekc,kp->epc", weight.to(transform), transform))
