"""Optical benches calibrated: whether stated intervals hold the truth, family by family; and the camera's values
beside those of the public `emva1288` package on the same frames, where it is installed.

`python benchmarks/optical_calibration.py [UNITS [CAMERAS]]` prints this page (so many benches; 20; so many cameras
of benches of their own; 2,000); cells are resumable. Every bench has every fault of the profile unit on, 48 channels.
Where what a detector of one path sees cannot be told from what leaks through the other, dark one, the truth is that
sum's own (the gauge of one path open). A camera is a handful of numbers, so its families take many of them; there a
flat field is off by as much as it says of itself, and DSNU and PRNU are the sensor's, not those of the part seen.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from common import cell
from held_intervals import HEAD, Scores, table
from labctl_calibration import nominal_spot_record
from labctl_calibration.effective_map import patterns
from labctl_calibration.emitters import DRIVES
from labctl_calibration.linearity import DIVISIONS
from labctl_calibration.optical.camera_dark import CAMERA_DARK
from labctl_calibration.optical.camera_flat import CAMERA_FLAT, measure_series
from labctl_calibration.optical.camera_in_place import CAMERA_IN_PLACE
from labctl_calibration.optical.flats import FLATS, flats_of
from labctl_calibration.optical.loopback import LOOPBACK
from labctl_calibration.optical.panel_procedures import EMITTERS
from labctl_calibration.optical.row_dynamics import ROW_DYNAMICS
from labctl_calibration.photon_transfer import PhotonTransfer
from labctl_calibration.probing import half
from labctl_calibration.procedure import Devices, Measured, Procedure, Quantity
from labctl_calibration.registry import PROCEDURES
from labctl_calibration.spots import KIND as SPOTS_KIND
from labctl_calibration.taking import take
from labctl_sim_devices import (
    CameraTwin,
    ElectronicsTwin,
    FlatFieldTwin,
    OpticalBench,
    PanelTwin,
    load_profile,
)
from labctl_sim_devices.flat_field import PHOTONS_ERROR

from labctl.devices import (
    CalibrationRecord,
    Camera,
    FlatField,
    Frames,
    LoopElectronics,
    WeightModulator,
)
from labctl.physics import BenchLaw

UNITS, CAMERAS = 20, 2_000
CAMERAS_A_CELL = 50
Arrays = Mapping[str, np.ndarray]
CAMERA_FAMILIES = (
    "system gain", "dark noise", "quantum efficiency", "PRNU", "DSNU", "system gain, in place",
    "dark noise, in place", "full well, in place", "dark noise, in the dark",
)  # fmt: skip
FAMILIES = ("loopback slope", "loopback offset", "time constant", "input flat", "output flat")
CAMERA_BAR, PUBLIC_BAR = 2.0, 1.0  # %
CHAIN = ("darks", "light", "linearity", "emitters", "registration", "levels", "weights", "rows")
CHAIN_FAMILIES = (
    "dark level", "compression, as seen", "emitter's square, as seen", "emitter's cube, as seen",
    "effective weight", "its square", "its cube", "leak", "leak at setting 0", "row offset",
    "row gain, of the mean",
)  # fmt: skip
VERSION = 1
CHAIN_VERSION = 2
TRUE_PROBES = 20_000
PUBLIC = "emva1288"


class KeptCamera(CameraTwin):
    """A camera that keeps what it gave, with the exposure."""

    def __init__(self, name: str, bench: OpticalBench) -> None:
        super().__init__(name, bench)
        self.kept: list[tuple[float, float, np.ndarray]] = []

    def _do_acquire(self, n: int) -> Frames:
        frames = super()._do_acquire(n)
        self.kept.append((frames.exposure_us, self._bench.flat_photons_per_us, frames.counts))
        return frames


class OffFlatField(FlatFieldTwin):
    """A flat field that gives `factor` of the light that it says."""

    def __init__(self, name: str, bench: OpticalBench, factor: float) -> None:
        super().__init__(name, bench)
        self.factor = factor

    def _do_set_photons_per_us(self, photons_per_us: float) -> None:
        super()._do_set_photons_per_us(self.factor * photons_per_us)

    def _do_photons_per_us(self) -> float:
        return super()._do_photons_per_us() / self.factor


def drawn(unit: int, profile: str = "unit", light: float = 1.0) -> tuple[OpticalBench, Devices]:
    """Bench number `unit` on a day of its own, opened; its flat field gives `light` of what it says."""
    bench = OpticalBench(load_profile(profile), seed=1000 + unit, unit_seed=unit)
    made = {
        Camera: KeptCamera("camera", bench), FlatField: OffFlatField("flat field", bench, light),
        WeightModulator: PanelTwin("panel", bench), LoopElectronics: ElectronicsTwin("electronics", bench),
    }  # fmt: skip
    for device in made.values():
        device.open()
    return bench, Devices(made)


def measured(procedure: Procedure, devices: Devices, bench: OpticalBench) -> Measured:
    """One procedure, with the records it needs as far as no panel has to be measured for them."""
    n = bench.profile.n_channels
    dead = (bench.unit.input_efficiency.min(axis=0) < 0.05).astype(np.float64)
    spots = replace(nominal_spot_record(devices.get(Camera).spec, n, "design"), kind=SPOTS_KIND)
    known = {SPOTS_KIND: spots, EMITTERS: CalibrationRecord(EMITTERS, "", "", {"dead_channels": dead})}
    return procedure.measure(devices, {kind: known[kind] for kind in procedure.needs}, lambda *told: None)


def scores_of(unit: int) -> dict[str, float]:
    """By family: values, intervals that hold the truth, sums of errors in stated uncertainties and their squares;
    the camera's largest departure from the truth (%).
    """
    scores = Scores()
    bench, devices = drawn(unit)
    p = bench.profile
    seen = camera_values(bench, devices, part_alone=True)
    scores.sums["camera away"] = max(100 * abs(found.value / truth - 1) for _, found, truth in seen)

    loop = bench.truth().law.loop
    leak = (loop.leak_scale + loop.leak_offset).numpy()
    found = measured(LOOPBACK, devices, bench).arrays
    scores.add("loopback slope", found["slope"], found["slope_sd"], 1 / leak)
    offset = (loop.scale * loop.offset).numpy() / leak
    scores.add("loopback offset", found["offset_units"], found["offset_units_sd"], offset)
    found = measured(ROW_DYNAMICS, devices, bench).arrays
    scores.add("time constant", found["row_time_us"], found["row_time_us_sd"], bench.truth().tau_us / leak)

    found = measured(FLATS, devices, bench).arrays
    lives, modulator = found["dead_channels"] == 0, devices.get(WeightModulator)
    steps = np.eye(p.n_channels)
    for path, sign in ((0, 1.0), (1, -1.0)):
        frame = np.zeros(modulator.spec.shape_px, np.uint16)
        frame[:, half(modulator.spec, path)] = modulator.spec.n_levels - 1
        modulator.show(frame)
        inputs, outputs, _, _ = flats_of(sign * true_slopes(bench, steps)[:, lives])
        scores.add(
            "input flat", found["input_flat"][path, lives], found["input_flat_sd"][path, lives], inputs
        )
        scores.add("output flat", found["output_flat"][path], found["output_flat_sd"][path], outputs)
    return scores.sums


def camera_values(
    bench: OpticalBench, devices: Devices, *, part_alone: bool
) -> Iterator[tuple[str, Quantity, float]]:
    """What three procedures say of a camera: family, quantity, truth. DSNU's and PRNU's truth is that of the part
    of the sensor that is seen alone, or of what the sensor is drawn from.
    """
    p, camera = bench.profile, devices.get(Camera)
    gain = (2**p.camera_bits - 1 - p.camera_black_level_codes) / p.camera_full_well_e
    for procedure, families in (
        (CAMERA_DARK, {"temporal dark noise": ("dark noise, in the dark", gain * p.camera_read_noise_e)}),
        (CAMERA_FLAT, {
            "system gain K": ("system gain", gain), "temporal dark noise": ("dark noise", p.camera_read_noise_e),
            "quantum efficiency": ("quantum efficiency", p.camera_quantum_efficiency_percent),
            "PRNU1288": ("PRNU", p.camera_prnu_percent), "DSNU1288": ("DSNU", p.camera_dsnu_e),
        }),
        (CAMERA_IN_PLACE, {
            "system gain K": ("system gain, in place", gain),
            "temporal dark noise": ("dark noise, in place", p.camera_read_noise_e),
            "full well": ("full well, in place", p.camera_full_well_e),
        }),
    ):  # fmt: skip
        seen = {q.name: q for q in measured(procedure, devices, bench).quantities}
        if part_alone and procedure is CAMERA_FLAT:
            pixels = camera._sensor.part(camera.settings)
            families = families | {
                "PRNU1288": ("PRNU", 100 * float(pixels.response.std())),
                "DSNU1288": ("DSNU", float(pixels.offset_e.std())),
            }
        for name, (family, truth) in families.items():
            yield family, seen[name], truth


def camera_scores_of(block: int) -> dict[str, float]:
    """Of so many cameras, each beside a flat field that is off by as much as its data sheet allows for."""
    scores = Scores()
    for unit in range((block - 1) * CAMERAS_A_CELL + 1, block * CAMERAS_A_CELL + 1):
        off = np.random.Generator(np.random.Philox(key=(unit, 0xF1A7))).standard_normal()
        bench, devices = drawn(unit, light=1 + PHOTONS_ERROR * off)
        for family, found, truth in camera_values(bench, devices, part_alone=False):
            scores.add(family, found.value, found.sd, truth)
    return scores.sums


def true_slopes(bench: OpticalBench, steps: np.ndarray) -> np.ndarray:
    """Photocurrent per unit of phi [out, in] of the frame on display, between phi = -1 and 1."""
    law = bench.truth().law
    seen = law.difference(law.pedestal + torch.from_numpy(np.concatenate([steps, -steps]))).numpy()
    return np.asarray((seen[: len(steps)] - seen[len(steps) :]).T / 2)


def chain_scores_of(unit: int) -> dict[str, float]:
    """The same of the chain that rests on a panel's record, each procedure on the records of those before it."""
    scores, (bench, devices) = Scores(), drawn(unit)
    by_name, known = {one.name: one for one in PROCEDURES}, {}
    for name in CHAIN:
        before = bench.truth().law.loop
        taken = take(by_name[name], devices, known, lambda *told: None)
        known[taken.record.kind] = taken.record
        found, law = taken.record.arrays, bench.truth().law

        def scored(
            family: str, array: str, truth: np.ndarray, also: object = True, found: Arrays = found
        ) -> None:
            scores.add(family, found[array], found[f"{array}_sd"], truth, also)

        if name == "darks":
            off = torch.zeros(1, bench.profile.n_channels, dtype=torch.float64)
            scored("dark level", "dark_units", law.difference(off).numpy()[0])
        elif name in ("linearity", "emitters"):
            seen = [one_path_open(bench, devices.get(WeightModulator), path) for path in (0, 1)]
            if name == "linearity":
                scored(
                    "compression, as seen", "compression_per_unit", np.stack([compressed(s) for s in seen])
                )
                continue
            lives = found["dead_channels"] == 0
            square, cube = np.stack([emission(one) for one in seen]).swapaxes(0, 1)
            scored("emitter's square, as seen", "emitter_quadratic", square, lives)
            scored("emitter's cube, as seen", "emitter_cubic", cube, lives)
        elif name == "weights":
            lives = known[EMITTERS].array("dead_channels") == 0
            for family, power, truth in zip(
                ("effective weight", "its square", "its cube"), range(3), true_powers(law), strict=True
            ):
                values, sds = found["powers"][power], found["powers_sd"][power]
                scores.add(family, values, sds, truth, lives)
        elif name == "rows":
            after, gain = law.loop, law.loop.scale.numpy()
            scored("leak", "leak_scale", after.leak_scale.numpy())
            scored("leak at setting 0", "leak_offset", after.leak_offset.numpy())
            ends = [(one.scale * one.offset).numpy() for one in (before, after)]
            scored("row offset", "offset_units", np.mean(ends, axis=0))
            scored("row gain, of the mean", "relative_gain", gain / np.exp(np.log(gain).mean()))
    return scores.sums


