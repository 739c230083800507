"""Which drive channel lights which column of the panel, which read channel sees which row, with what sign.

Nothing is known but the data sheets. Every emitter is driven alone, at its own current, with one half of the
panel dark, bright, or striped by a binary code (`places`): who lights up at all lives; the sign of what a
read channel sees of the left half is its pair's; the sign of what phi changes is the drive's; shares of
striped light are places. Both halves are asked by themselves, and must agree. Then a frame of random weights
is shown by what was found, random phi are driven, and every row and column must look like its own weights
and like nobody else's (`check`): a second, independent pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, DeviceFault, LoopElectronics, WeightModulator, Wiring
from labctl_calibration.commissioning.check import Check, check_wiring
from labctl_calibration.commissioning.places import Places, code_frames, indices, locate
from labctl_calibration.commissioning.words import mounting_words, sign_words
from labctl_calibration.darks import measure_darks
from labctl_calibration.emitters import DEAD, MOST_DEAD, WEAK
from labctl_calibration.light_check import check_light
from labctl_calibration.probing import Probing, half
from labctl_calibration.procedure import Devices, Measured, Procedure, Quantity, Tell, Upstream

FloatArray = NDArray[np.float64]
KIND = "wiring"
ROUNDS = 4
FIT = 0.25  # rms of shares: more, and a channel sees no one place
CLEARLY = 0.08  # the best other place must fit by so much worse
SAME = 0.6  # of a cell: what both halves may say differently of a place
SIDES = ("left", "right")


@dataclass(frozen=True, eq=False)
class Seen:
    """One-hot currents [out, in] by channel: dark, of a dark panel; full [2, out, in], of each half bright,
    less that. slopes [out, in]: change with phi, left half bright.
    """

    dark: FloatArray
    full: FloatArray
    slopes: FloatArray


@dataclass(frozen=True, eq=False)
class Wires:
    """What was found: the wiring; dead and weak drive channels; row_px, column_px [2, n] of each channel on
    each half (NaN where it has none); check: how it stood up to the second pattern.
    """

    wiring: Wiring
    dead: NDArray[np.int64]
    weak: NDArray[np.int64]
    row_px: FloatArray
    column_px: FloatArray
    check: Check

    @property
    def found(self) -> tuple[str, ...]:
        """In words."""
        n = self.wiring.n_channels
        dead = f"dead: {', '.join(map(str, self.dead))}" if len(self.dead) else "none is dead"
        weak = f"; weak: {', '.join(map(str, self.weak))}" if len(self.weak) else ""
        return (
            f"{n - len(self.dead)} of {n} drive channels give light, {dead}{weak}; all {n} read channels see "
            "it",
            *mounting_words(self.wiring, self.dead),
            *sign_words(self.wiring, self.dead),
            f"checked with random weights: every channel's own resemble what it sees by "
            f"{self.check.own:.2f} or more, anybody else's by {self.check.other:.2f} at most",
        )


def find_wires(modulator: WeightModulator, electronics: LoopElectronics, tell: Tell) -> tuple[Wires, Probing]:
    """Find and check; the panel is dark in the end. Raises DeviceFault, naming what is wrong, where it cannot
    go on: no light, a blank panel, too many dead channels, places that are not clear, a turned panel.
    """
    probing = Probing.by_channel(modulator, electronics)
    n, top = probing.spec.n_channels, probing.panel.n_levels - 1
    tell("light", 0, 4)
    check_light(probing, measure_darks(probing))
    seen = _one_by_one(probing, top)
    dead, weak = _living(probing, seen)
    lives = np.setdiff1d(np.arange(n), dead)
    read_sign = _read_signs(probing, seen, lives)
    drive_sign = np.where((read_sign[:, None] * seen.slopes).sum(axis=0) < 0, -1.0, 1.0)
    drive_sign[dead] = 1.0
    signed = read_sign[:, None] * seen.full * np.array([1.0, -1.0])[:, None, None]
    row_px, column_px = np.full((2, 2, n), np.nan)
    extent = (probing.panel.shape_px[0], probing.panel.shape_px[1] // 2)
    pitch = (extent[0] // n, extent[1] // n)
    for side in (0, 1):
        tell(f"places, {SIDES[side]} half", 1 + side, 4)
        rows, columns = _places(probing, side, signed[side], seen.dark, read_sign, lives, pitch)
        row_px[side], column_px[side, lives] = rows.place_px, columns.place_px
    row = _ordered(probing, row_px, pitch[0], extent[0], "read", np.arange(n))
    column = _ordered(probing, column_px, pitch[1], extent[1], "drive", lives)
    column[dead] = np.setdiff1d(np.arange(n), column[lives])
    wiring = Wiring(column, row, drive_sign, read_sign)
    tell("check", 3, 4)
    checked = Probing(modulator, electronics, wiring)
    grids = [[_grid(row, row_px[side]), _grid(column, column_px[side])] for side in (0, 1)]
    check = check_wiring(checked, np.sort(column[lives]), np.array(grids))
    probing.show_half(0, 0)
    probing.count(checked.used)
    return Wires(wiring, dead, weak, row_px, column_px, check), probing


def _one_by_one(probing: Probing, top: int) -> Seen:
    probing.show_half(0, 0)
    dark = probing.one_hot(rounds=ROUNDS)
    full = []
    for side in (1, 0):
        probing.show_half(side, top)
        full.append(probing.one_hot(rounds=ROUNDS) - dark)
    return Seen(dark, np.stack(full[::-1]), probing.slopes(rounds=ROUNDS))


def _living(probing: Probing, seen: Seen) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dead and weak drive channels. DeviceFault for too many, and for read channels that see no light."""
    n, name = probing.spec.n_channels, probing.electronics.name
    light = np.abs(seen.full).sum(axis=(0, 1))
    dead = np.flatnonzero(light < DEAD * np.median(light))
    if len(dead) > MOST_DEAD * n:
        raise DeviceFault(
            f"{len(dead)} of {n} drive channels give no light: {_some(dead)}; allowed: at most "
            f"{int(MOST_DEAD * n)}; are their cables plugged in?",
            device=name, operation="commission",
        )  # fmt: skip
    reads = np.abs(seen.full.sum(axis=2))  # [side, out]
    for side in (0, 1):
        blind = np.flatnonzero(reads[side] < DEAD * np.median(reads[side]))
        if len(blind):
            raise DeviceFault(
                f"read channel{'' if len(blind) == 1 else 's'} {_some(blind)} "
                f"{'sees' if len(blind) == 1 else 'see'} no light through the "
                f"{SIDES[side]} half of the panel; allowed: none; is the cable plugged in, or a detector "
                "dead?",
                device=name, operation="commission",
            )  # fmt: skip
    lives = np.setdiff1d(np.arange(n), dead)
    return dead, lives[light[lives] < WEAK * np.median(light)]


