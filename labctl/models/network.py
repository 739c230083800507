"""The denoiser that fits the loop: fixed matrices, tanh on every row, sigma and class in the rows alone.

    h_1 = g_1 . (W_1 tanh(u)) + b_1,  h_l = g_l . (W_l tanh(h_{l-1})) + b_l,
    F = g_out . (W_out tanh(h_L)) + b_out,  u = c_in x,  D = c_skip x + c_out F

Each row of W has largest |weight| 1, so that the row gain carries all scale; gains and biases are bounded by
construction, to what the machine's gain and bias codes reach. They come from a small perceptron on Fourier
features of ln sigma (and the class), which the host evaluates once a step: it costs the machine nothing.

Every parameter has a leading replica dimension R: several seeds train at once, at the price of about one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labctl.devices.errors import ProgramError
from labctl.programs.codes import CodedMatrix
from labctl.sampling.network import RowTables
from labctl.sampling.parametrisation import Preconditioning

FloatArray = NDArray[np.float64]

# Bounds on gain x scale, and on biases in units. A u row has g c_in c_out g_out <= 1 on the machine; c_in
# c_out is at most 1/2 (edm), .36 (flow) and 1 (vp), so these bounds hold for every step g <= 1.
HIDDEN_GAIN: Final = (0.02, 20.0)
OUTPUT_GAIN: Final = {"edm": (0.1, 2.0), "flow": (0.1, 2.75), "vp": (0.05, 1.0)}
HIDDEN_BIAS: Final = 3.5
OUTPUT_BIAS: Final = 2.0


def coefficients(preconditioning: Preconditioning, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(c_skip, c_out, c_in) for a tensor of noise levels: `Preconditioning.coefficients`, element-wise."""
    sd = preconditioning.sigma_data
    unit = (sigma * sigma + sd * sd).rsqrt()
    c_in = preconditioning.input_scale * unit
    if preconditioning.kind == "edm":
        return sd * sd * unit * unit, sigma * sd * unit, c_in
    if preconditioning.kind == "flow":
        t = sigma / (1.0 + sigma)
        return 1.0 - t, t, c_in
    return torch.ones_like(sigma), sigma, c_in