def one_path_open(bench: OpticalBench, modulator: WeightModulator, path: int) -> BenchLaw:
    """The bench's law with every cell of one path open and the other dark, the open one's current first."""
    frame = np.zeros(modulator.spec.shape_px, np.uint16)
    frame[:, half(modulator.spec, path)] = modulator.spec.n_levels - 1
    modulator.show(frame)
    return bench.truth().law


def currents(law: BenchLaw, phi: np.ndarray) -> np.ndarray:
    """Both paths' light [B, 2, n] at drives phi, the brighter path first, as detectors that do not compress."""
    straight = replace(law, path=replace(law.path, compression=torch.zeros_like(law.path.compression)))
    seen = straight.photocurrents(law.pedestal + torch.from_numpy(phi)).numpy()
    return np.asarray(seen if bright_first(law) else seen[:, ::-1])


def bright_first(law: BenchLaw) -> bool:
    """Whether the positive path is the one that is open."""
    return bool(law.transmittance[0].sum() > law.transmittance[1].sum())


def compressed(law: BenchLaw) -> np.ndarray:
    """k [n] by which y / (1 - k y) of groups of emitters at drive 1, as one path open shows them, add up best."""
    n, sign = law.transmittance.shape[-1], 1 if bright_first(law) else -1
    groups = np.stack([(np.arange(n) >> bit) & 1 for bit in range(DIVISIONS)]).astype(np.float64)
    lit = np.concatenate([np.zeros((1, n)), np.ones((1, n)), groups, 1 - groups])
    seen = sign * law.difference(torch.from_numpy(lit)).numpy()
    both, (a, b) = seen[1] - seen[0], np.split(seen[2:] - seen[0], 2)
    k, product = np.zeros(n), 2 * a * b
    for _ in range(8):
        left = a / (1 - k * a) + b / (1 - k * b) - both / (1 - k * both)
        k = k + (product * left).sum(axis=0) / (product**2).sum(axis=0)
    return k