def _read_signs(probing: Probing, seen: Seen, lives: NDArray[np.int64]) -> FloatArray:
    left, right = np.sign(seen.full[:, :, lives].sum(axis=2))
    same = np.flatnonzero(left == right)
    if len(same):
        raise DeviceFault(
            f"both halves of the panel feed the {'positive' if left[same[0]] > 0 else 'negative'} detector "
            f"of read channel {_some(same)}; allowed: one half for each sign",
            device=probing.electronics.name, operation="commission",
        )  # fmt: skip
    return np.asarray(left)


def _places(
    probing: Probing, side: int, full: FloatArray, dark: FloatArray, read_sign: FloatArray,
    lives: NDArray[np.int64], pitch: tuple[float, float],
) -> tuple[Places, Places]:  # fmt: skip
    """Of every read channel along the panel's height, of every living drive channel along its width."""
    columns, shape = half(probing.panel, side), probing.panel.shape_px
    found = []
    for axis, extent in enumerate((shape[0], columns.stop - columns.start)):
        frames = code_frames(extent, pitch[axis])
        by_read, by_drive = [], []
        for lit in frames:
            frame = np.zeros(shape, np.uint16)
            frame[:, columns] = (lit[:, None] if axis == 0 else lit[None]) * (probing.panel.n_levels - 1)
            probing.show(frame)
            light = (1, -1)[side] * read_sign[:, None] * (probing.one_hot(rounds=ROUNDS) - dark)
            by_read.append(light[:, lives].sum(axis=1) / full[:, lives].sum(axis=1))
            by_drive.append(light[:, lives].sum(axis=0) / full[:, lives].sum(axis=0))
        found.append(
            [locate(np.array(seen), frames, pitch[axis], clearly=CLEARLY) for seen in (by_read, by_drive)]
        )
    (rows, turned), (_, places) = found
    _require_clear(probing, side, rows, turned, np.arange(len(full)), "read")
    _require_clear(probing, side, places, found[1][0], lives, "drive")
    return rows, places


def _require_clear(
    probing: Probing, side: int, places: Places, others: Places, channels: NDArray[np.int64], kind: str
) -> None:
    """DeviceFault where the panel is turned by a quarter, and where a place is not clear."""
    bad = (places.missed > FIT) | (places.next_best < places.missed + CLEARLY)
    if not bad.any():
        return
    if bad.mean() > 0.5 and np.median(others.missed) < FIT / 2:
        raise DeviceFault(
            "drive channels light rows of the panel and read channels see columns: its image is turned by a "
            "quarter against emitters and detectors; allowed: columns for emitters; turn the panel",
            device=probing.modulator.name, operation="commission",
        )  # fmt: skip
    worst = int(np.argmax(places.missed - places.next_best))
    raise DeviceFault(
        f"{kind} channel {channels[worst]} has no clear place on the {SIDES[side]} half: stripes fit the "
        f"best one within {places.missed[worst]:.2f} of its light, another one within "
        f"{places.next_best[worst]:.2f}; allowed: {FIT:g} or less, and {CLEARLY:g} less than any other "
        f"({int(bad.sum())} channels are so)",
        device=probing.modulator.name, operation="commission",
    )  # fmt: skip