class RowTableNetwork(nn.Module):
    """R replicas of a denoiser of sizes [d, h1, ..., hL]; with R = 1 it is a `LoopNetwork`.

    `seeds` has one seed per replica and fixes its initial parameters, whatever stands beside it.
    `coded` holds, per replica, one `CodedMatrix` per weight matrix: then the matrices are frozen at those
    codes and only the row functions are parameters.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        seeds: Sequence[int] = (0,),
        n_classes: int = 0,
        preconditioning: Preconditioning | None = None,
        width: int = 64,
        harmonics: int = 4,
        coded: Sequence[Sequence[CodedMatrix]] | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ProgramError(f"sizes {list(sizes)}: [d, h1, ..., hL] with every size 1 or more is allowed")
        if n_classes < 0 or width < 1 or harmonics < 0 or not seeds:
            raise ProgramError(
                f"n_classes {n_classes}, width {width}, harmonics {harmonics}, {len(seeds)} seeds: "
                "allowed are 0, 1, 0 and 1 or more"
            )
        self._sizes = tuple(int(size) for size in sizes)
        self._n_classes = int(n_classes)
        self._preconditioning = preconditioning or Preconditioning()
        self.width, self.harmonics, self.n_replicas = int(width), int(harmonics), len(seeds)
        # Matrix l maps layer l to layer l + 1; the last one maps back to d.
        self._rows = (*self._sizes[1:], self._sizes[0])
        self._make_parameters(seeds)
        self._coded: tuple[tuple[CodedMatrix, ...], ...] | None = None
        if coded is not None:
            self._freeze(coded)

    # -- construction ---------------------------------------------------------------------------------

    def _make_parameters(self, seeds: Sequence[int]) -> None:
        shapes = list(zip(self._rows, self._sizes, strict=True))
        total, features = sum(self._rows), 1 + 2 * self.harmonics
        drawn: dict[str, list[Tensor]] = {}

        def put(name: str, value: Tensor) -> None:
            drawn.setdefault(name, []).append(value)

        for seed in seeds:
            rng = torch.Generator().manual_seed(int(seed))
            for layer, shape in enumerate(shapes):
                put(f"raw_{layer}", torch.randn(shape, generator=rng))
            put("w1", torch.randn(self.width, features, generator=rng) / math.sqrt(features))
            put("c1", torch.randn(self.width, generator=rng) * 0.5)
            put("w2", torch.randn(self.width, self.width, generator=rng) / math.sqrt(self.width))
            put("c2", torch.zeros(self.width))
            put("w3", torch.randn(2 * total, self.width, generator=rng) * 0.3 / math.sqrt(self.width))
            put("c3", self._initial_rows(rng))
            if self._n_classes:
                put("classes", torch.randn(self._n_classes, self.width, generator=rng) * 0.5)
        for name, values in drawn.items():
            setattr(self, name, nn.Parameter(torch.stack(values)))

    def _initial_rows(self, rng: torch.Generator) -> Tensor:
        """Gains that put a standard deviation of about 1.5 on every hidden row, biases spread over it."""
        low, high = (math.log(v) for v in HIDDEN_GAIN)
        gains, biases = [], []
        for layer, (rows, cols) in enumerate(zip(self._rows, self._sizes, strict=True)):
            if layer == len(self._rows) - 1:
                gains.append(torch.full((rows,), -0.5))
                biases.append(torch.zeros(rows))
                continue
            spread = 0.65 * (0.75 if cols <= 4 else 0.45) * math.sqrt(cols)
            wanted = math.log(min(max(1.5 / spread, 0.1), 8.0))
            gains.append(torch.full((rows,), math.atanh(2.0 * (wanted - low) / (high - low) - 1.0)))
            biases.append(torch.randn(rows, generator=rng) * 1.2)
        return torch.cat([*gains, *biases])

    def _freeze(self, coded: Sequence[Sequence[CodedMatrix]]) -> None:
        shapes = list(zip(self._rows, self._sizes, strict=True))
        if len(coded) != self.n_replicas:
            raise ProgramError(f"codes for {len(coded)} replicas: the network has {self.n_replicas}")
        for matrices in coded:
            if [m.codes.shape for m in matrices] != shapes:
                raise ProgramError(f"codes of shapes {[m.codes.shape for m in matrices]}: wanted {shapes}")
        for layer in range(len(shapes)):
            delattr(self, f"raw_{layer}")
            stacked = np.stack([matrices[layer].weights() for matrices in coded])
            scale = np.stack([matrices[layer].scale for matrices in coded])
            self.register_buffer(f"decoded_{layer}", torch.as_tensor(stacked, dtype=torch.float32), False)
            self.register_buffer(f"scale_{layer}", torch.as_tensor(scale, dtype=torch.float32), False)
        self._coded = tuple(tuple(matrices) for matrices in coded)

    def with_codes(self, coded: Sequence[Sequence[CodedMatrix]]) -> RowTableNetwork:
        """The same row functions over frozen codes, one list of matrices per replica."""
        seeds = [0] * self.n_replicas
        other = RowTableNetwork(self._sizes, seeds=seeds, **self.options(), coded=coded)
        wanted = other.state_dict()
        other.load_state_dict({name: value for name, value in self.state_dict().items() if name in wanted})
        return other

    def freed(self) -> RowTableNetwork:
        """A coded network (one replica) with its weights as parameters again, computing the same.

        Raises ProgramError where a row's largest code is not full scale: a float row's largest weight is 1.
        """
        self._single("freed")
        for layer, matrix in enumerate(self.codes or []):
            short = np.flatnonzero(np.abs(matrix.codes).max(axis=1) < matrix.full_scale)
            if len(short):
                raise ProgramError(
                    f"matrix {layer + 1}, row {short[0]}: the largest code is "
                    f"{np.abs(matrix.codes[short[0]]).max()}; allowed for free weights: "
                    f"{matrix.full_scale}, as weight_scale 'row' gives"
                )
        other = RowTableNetwork(self._sizes, **self.options())
        state = dict(self.state_dict())
        for layer, weights in enumerate(self.weights()):
            state[f"raw_{layer}"] = torch.as_tensor(weights, dtype=torch.float32)[None]
        other.load_state_dict({name: state[name] for name in other.state_dict()})
        return other

    def with_input_scale(self, scale: float) -> RowTableNetwork:
        """The same parameters over inputs u of another scale (one replica); it computes something else."""
        self._single("with_input_scale")
        preconditioning = replace(self._preconditioning, input_scale=scale)
        coded = None if self._coded is None else [self._coded[0]]
        other = RowTableNetwork(
            self._sizes, **{**self.options(), "preconditioning": preconditioning}, coded=coded
        )
        other.load_state_dict(self.state_dict())
        return other

    def replica(self, index: int) -> RowTableNetwork:
        """One replica as a network of its own (parameters copied)."""
        if not 0 <= index < self.n_replicas:
            raise IndexError(f"replica {index}: 0 to {self.n_replicas - 1} exist")
        coded = None if self._coded is None else [self._coded[index]]
        other = RowTableNetwork(self._sizes, **self.options(), coded=coded)
        other.load_state_dict({name: value[index : index + 1] for name, value in self.state_dict().items()})
        return other

    def options(self) -> dict[str, Any]:
        """What makes another network of the same shape, beside sizes, seeds and codes."""
        return {
            "n_classes": self._n_classes,
            "preconditioning": self._preconditioning,
            "width": self.width,
            "harmonics": self.harmonics,
        }

    # -- what it is ---------------------------------------------------------------------------------------

    @property
    def sizes(self) -> Sequence[int]:
        """[d, h1, ..., hL]."""
        return self._sizes

    @property
    def n_classes(self) -> int:
        """0 for an unconditional network."""
        return self._n_classes

    @property
    def preconditioning(self) -> Preconditioning:
        """c_skip, c_out and c_in of this network."""
        return self._preconditioning

    @property
    def codes(self) -> list[CodedMatrix] | None:
        """The frozen codes in the order of `weights`, or None for a float network (one replica only)."""
        self._single("codes")
        return None if self._coded is None else list(self._coded[0])

    @property
    def bits(self) -> int | None:
        """Bits of the frozen codes, None for a float network."""
        return None if self._coded is None else self._coded[0][0].bits

    def weights(self) -> list[FloatArray]:
        """[W_1 (h1, d), ..., W_out (d, hL)], float64, largest |weight| of a float row 1 (one replica)."""
        self._single("weights")
        if self._coded is not None:
            return [matrix.weights() for matrix in self._coded[0]]
        return self.all_weights()[0]

    def all_weights(self) -> list[list[FloatArray]]:
        """`weights` of every replica."""
        if self._coded is not None:
            return [[matrix.weights() for matrix in matrices] for matrices in self._coded]
        with torch.no_grad():
            # Normalised in float64, so that the largest |weight| of a row is exactly 1.
            layers = [_normalised(self._raw(layer).double()).numpy() for layer in range(len(self._rows))]
        return [[np.array(layer[i]) for layer in layers] for i in range(self.n_replicas)]

    def rows(self, sigma: float) -> RowTables:
        """Gains and biases at `sigma` > 0, evaluated in float64 (one replica only)."""
        self._single("rows")
        with torch.no_grad():
            gains, biases = self._tables(torch.tensor([float(sigma)], dtype=torch.float64))
        return RowTables(
            tuple(np.array(g[0, 0].numpy()) for g in gains),
            tuple(np.array(b[0, 0].numpy()) for b in biases),
        )

    def _single(self, what: str) -> None:
        if self.n_replicas != 1:
            raise ValueError(f"{what}: the network has {self.n_replicas} replicas; take one with replica(i)")

    # -- evaluation ---------------------------------------------------------------------------------------

    def denoise(self, x: Tensor, sigma: Tensor | float, labels: Tensor | None = None) -> Tensor:
        """D(x; sigma).

        x is [B, d], or [R, B, d] with one batch per replica; sigma a number (one level for the batch: much
        the fastest) or [B]; labels int64 [B], needed exactly when the network has classes. Returns [B, d]
        for a single replica and a two-dimensional x, else [R, B, d].
        """
        flat = x if x.dim() == 3 else x.expand(self.n_replicas, *x.shape)
        batch = flat.shape[1]
        sigma = torch.as_tensor(sigma, dtype=x.dtype)
        if sigma.dim() == 0 or sigma.shape[0] == 1 or bool((sigma == sigma[0]).all()):
            groups, sigma = flat[:, None], sigma.reshape(-1)[:1]
            grouped = None if labels is None else labels.reshape(1, batch)
        else:
            groups = flat[:, :, None]
            grouped = None if labels is None else labels.reshape(batch, 1)
        out = self.denoise_groups(groups, sigma, grouped).reshape(self.n_replicas, batch, -1)
        return out[0] if x.dim() == 2 and self.n_replicas == 1 else out

    def denoise_groups(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """D for x [R, S, M, d] with sigma [S] (or [R, S]): S noise levels, M samples at each; labels [S, M].

        The row functions are evaluated once per level and class, not once per sample.
        """
        raw, c_skip, c_out = self._raw_groups(x, sigma, labels)
        return c_skip * x + c_out * raw

    def raw_groups(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """The raw network F, shapes as in `denoise_groups`; labels [S, M] or [R, S, M]."""
        return self._raw_groups(x, sigma, labels)[0]

    def residual_groups(
        self, x0: Tensor, noise: Tensor, sigma: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """F(x0 + sigma noise) minus the F that would give x0: the training residual, weight 1 at every sigma.

        Shapes as in `denoise_groups`; labels [S, M] or [R, S, M].
        """
        x = x0 + sigma[..., None, None] * noise
        raw, c_skip, c_out = self._raw_groups(x, sigma, labels)
        return raw - (x0 - c_skip * x) / c_out

    def _raw_groups(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        self._check_labels(labels)
        c_skip, c_out, c_in = (c[..., None, None] for c in coefficients(self._preconditioning, sigma))
        replicas, levels, members, _ = x.shape
        gains, biases = self._tables(sigma)
        h = c_in * x
        for layer, (gain, bias) in enumerate(zip(gains, biases, strict=True)):
            g, b = for_samples(gain, labels), for_samples(bias, labels)
            w = self._matrix(layer).to(x.dtype)
            y = torch.bmm(torch.tanh(h).reshape(replicas, levels * members, -1), w.transpose(1, 2))
            h = torch.addcmul(b, g, y.reshape(replicas, levels, members, -1))
        return h, c_skip, c_out

    def _check_labels(self, labels: Tensor | None) -> None:
        if (labels is None) != (self._n_classes == 0):
            wanted = f"labels 0 to {self._n_classes - 1}" if self._n_classes else "no labels"
            raise ValueError(
                f"labels {'missing' if labels is None else 'given'}: this network takes {wanted}"
            )

    def _matrix(self, layer: int) -> Tensor:
        if self._coded is not None:
            return self.get_buffer(f"decoded_{layer}")
        return _normalised(self._raw(layer))

    def _raw(self, layer: int) -> Tensor:
        return self.get_parameter(f"raw_{layer}")

    def _tables(self, sigma: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Gains and biases of every matrix, each [R, S, C, rows], for sigma [S] or [R, S]."""
        like = sigma.dtype
        p = {name: self.get_parameter(name).to(like) for name in ("w1", "c1", "w2", "c2", "w3", "c3")}
        log_sigma = torch.log(sigma)
        features = self._features(log_sigma if sigma.dim() == 2 else log_sigma[None])
        a = features.expand(self.n_replicas, -1, -1) @ p["w1"].transpose(1, 2) + p["c1"][:, None]
        a = a[:, :, None]
        if self._n_classes:
            a = a + self.get_parameter("classes").to(like)[:, None]
        replicas, levels, classes, width = a.shape
        a = nn.functional.silu(a).reshape(replicas, levels * classes, width)
        a = nn.functional.silu(a @ p["w2"].transpose(1, 2) + p["c2"][:, None])
        out = (a @ p["w3"].transpose(1, 2) + p["c3"][:, None]).reshape(replicas, levels, classes, -1)
        raw_gains, raw_biases = out.chunk(2, dim=-1)
        gains = [self._bounded_gain(layer, t) for layer, t in enumerate(self._by_matrix(raw_gains))]
        biases = [self._bounded_bias(layer, t) for layer, t in enumerate(self._by_matrix(raw_biases))]
        return gains, biases

    def _features(self, log_sigma: Tensor) -> Tensor:
        c = log_sigma / 4.0
        waves = [
            f(0.5 * math.pi * k * c) for k in range(1, self.harmonics + 1) for f in (torch.sin, torch.cos)
        ]
        return torch.stack([c, *waves], dim=-1)

    def _by_matrix(self, table: Tensor) -> Sequence[Tensor]:
        return torch.split(table, list(self._rows), dim=-1)

    def _bounded_bias(self, layer: int, raw: Tensor) -> Tensor:
        limit = OUTPUT_BIAS if layer == len(self._rows) - 1 else HIDDEN_BIAS
        return limit * torch.tanh(raw / limit)

    def _bounded_gain(self, layer: int, raw: Tensor) -> Tensor:
        last = layer == len(self._rows) - 1
        low, high = (math.log(v) for v in (OUTPUT_GAIN[self._preconditioning.kind] if last else HIDDEN_GAIN))
        gain = torch.exp(0.5 * (low + high) + 0.5 * (high - low) * torch.tanh(raw))
        if self._coded is None:
            return gain
        # The bound is on gain x scale: that product is what the gain code sets.
        scale = self.get_buffer(f"scale_{layer}")
        return gain / scale.to(raw.dtype)[:, None, None]


def _normalised(raw: Tensor) -> Tensor:
    return raw / raw.abs().amax(dim=-1, keepdim=True)


def for_samples(table: Tensor, labels: Tensor | None) -> Tensor:
    """[R, S, C, rows] to [R, S, M or 1, rows] by label."""
    if labels is None:
        return table
    replicas, _, _, rows = table.shape
    index = labels.expand(replicas, *labels.shape[-2:])[..., None].expand(-1, -1, -1, rows)
    return table.gather(2, index)