def emission(law: BenchLaw) -> np.ndarray:
    """Square and cube [2, n] of every emitter's light over its slope, of both paths' difference."""
    n, drives = law.transmittance.shape[-1], np.array(DRIVES)
    alone = (drives[:, None, None] * np.eye(n)).reshape(-1, n)
    seen = currents(law, np.concatenate([np.zeros((1, n)), alone]))
    light = (seen[:, 0] - seen[:, 1]).mean(axis=1)
    rises = (light[1:] - light[0]).reshape(len(drives), n)
    fitted = np.linalg.lstsq(np.stack([drives, drives**2, drives**3], axis=1), rises, rcond=None)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(fitted[1:] / fitted[0])


def true_powers(law: BenchLaw) -> np.ndarray:
    """Powers [3, out, in] of the frame on display: what fits light best over drives as they are probed."""
    n = law.transmittance.shape[-1]
    phi = patterns(np.random.default_rng(5), TRUE_PROBES, n)
    light = law.difference(law.pedestal + torch.from_numpy(phi)).numpy()
    design = np.concatenate([phi, phi**2, phi**3, np.ones((TRUE_PROBES, 1))], axis=1)
    found = np.linalg.lstsq(design, light, rcond=None)[0][:-1]
    return np.asarray(found.reshape(3, n, n).swapaxes(1, 2))