def _ordered(
    probing: Probing, place_px: FloatArray, pitch: int, extent: int, kind: str, channels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Row or column [n] of each channel (-1: none). DeviceFault where both halves do not agree, or two
    channels stand at one place.
    """
    n = place_px.shape[1]
    apart = place_px[1, channels] - place_px[0, channels]
    apart = np.abs(apart - np.median(apart)) / pitch
    if apart.max() > SAME:
        raise DeviceFault(
            f"{kind} channel {channels[int(apart.argmax())]} stands {apart.max():.1f} cells apart on the two "
            f"halves of the panel; allowed: {SAME:g}; does one half hold another image?",
            device=probing.modulator.name, operation="commission",
        )  # fmt: skip
    found = indices(place_px[:, channels].mean(axis=0), pitch, n, extent)
    index = np.full(n, -1)
    index[channels] = found
    count = np.bincount(np.clip(found, 0, n), minlength=n + 1)
    twice = np.flatnonzero(count[:n] > 1)
    if len(twice) or count[n]:
        who = channels[found == (twice[0] if len(twice) else found.max())]
        what = f"stand at one place of the panel, {int(index[who[0]])}" if len(twice) else "stand beyond it"
        raise DeviceFault(
            f"{kind} channels {_some(who)} {what}; allowed: a place of its own for each",
            device=probing.modulator.name, operation="commission",
        )  # fmt: skip
    return index


def _grid(index: NDArray[np.int64], place_px: FloatArray) -> tuple[float, float]:
    """Place of cell 0, and from one to the next."""
    known = np.isfinite(place_px)
    step, first = np.polyfit(index[known], place_px[known], 1)
    return float(first), float(step)


def _some(channels: NDArray[np.int64]) -> str:
    return ", ".join(map(str, channels[:12])) + (" ..." if len(channels) > 12 else "")


def wiring_of(record: CalibrationRecord) -> tuple[Wiring, tuple[int, ...]]:
    """The wiring of a record, and the dead drive channels."""
    wiring = Wiring.of(record.arrays)
    if wiring is None:
        raise DeviceFault(
            f"record {record.kind!r} has no wiring", device=record.device_serial, operation="read"
        )
    return wiring, tuple(int(k) for k in np.flatnonzero(record.array("dead_channels")))


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    found, probing = find_wires(devices.get(WeightModulator), devices.get(LoopElectronics), tell)
    n = found.wiring.n_channels
    dead = np.zeros(n)
    dead[found.dead] = 1.0
    return Measured(
        kind=KIND,
        arrays={
            **found.wiring.arrays(),
            "dead_channels": dead,
            "row_px": found.row_px,
            "column_px": np.nan_to_num(found.column_px, nan=-1.0),
        },
        quantities=(
            Quantity("dead drive channels", float(len(found.dead)), 0.0, high=MOST_DEAD * n, words=f"of {n}"),
            Quantity("own weights", found.check.own, np.nan, low=Check.OWN,
                     words="least correlation of a row or column with what it was given"),
            Quantity("others' weights", found.check.other, np.nan, high=Check.OTHER,
                     words="largest correlation with what another was given"),
        ),
        settings={"frames": probing.used.frames, "probes": probing.used.probes,
                  "device_s": probing.used.modelled_s},
        findings=found.found,
    )  # fmt: skip


def _duration_s(devices: Devices) -> float:
    panel, loop = devices.get(WeightModulator).spec, devices.get(LoopElectronics).spec
    frames = 2 * sum(len(code_frames(size, size / loop.n_channels)) for size in (panel.shape_px[0],
                     panel.shape_px[1] // 2)) + 9  # fmt: skip
    probes = frames * ROUNDS * loop.n_channels
    return 1e-6 * (frames * panel.settle_time_us + probes * loop.window_us)


WIRING = Procedure(
    name="wiring", kind=KIND, title="wiring", needs=(), device=LoopElectronics,
    roles=(WeightModulator, LoopElectronics), validity_s=float("inf"),
    notices=("swapped, inverted or unplugged cables", "a panel that is turned over",
             "exchanged halves of a panel", "a panel turned by a quarter", "no light, or a blank panel",
             "a detector that sees no light"),
    duration_s=_duration_s, measure=_measure,
)  # fmt: skip
