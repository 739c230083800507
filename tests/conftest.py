"""Shared by every test: one thread, deterministic property tests, a toy network, a bench of twins."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings
from labctl_calibration import calibrate_open_loop, nominal_panel_record
from labctl_calibration.bringup import bring_up
from labctl_calibration.store import RecordStore
from labctl_sim_devices import (
    DamageRecord,
    ElectronicsTwin,
    EmitterTwin,
    OpticalBench,
    PanelTwin,
    load_profile,
)

from labctl.devices import LoopElectronics, WeightModulator
from labctl.devices.errors import DataError
from labctl.engines import OpticalLoopEngine
from labctl.models.fetch import load
from labctl.programs import LoopProgram, LoopSegment, PlacedWeights, Settled
from labctl.rig import load_rig
from labctl.rig.rig import Rig
from labctl.sampling import Preconditioning, RowTables

torch.set_num_threads(1)
settings.register_profile("labctl", deadline=None, derandomize=True, max_examples=25, database=None)
settings.load_profile("labctl")


@dataclass
class ToyNetwork:
    """An untrained LoopNetwork: fixed random weights, gains and biases that vary with sigma and class."""

    sizes: tuple[int, ...] = (2, 5, 4)
    kind: str = "edm"
    n_classes: int = 0
    strength: float = 0.8
    sigma_data: float = 1.0
    seed: int = 0
    _parts: dict = field(default_factory=dict)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        feeds = list(zip((*self.sizes[1:], self.sizes[0]), self.sizes, strict=True))
        classes = max(self.n_classes, 1)
        self._parts = {
            "weights": [self.strength * rng.normal(size=s) / math.sqrt(s[1]) for s in feeds],
            "phase": [rng.uniform(0, 6, (classes, rows)) for rows, _ in feeds],
            "bias": [0.3 * rng.normal(size=(classes, rows)) for rows, _ in feeds],
        }

    @property
    def preconditioning(self):
        return Preconditioning(self.kind, self.sigma_data)

    def weights(self):
        return [w.copy() for w in self._parts["weights"]]

    def rows(self, sigma):
        gains = tuple(1.0 + 0.3 * np.sin(p + math.log(sigma)) for p in self._parts["phase"])
        biases = tuple(b * math.cos(math.log(sigma)) for b in self._parts["bias"])
        return RowTables(gains, biases)

    def reference_denoiser(self, x, sigma, label=0):
        """D(x; sigma) of one sample x [d], written out row by row."""
        tables = self.rows(sigma)
        c_skip, c_out, c_in = self.preconditioning.coefficients(sigma)
        z = [c_in * value for value in x]
        for w, gain, bias in zip(self.weights(), tables.gains, tables.biases, strict=True):
            z = [
                gain[label, i] * sum(w[i, j] * math.tanh(z[j]) for j in range(len(z))) + bias[label, i]
                for i in range(len(w))
            ]
        return np.array([c_skip * a + c_out * b for a, b in zip(x, z, strict=True)])


@dataclass
class Twin:
    """One simulated bench with its devices, opened, and the engine on top."""

    bench: OpticalBench
    panel: PanelTwin
    drive: EmitterTwin
    electronics: ElectronicsTwin
    engine: OpticalLoopEngine

    def show_fractions(self, fractions):
        """Write signed fractions by a frame of this test's own making (not the host's encoder)."""
        profile = self.bench.profile
        levels = np.zeros(profile.panel_shape_px, np.uint16)
        height, width = profile.cell_px
        for path, sign in enumerate((1, -1)):
            top, left = profile.path_origin_px[path]
            for row, column in np.argwhere(sign * np.asarray(fractions) > 0):
                angle = math.asin(math.sqrt(abs(fractions[row][column])))
                level = round(angle / (math.pi / 2) * (profile.panel_levels - 1))
                y, x = top + row * height, left + column * width
                levels[y : y + height, x : x + width] = level
        self.panel.show(levels)

    def true_fractions(self):
        """What the light says: positive minus negative path."""
        paths = self.bench.optics.transmittances(self.bench.now_us)
        return paths[0] - paths[1]


@pytest.fixture(autouse=True)
def no_damage(request, monkeypatch):
    """No test damages a bench, unless it is marked `damages`: then this is where the events are."""
    events = []
    note = DamageRecord.note

    def noted(record, event):
        events.append(event)
        note(record, event)

    monkeypatch.setattr(DamageRecord, "note", noted)
    yield events
    if request.node.get_closest_marker("damages") is None:
        assert not events, f"a twin was damaged: {'; '.join(map(str, events))}"


@pytest.fixture
def twin():
    """Factory of benches: twin("adm", seed=1, noise_scale=0.0, wait_us=60.0, ...profile overrides)."""
    opened = []

    def make(profile="ideal", *, seed=0, noise_scale=1.0, unit_seed=None, **overrides):
        bench = OpticalBench(
            load_profile(profile, overrides), seed=seed, noise_scale=noise_scale, unit_seed=unit_seed
        )
        panel, drive = PanelTwin("panel", bench), EmitterTwin("emitters", bench)
        electronics = ElectronicsTwin("electronics", bench)
        record = nominal_panel_record(panel.spec, bench.profile.n_channels, "test")
        engine = OpticalLoopEngine(panel, electronics, record, calibrate_open_loop)
        for device in (panel, drive, electronics):
            device.open()
            opened.append(device)
        return Twin(bench, panel, drive, electronics, engine)

    yield make
    for device in opened:
        device.close()


@pytest.fixture(scope="session")
def unit_bringup(tmp_path_factory):
    """Rig optical-unit, brought up once: `found`, records in `folder`, the bench's `truth` right after."""
    with Rig(load_rig("optical-unit")) as rig:
        modulator, electronics = rig.device(WeightModulator), rig.device(LoopElectronics)
        found = bring_up(modulator, electronics)
        truth, full_scale = rig.world.truth(), electronics.spec.adc.range_units
        serials = [rig.identities[device.name].serial for device in (modulator, electronics)]
    store = RecordStore(tmp_path_factory.mktemp("optical-unit") / "records")
    panel = store.put(found.panel)
    rows = store.put(found.rows_resting_on(panel))
    return SimpleNamespace(
        found=found, ids=(panel, rows), truth=truth, full_scale_units=full_scale,
        serials=serials,
    )  # fmt: skip