def beside_public(unit: int) -> dict[str, float]:
    """How far our values are from the public package's on the same frames (%; linearity errors: in %)."""
    _, devices = drawn(unit, "adm")
    camera = devices.get(Camera)
    if not isinstance(camera, KeptCamera):
        raise TypeError(f"the camera is a {type(camera).__name__}; allowed: KeptCamera")
    _, stacks, ours = measure_series(camera, devices.get(FlatField), lambda *told: None)
    theirs = public_values(camera.kept[2:-2], stacks, camera.kept[-1])
    return {name: 100 * abs(value / theirs[name] - 1) for name, value in our_values(ours).items()} | {
        "lowest linearity error": abs(ours.linearity_error[0] - theirs["lowest linearity error"]),
        "highest linearity error": abs(ours.linearity_error[1] - theirs["highest linearity error"]),
    }


def our_values(found: PhotonTransfer) -> dict[str, float]:
    """By the names of the table."""
    return {
        "system gain K": found.system_gain.value, "responsivity R": found.responsivity.value,
        "quantum efficiency": 100 * found.quantum_efficiency.value, "temporal dark noise": found.dark_noise.value,
        "saturation capacity": found.saturation.value, "SNR_max": found.snr_max.value,
        "dynamic range": found.dynamic_range, "DSNU1288": found.dsnu.value, "PRNU1288": found.prnu.value,
    }  # fmt: skip


