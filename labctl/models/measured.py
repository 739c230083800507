"""A network as a measured machine computes it: its row functions over the machine's own matrix and curves.

What a frame realises comes from a calibration (`labctl.physics.FittedMap`), all n x n of it: leakage and
crosstalk couple what no weight joins, emitters bend what they carry. Hidden rows are then an equilibrium of
their own, given u, found by a few passes through the layers.

With frozen codes, training this network re-fits biases and gains to the machine. With float weights it also
moves the weights, which are rounded to codes in every evaluation (straight-through: the gradient passes): a
frame is then predicted from the one that was measured, and measured again once the codes are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices.errors import ProgramError
from labctl.models.network import RowTableNetwork, coefficients, for_samples
from labctl.physics import CurveTable, FittedMap, carried, summed
from labctl.programs import PlacedWeights, full_scale_code

SIGN_VECTORS: Final = 4
PASSES: Final = 3  # through the layers: a few percent leak back, and each pass takes that off the error


class MeasuredNetwork(RowTableNetwork):
    """`network` (one replica) over `light`, the map measured with the frame of `weights` on display.

    Both are in the machine's order of rows. `network` has frozen codes, or floats that are to become codes of
    `bits` bits. Its `rows` are what the machine is to be given. gain_limit [n]: the largest gain x scale_out
    that the machine can give each hidden row; beyond it a gain stays there.
    """

    def __init__(
        self,
        network: RowTableNetwork,
        weights: PlacedWeights,
        light: FittedMap,
        *,
        bits: int | None = None,
        gain_limit: NDArray[np.float64] | None = None,
    ) -> None:
        codes = network.codes
        if codes is None and bits is None:
            raise ProgramError("a measured network of float weights needs the bits of its codes")
        super().__init__(network.sizes, **network.options(), coded=None if codes is None else [codes])
        self.load_state_dict(network.state_dict())
        self._placement = weights.placement
        self._light, self._curve = light, CurveTable(light.curve)
        self._offset = light.offset.to(torch.float32)
        self._measured = light.powers.to(torch.float32)
        self._shown = torch.as_tensor(weights.fractions, dtype=torch.float32)
        self._top = None if bits is None or codes is not None else float(full_scale_code(bits))
        self._scale_out = (
            torch.as_tensor(weights.scale_out, dtype=torch.float32)
            if self._top is None
            else torch.ones(weights.placement.n_channels)
        )
        limit = np.full(weights.placement.n_channels, np.inf) if gain_limit is None else gain_limit
        self._gain_limit = torch.as_tensor(limit, dtype=torch.float32)
        self._carried = carried(self._measured, self._shown)

    def _powers(self) -> Tensor:
        """P_k [K, n, n] of the frame that the present weights would be shown as."""
        if self._top is None:
            return self._measured
        fractions = torch.zeros_like(self._shown)
        for layer, (rows, columns) in enumerate(self._placement.blocks):
            exact = self._matrix(layer)[0]
            rounded = torch.round(exact * self._top) / self._top
            fractions[rows, columns] = exact + (rounded - exact).detach()
        return self._measured + (fractions - self._shown) * self._carried[:, None, :]

    def _machine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Powers [K, n, n] and offset [n] of the light, and what is added to the rows' biases [n]."""
        return self._powers(), self._offset, torch.zeros_like(self._offset)

    def _raw_groups(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        c_skip, c_out, _ = (c[..., None, None] for c in coefficients(self.preconditioning, sigma))
        return self._settled(x, sigma, labels)[0], c_skip, c_out

    def _settled(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """F [R, S, M, d], states [R, S, M, n] at rest, and the light that each matrix's rows get."""
        self._check_labels(labels)
        c_in = coefficients(self.preconditioning, sigma)[2][..., None, None]
        replicas, levels, members, _ = x.shape
        gains, biases = self._tables(sigma)
        row_gains: Sequence[Tensor] = [
            for_samples(self._reached(layer, gain), labels) for layer, gain in enumerate(gains)
        ]
        row_biases: Sequence[Tensor] = [for_samples(bias, labels) for bias in biases]
        placement, (powers, offset, shift) = self._placement, self._machine()
        unused = placement.n_channels - sum(placement.sizes)
        blocks = [
            c_in * x,
            *(x.new_zeros(replicas, levels, members, size) for size in placement.sizes[1:]),
        ]
        rest = x.new_zeros(replicas, levels, members, unused)

        def row_light(layer: int) -> Tensor:
            rows = placement.block(layer)
            phi = self._curve(torch.cat([*blocks, rest], dim=-1))
            return (summed(powers[:, rows], phi) + offset[rows]) * self._scale_out[rows]

        lights: list[Tensor] = []
        last = len(placement.sizes) - 1
        for _ in range(PASSES):
            lights = []
            for layer in range(1, last + 1):
                lights.append(row_light(layer))
                moved = row_biases[layer - 1] + shift[placement.block(layer)]
                blocks[layer] = row_gains[layer - 1] * lights[-1] + moved
        lights.append(row_light(0))
        raw = row_gains[-1] * lights[-1] + row_biases[-1]
        return raw, torch.cat([*blocks, rest], dim=-1), lights

    def moments(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> list[NDArray[np.float64]]:
        """What errors of the weights cost F, matrix by matrix: M [rows, columns, columns] for `search_codes`.

        M_r = sum over samples of s_r f f': f is the light of the matrix's inputs less what the row's own bias
        and gain undo at each level and class; s_r the squared derivative of F by the row's light, summed over
        F's components by random sign vectors (Hutchinson 1989). x [1, S, M, d], sigma [S], labels [S, M].
        """
        raw, states, lights = self._settled(x, sigma, labels)
        squares = [torch.zeros_like(light) for light in lights]
        generator = torch.Generator().manual_seed(0)
        for _ in range(SIGN_VECTORS):
            signs = torch.randint(0, 2, raw.shape, generator=generator).to(raw.dtype) * 2 - 1
            grads = torch.autograd.grad((raw * signs).sum(), lights, retain_graph=True)
            squares = [total + grad.square() for total, grad in zip(squares, grads, strict=True)]
        phi = self._curve(states.detach())[0].double()
        return [
            _moments(phi[..., columns], light.detach()[0].double(), square[0].double(), labels).numpy()
            for (_, columns), light, square in zip(self._placement.blocks, lights, squares, strict=True)
        ]

    def _reached(self, matrix: int, gain: Tensor) -> Tensor:
        """Gains [..., rows] of one matrix as far as the machine's knobs go; those of rows u go far enough."""
        if matrix == len(self._placement.sizes) - 1:
            return gain
        rows = self._placement.block(matrix + 1)
        return torch.minimum(gain, self._gain_limit[rows] / self._scale_out[rows])

    def light_of(self, weights: PlacedWeights) -> FittedMap:
        """The map to expect of another frame."""
        shown = torch.as_tensor(weights.fractions, dtype=torch.float32)
        powers = self._measured + (shown - self._shown) * self._carried[:, None, :]
        return replace(self._light, powers=powers.double())

    def plain(self) -> RowTableNetwork:
        """The same parameters as an ordinary network, to be coded, saved or compiled."""
        return self.replica(0)


def _moments(phi: Tensor, light: Tensor, squares: Tensor, labels: Tensor | None) -> Tensor:
    """M [r, c, c] from inputs phi [S, M, c], light [S, M, r] and weights squares [S, M, r]."""
    out = torch.zeros(light.shape[-1], phi.shape[-1], phi.shape[-1], dtype=phi.dtype)
    for level in range(len(phi)):
        kinds = torch.zeros(phi.shape[1], dtype=torch.int64) if labels is None else labels[level]
        for kind in torch.unique(kinds):
            of = kinds == kind
            f, y, s = phi[level, of], light[level, of], squares[level, of]
            total = s.sum(dim=0).clamp_min(1e-30)
            mean, off = (s / total).T @ f, y - (s / total * y).sum(dim=0)
            along = (s * off).T @ f  # what a change of the row's gain takes with it
            out += torch.einsum("mr,mi,mj->rij", s, f, f)
            out -= total[:, None, None] * mean[:, :, None] * mean[:, None, :]
            size = (s * off.square()).sum(dim=0).clamp_min(1e-30)
            out -= along[:, :, None] * along[:, None, :] / size[:, None, None]
    return out