@pytest.fixture
def toy():
    """Factory of toy networks: toy(sizes=(2, 5, 4), kind="flow", n_classes=3)."""
    return ToyNetwork


@pytest.fixture
def one_segment():
    """Factory of one-segment programs: leak, gain and bias by row (scalars broadcast over the channels)."""

    def make(
        weights: PlacedWeights,
        *,
        gain=1.0,
        leak=1.0,
        bias=0.0,
        inject_scale=1.0,
        tolerance=0.05,
        kind="implicit",
    ):
        n = weights.placement.n_channels
        segment = LoopSegment(
            kind,
            1.0,
            np.broadcast_to(np.asarray(leak, float), (n,)).copy(),
            np.broadcast_to(np.asarray(gain, float), (1, n)).copy(),
            np.broadcast_to(np.asarray(bias, float), (1, n)).copy(),
            inject_scale,
            Settled(tolerance),
        )
        return LoopProgram((weights,), (segment,)), segment

    return make


@pytest.fixture
def real_set():
    """`load` of a fetched set (`make test` fetches); fails the test, saying how to fetch, where it is not."""

    def loaded(name, split):
        try:
            return load(name, split)
        except DataError as error:
            missing = str(error)
        pytest.fail(f"this test needs the data set {name}: {missing}", pytrace=False)

    return loaded


class _StandIn(torch.nn.Module):
    """Pools to 48 numbers, padded to `width`; the call is that of the real Inception file."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        pooled = torch.nn.functional.adaptive_avg_pool2d(img.float() / 255.0, (4, 4)).flatten(1)
        return torch.nn.functional.pad(pooled, (0, self.width - 48))


@pytest.fixture
def inception_file(tmp_path):
    """Factory of TorchScript files in the place of Inception's: inception_file(width=2048)."""

    def made(width=2048):
        path = tmp_path / f"net_{width}.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(_StandIn(width)).save(str(path))
        return path

    return made