def public_values(
    pairs: list[tuple[float, float, np.ndarray]],
    stacks: dict[str, np.ndarray],
    last: tuple[float, float, np.ndarray],
) -> dict[str, float]:
    """The same from the public package. It asks numpy for `asfarray`, which numpy 2 has no more."""
    if not hasattr(np, "asfarray"):
        setattr(np, "asfarray", partial(np.asarray, dtype=float))  # noqa: B010
    from emva1288.process import routines
    from emva1288.process.data import Data1288
    from emva1288.process.results import Results1288

    temporal: dict[float, dict[float, dict[str, float]]] = {}
    for exposure_us, photons_per_us, frames in pairs:
        sums = routines.get_int_imgs(list(frames))
        point = {"sum": sums["sum"].sum(), "pvar": sums["pvar"].sum(), "dmean": sums["dmean"]}
        temporal.setdefault(exposure_us, {})[exposure_us * photons_per_us] = point
    exposure_us, photons_per_us, frames = last
    spatial = {
        0.0: routines.get_int_imgs(list(stacks["dark"])),
        exposure_us * photons_per_us: routines.get_int_imgs(list(stacks["half"])),
    }
    height, width = frames.shape[1:]
    data = {"temporal": temporal, "spatial": {exposure_us: spatial}, "height": height, "width": width}
    found = Results1288(Data1288(data).data)
    return {
        "system gain K": found.K, "responsivity R": found.R, "quantum efficiency": found.QE,
        "temporal dark noise": found.sigma_d, "saturation capacity": found.u_e_sat, "SNR_max": found.SNR_max,
        "dynamic range": found.DR, "DSNU1288": found.DSNU1288, "PRNU1288": found.PRNU1288,
        "lowest linearity error": found.LE_min, "highest linearity error": found.LE_max,
    }  # fmt: skip


def coverage_lines(units: int, cameras: int) -> list[str]:
    """The tables of intervals."""
    rows = [
        cell({"row": "optical coverage", "unit": k, "v": VERSION}, partial(scores_of, k))
        for k in range(1, units + 1)
    ]
    chain = [
        cell({"row": "optical chain coverage", "unit": k, "v": CHAIN_VERSION}, partial(chain_scores_of, k))
        for k in range(1, units + 1)
    ]
    blocks = [
        cell({"row": "camera coverage", "block": k, "v": VERSION}, partial(camera_scores_of, k))
        for k in range(1, -(-cameras // CAMERAS_A_CELL) + 1)
    ]
    lines = [
        f"### Intervals: {units} benches of 48 channels",
        "",
        HEAD,
        "",
        *table(rows + chain, (*FAMILIES, *CHAIN_FAMILIES)),
        "",
        f"### Intervals: {CAMERAS_A_CELL * len(blocks):,} cameras",
        "",
        f"Their flat fields are off by {PHOTONS_ERROR:.0%} rms, as data sheets say; DSNU and PRNU are the sensor's, of "
        "which a part is seen.",
        "",
        *table(blocks, CAMERA_FAMILIES),
    ]
    away = max(row["camera away"] for row in rows)
    met = "met" if away <= CAMERA_BAR else "missed"
    return [
        *lines,
        "",
        f"In front of an exact light the values of {units} cameras are within {away:.2f}% of the truth (bar "
        f"{CAMERA_BAR:g}%: {met}).",
    ]


def public_lines(units: int) -> list[str]:
    """The table beside the public package, or one line where it is not installed."""
    if importlib.util.find_spec(PUBLIC) is None:
        return [f"The public `{PUBLIC}` package is not installed here: nothing is compared with it."]
    rows = [
        cell({"row": "optical public emva", "unit": k, "v": VERSION}, partial(beside_public, k))
        for k in range(1, units + 1)
    ]
    lines = [
        f"### Beside `{PUBLIC}` on the same frames: {units} cameras",
        "",
        f"Largest difference; bar {PUBLIC_BAR:g}% (of linearity errors: the difference itself, in percent).",
        "",
        "| value | largest difference (%) | |",
        "|---|---|---|",
    ]
    for name in rows[0]:
        most = max(row[name] for row in rows)
        lines.append(f"| {name} | {most:.2g} | {'met' if most <= PUBLIC_BAR else 'missed'} |")
    return lines


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("units", nargs="?", type=int, default=UNITS, help="benches")
    parser.add_argument("cameras", nargs="?", type=int, default=CAMERAS, help=f"in cells of {CAMERAS_A_CELL}")
    asked = parser.parse_args()
    coverage = coverage_lines(asked.units, asked.cameras)
    for line in ("## Optical benches, calibrated", "", *coverage, "", *public_lines(asked.units)):
        print(line)


if __name__ == "__main__":
    main()
