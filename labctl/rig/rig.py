"""The composition root: a rig file becomes devices, a record and an engine; closing leaves them safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from labctl_calibration import (
    LightCalibration,
    calibrate_camera,
    calibrate_open_loop,
    calibrate_steady,
    nominal_panel_record,
    nominal_spot_record,
)
from labctl_calibration.bench import LOAD_PROBES, Bench
from labctl_calibration.nominal import SPOT_PITCH_PX
from labctl_calibration.oscillators.fitted import KINDS as BOARD_KINDS
from labctl_calibration.spots import KIND as SPOTS_KIND
from labctl_calibration.store import RecordStore, Stored
from labctl_drivers.link.watchdog import Ward, Watchdog

from labctl.devices import (
    CalibrationRecord,
    Camera,
    ConfigError,
    Device,
    Guard,
    Identity,
    InputDrive,
    LoopElectronics,
    LoopSpec,
    OscillatorBoard,
    Scalar,
    WeightModulator,
    in_safe_order,
)
from labctl.engines import (
    CameraReadout,
    DigitalEngine,
    OpticalHostLoopEngine,
    OpticalLoopEngine,
    OscillatorEngine,
    WeightPanel,
)
from labctl.programs import plane_durations_us
from labctl.rig.config import DeviceConfig, RigConfig, WorldConfig, load_rig
from labctl.rig.interlocks import Interlocks, overrides_of
from labctl.rig.served_world import ServedWorld
from labctl.rig.standing import Standing
from labctl.rig.table import DRIVERS, SCRAMBLE, WORLDS, load
from labctl.rig.trust import RECORDS, Trust
from labctl.rig.wiring import WiringConfig

if TYPE_CHECKING:
    from labctl.rig.fitted import AnyTwin

READOUTS = ("adc", "camera")
TYPICAL_EXPOSURES = 60  # of a settle: benchmarks/results/host_loop.md
AnyEngine = OpticalLoopEngine | OpticalHostLoopEngine | DigitalEngine
AnyDevice = TypeVar("AnyDevice", bound=Device)


class Rig:
    """One bench. Use as a context manager; `devices` are usable raw, `engine` runs programs.

    A twin's world is `world` (None on a real bench). `records` are a bring-up's: where they hold any of these
    devices, the engine works by the newest, or by those of `record_ids`, and `bench` is what they say;
    `standing` is what there is of them, `trust` what speaks against those in use. `overrides` are software
    limits and interlocks to let pass, or "records" that are out of their range, each "NAME: REASON". Where
    `compensated` is False, only the camera's read-out works by its record: where it has the spots is no
    property of a program.
    """

    def __init__(
        self,
        config: RigConfig,
        records: RecordStore | None = None,
        record_ids: tuple[str, ...] = (),
        *,
        compensated: bool = True,
        overrides: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.overrides = overrides_of(
            overrides, (*config.overridable, RECORDS), "software limit or interlock, nor records"
        )
        soft = {name: self.overrides[name] for name in config.limits.limited() if name in self.overrides}
        self._guard = Guard(config.limits, soft)
        self._watchdog: Watchdog | None = None
        self.records, self._asked_ids = records, record_ids
        self.compensated = compensated
        self.bench: Bench | None = None
        self.standing: Standing | None = None
        self.trust = Trust()
        self._spots: Stored | None = None
        self.devices: dict[str, Device] = {}
        self.interlocks = self._interlocks()
        self.identities: dict[str, Identity] = {}
        self.world: Any = None
        self._terms: dict[str, float] = {}
        self._engine: AnyEngine | None = None
        self._oscillators: OscillatorEngine | None = None
        self._light: LightCalibration | None = None
        self._board: dict[str, Stored] = {}

    @property
    def name(self) -> str:
        """The rig file's name."""
        return self.config.name

    @property
    def engine(self) -> AnyEngine:
        """The engine; ConfigError while the rig is closed, or where it is an oscillator board."""
        if self._engine is None:
            raise self._no_engine("" if self._oscillators is None else "oscillators")
        return self._engine

    @property
    def oscillators(self) -> OscillatorEngine:
        """The engine of a rig of law "oscillator"; ConfigError while it is closed, or on any other rig."""
        if self._oscillators is None:
            raise self._no_engine("" if self._engine is None else "engine")
        return self._oscillators

    def require_open(self) -> None:
        """ConfigError while the rig is closed."""
        if self._engine is None and self._oscillators is None:
            raise self._no_engine("")

    def require_trusted(self) -> None:
        """ConfigError, in words, where a record that the rig works by has values out of their range, or known
        answers were missed by what it says; an override of "records", with a reason, lets it pass.
        """
        if self.trust.wrong and RECORDS not in self.overrides:
            raise ConfigError(
                f"rig {self.name} works by records that are out of range: {'; '.join(self.trust.wrong)}; "
                f'allowed: calibrate it again, --override "{RECORDS}: REASON", or no compensation'
            )

    def _trust(self) -> Trust:
        if self.records is None or not self.compensated:
            return Trust()
        pair = None if self.standing is None else self.standing.pair
        used = (*self._board.values(), *(pair or ()))
        identities = {identity.serial: identity for identity in self.identities.values()}
        return Trust.of(self.records, used, identities, datetime.now(UTC))

    def _no_engine(self, instead: str) -> ConfigError:
        """Of the law asked for: the rig is closed, or it has the other's under the name `instead`."""
        if not instead:
            how = "not open; use `with open_rig(...) as rig:` or rig.open()"
            return ConfigError(f"rig {self.name} is {how}")
        law = self.config.law
        return ConfigError(
            f"rig {self.name} is of law {law!r}: use rig.{instead}, or a recipe of law {law!r}"
        )

    @property
    def loop_spec(self) -> LoopSpec | None:
        """The loop electronics' data sheet; None where the host computes."""
        for device in self.devices.values():
            if isinstance(device, LoopElectronics):
                return device.spec
        return None

    @property
    def simulated(self) -> bool:
        """Whether no real device takes part."""
        return all(identity.simulated for identity in self.identities.values())

    def build(self) -> Mapping[str, Device]:
        """Make the world and every device, unopened: nothing is talked to yet."""
        if not self.devices:
            world = self.config.world
            self.world = None if world is None else self._build_world(world)
            for device in self.config.device:
                try:
                    self.devices[device.name] = self._build_device(device)
                except ConfigError as error:
                    raise ConfigError(f"rig {self.name}: {error}") from None
            if self.config.limits.everything:
                for made in self.devices.values():
                    made.guard = self._guard
            self._wire()
            self.interlocks = self._interlocks()
        return self.devices

    def rewire(self, wiring: WiringConfig) -> None:
        """Channels stand there from now on: what is measured next goes by it. Programs go by it from the next
        opening on.
        """
        self.config = self.config.model_copy(update={"wiring": wiring})
        self._wire()

    def _wire(self) -> None:
        for made in self.devices.values():
            if isinstance(made, LoopElectronics):
                made.wiring = self.config.wired

    def open(self) -> Self:
        """Build and open every device, then the engine. What opened before a failure is closed again."""
        if self._engine is not None or self._oscillators is not None:
            return self
        try:
            devices = self.build()
            if isinstance(self.world, ServedWorld):
                self.world.open()
            self._terms = {} if self.world is None else dict(self.world.terms)
            self._start_watchdog()
            for name, device in devices.items():
                self.identities[name] = device.open()
            self.interlocks.check("on opening")
            if self.config.engine == "oscillator":
                self._oscillators = OscillatorEngine(self.device(OscillatorBoard), name=self.name)
                self._board = self._calibrated_board()
            else:
                self._engine = self._build_engine()
            self.trust = self._trust()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close every device: light first, then loop, then weights; each leaves its own safe state."""
        self._engine = self._oscillators = None
        self._board = {}
        problems = []
        for device in in_safe_order(self.devices.values()):
            try:
                self.devices.pop(device.name).close()
            except Exception as error:  # noqa: BLE001 - every device must get its chance to become safe
                problems.append(error)
        self.identities = {}
        if isinstance(self.world, ServedWorld):
            self.world.close()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.stop()
        if problems:
            raise problems[0]

    @property
    def passed(self) -> dict[str, str]:
        """What the overrides have let pass until now, in words by name."""
        limits = {name: f"up to {value:.4g}" for name, value in self._guard.passed.items()}
        return {**limits, **self.interlocks.passed}

    def _interlocks(self) -> Interlocks:
        names = {interlock.name for interlock in self.config.interlock}
        overridden = {name: why for name, why in self.overrides.items() if name in names}
        return Interlocks(self.config.interlock, self.devices, overridden, alive=self._watchdog_trouble)

    def _start_watchdog(self) -> None:
        """Over light, loop and weights on real wires; the twins of this process end with it."""
        wards = [
            Ward(device.name, DRIVERS[device.driver].target, device.address, device.settings)
            for device in self.config.device
            if DRIVERS[device.driver].world is None and self.devices[device.name].safe_stage != "other"
        ]
        if wards and self.config.watchdog:
            self._watchdog = Watchdog(wards)
            self._watchdog.start()

    def _watchdog_trouble(self) -> str:
        return "" if self._watchdog is None else self._watchdog.trouble

    def set_noise_scale(self, scale: float) -> None:
        """Scale a twin's noise (1 = the profile's). ConfigError on a bench whose noise is real."""
        if self.config.world is None or self.world is None:
            raise ConfigError(
                f"rig {self.name}: noise_scale is {scale}; allowed: 1, nothing here is simulated noise"
            )
        self.world.scale_noise(scale * self.config.world.noise_scale)

    def scale_faults(self, terms: Iterable[str], scale: float) -> None:
        """Scale these of a twin's faults against what its profile and rig file say of them (1 = as there).

        ConfigError on a bench whose faults are real, for a name that is no term, and beyond 4 times a draw.
        """
        if self.world is None:
            raise ConfigError(
                f"rig {self.name}: faults scaled by {scale:g}; allowed: 1, nothing here is simulated"
            )
        self.world.set_terms({term: scale * self._terms.get(term, 1.0) for term in terms})

    def draw_board(self, number: int) -> None:
        """Let a twin be this one of its population from now on; 0 is the one of the rig file.

        Its identity stays the one it was opened with. ConfigError on a bench that is no twin.
        """
        world = self.config.world
        if self.world is None or world is None:
            raise ConfigError(f"rig {self.name}: board is {number}; allowed: 0, nothing here is simulated")
        own = world.seed if world.unit_seed is None else world.unit_seed
        self.world.become(number or own)

    def check_readout(self, kind: str, exposure_us: float = 0.0) -> None:
        """Refuse a read-out that this rig, built or open, does not have: ConfigError with what it allows."""
        if kind not in READOUTS:
            raise ConfigError(f"readout is {kind!r}; allowed: {', '.join(READOUTS)}")
        hosted = self.config.engine == "optical-host-loop"  # reads by camera, whatever the recipe says
        if kind == "adc" and not hosted:
            if exposure_us:
                raise ConfigError(
                    f'exposure_us is {exposure_us:g}; readout "adc" allows 0 only: it exposes nothing'
                )
            return
        if self.config.engine == "digital" or not any(
            isinstance(device, Camera) for device in self.build().values()
        ):
            raise ConfigError(f'readout is "camera", and rig {self.name} has none; allowed: adc')
        if self.config.wiring is not None:
            raise ConfigError(
                f'readout is "camera", and rig {self.name} has a [wiring], which the camera does not go by; '
                "allowed: adc"
            )
        camera = self.device(Camera)
        low_us, high_us = camera.spec.exposure_range_us
        if exposure_us and not low_us <= exposure_us <= high_us:
            raise ConfigError(
                f"exposure_us is {exposure_us:g}; {camera.name} allows {low_us:g} to {high_us:g}, "
                "or 0 for as bright as is safe"
            )

    @property
    def record_ids(self) -> tuple[str, ...]:
        """The records that the engine, and the camera's read-out, work by."""
        if self._oscillators is not None and self._oscillators.compensated:
            return self.board_ids
        bench = () if self.bench is None else self.bench.record_ids
        return bench if self._spots is None else (*bench, self._spots.id)

    @property
    def board_records(self) -> dict[str, CalibrationRecord]:
        """What is known of the oscillator board, by kind: all that compensation needs, or nothing."""
        return {kind: stored.record for kind, stored in self._board.items()}

    @property
    def board_ids(self) -> tuple[str, ...]:
        """Of these records."""
        return tuple(stored.id for stored in self._board.values())

    @property
    def board_standing(self) -> str:
        """By which records programs of the oscillator board are compensated, in words; empty without any."""
        if not self._board or self.records is None:
            return ""
        when = max(record.taken_at for record in self.board_records.values())
        ids = ", ".join(name[:8] for name in self.board_ids)
        return (
            f"calibrated {when.replace('T', ' ').replace('+00:00', ' UTC')}, records {ids} in "
            f"{self.records.folder}: generators are compensated"
        )

    def _calibrated_board(self) -> dict[str, Stored]:
        """The newest records of the board, or those asked for; empty where one is missing."""
        if not self.compensated:
            return {}
        serial = self.identities[self.device(OscillatorBoard).name].serial
        found = {kind: self._stored(kind, serial) for kind in BOARD_KINDS}
        return {k: stored for k, stored in found.items() if stored is not None} if all(found.values()) else {}

    def fitted_twin(self, override: str = "") -> AnyTwin:
        """Today's machine as its records have it, to train through: `labctl.rig.fitted.fitted_twin`."""
        from labctl.rig.fitted import fitted_twin  # which imports this module

        return fitted_twin(self, override)

    @property
    def frame_us(self) -> float:
        """Modelled time to show another frame; 0 where nothing shows any."""
        panels = (device for device in self.devices.values() if isinstance(device, WeightModulator))
        return next((panel.spec.settle_time_us for panel in panels), 0.0)

    def settle_us(self, readout: str, exposure_us: float = 0.0) -> float:
        """Modelled device time from one settle to the next; 0 on the host. Where the host closes the loop, of
        a usual settle's exposures: how many it will be is known when the program is loaded.

        Where the camera's exposure is still to be chosen, the shortest is taken.
        """
        spec = self.loop_spec
        if self.config.engine == "optical-host-loop":
            camera = self.device(Camera).spec
            modulator, bits = self.device(WeightModulator).spec, self.config.pulse_bits
            repeat_us = modulator.repeat_us
            if self.config.weights == "pulse-width":
                repeat_us = float(plane_durations_us(modulator, bits).sum())
            exposed_us = exposure_us or max(camera.exposure_range_us[0], repeat_us)
            return TYPICAL_EXPOSURES * camera.period_us(exposed_us, 2 * SPOT_PITCH_PX)
        if spec is None:
            return 0.0
        if readout == "adc":
            return spec.wait_us + spec.window_us
        camera = self.device(Camera).spec
        exposed_us = exposure_us or camera.exposure_range_us[0]
        period_us = camera.period_us(exposed_us, 2 * SPOT_PITCH_PX)
        held_us = camera.delay_us + camera.jitter_us + exposed_us
        return max(spec.wait_us + max(spec.window_us, held_us), period_us)

    def set_readout(self, kind: str, exposure_us: float = 0.0) -> None:
        """Read states by "adc" or "camera" from the next program load on; 0 us chooses the exposure.

        ConfigError where this rig cannot.
        """
        self.check_readout(kind, exposure_us)
        engine = self.engine
        if isinstance(engine, OpticalLoopEngine):
            camera = self.device(Camera) if kind == "camera" else None
            engine.camera = None if camera is None else self._camera_readout(camera, exposure_us)
        if self._light is not None:
            self._light.exposure_us = exposure_us

    def readout_summary(self) -> dict[str, Scalar]:
        """What the run's record says of what the camera read; empty for the ADC's."""
        if isinstance(self.engine, OpticalHostLoopEngine):
            return self.engine.summary()
        camera = self.engine.camera if isinstance(self.engine, OpticalLoopEngine) else None
        return {} if camera is None else camera.summary()

    def _camera_readout(self, camera: Camera, exposure_us: float) -> CameraReadout:
        modulator, n = self.device(WeightModulator), self.config.n_channels
        panel_record = nominal_panel_record(modulator.spec, n, self.identities[modulator.name].serial)
        if self.bench is not None:
            panel_record = self.bench.panel
        serial = self.identities[camera.name].serial
        stored = self._spots = self._stored(SPOTS_KIND, serial)
        spots = nominal_spot_record(camera.spec, n, serial) if stored is None else stored.record

        def calibrate(electronics: LoopElectronics, camera: Camera, asked_us: float) -> CalibrationRecord:
            return calibrate_camera(
                modulator, electronics, camera, panel_record=panel_record, spots=spots, exposure_us=asked_us
            )

        return CameraReadout(camera, spots, calibrate, exposure_us=exposure_us)

    def snapshot(self) -> Mapping[str, Mapping[str, Scalar]]:
        """Every device's settings as read back."""
        return {name: device.snapshot() for name, device in self.devices.items()}

    def device(self, role: type[AnyDevice]) -> AnyDevice:
        """The first device of an interface (WeightModulator, InputDrive, LoopElectronics)."""
        for device in self.devices.values():
            if isinstance(device, role):
                return device
        raise ConfigError(f"rig {self.name} has no {role.__name__}")

    def _build_device(self, device: DeviceConfig) -> Device:
        entry = DRIVERS[device.driver]
        make = load(entry.target)
        on_wire = entry.world is None
        made = (
            make(device.name, device.address, **device.settings) if on_wire else make(device.name, self.world)
        )
        return cast(Device, made)

    def _build_world(self, world: WorldConfig) -> Any:
        if world.address:
            return ServedWorld(world)
        kind = WORLDS[world.kind]
        try:
            profile = load(kind.profiles).load(world.profile, dict(world.overrides))
            if self.config.law == "loop" and profile.n_channels != self.config.n_channels:
                raise ConfigError(
                    f"n_channels is {self.config.n_channels}, its profile has {profile.n_channels}"
                )
            scrambled = {} if world.scramble is None else load(SCRAMBLE)(profile, world.scramble)
            bench = load(kind.bench)(
                **{"profile": profile, **scrambled},
                seed=world.seed, noise_scale=world.noise_scale, unit_seed=world.unit_seed,
            )  # fmt: skip
            bench.advance(3.6e9 * world.started_h)
            bench.set_terms(world.terms)
            if world.fault is not None:
                bench.break_part(world.fault, world.fault_seed)
        except ConfigError as error:
            raise ConfigError(f"rig {self.name}: world: {error}") from None
        return bench

    def _build_engine(self) -> AnyEngine:
        if self.config.engine == "digital":
            return DigitalEngine(self.config.n_channels, tolerance=1e-8, name=self.name)
        if self.config.engine == "optical-host-loop":
            return self._host_loop()
        modulator, electronics = self.device(WeightModulator), self.device(LoopElectronics)
        serial = self.identities[modulator.name].serial
        record = nominal_panel_record(modulator.spec, self.config.n_channels, serial, self.config.wired)
        bench = self.bench = self._brought_up(modulator.name, electronics.name)
        if bench is None:
            return OpticalLoopEngine(modulator, electronics, record, calibrate_open_loop, name=self.name)
        engine = OpticalLoopEngine(modulator, electronics, bench.panel, calibrate_steady, name=self.name)
        engine.use_bench(bench.trims, partial(bench.map_of, probes=LOAD_PROBES))
        return engine

    def _stored(self, kind: str, serial: str) -> Stored | None:
        """A device's record: of those asked for by id, or the newest; None where there is none."""
        if self.records is None:
            return None
        if not self._asked_ids:
            return self.records.newest(kind, serial)
        asked = (self.records.get(name) for name in self._asked_ids)
        return next((one for one in asked if one.record.kind == kind), None)

    def _brought_up(self, modulator: str, electronics: str) -> Bench | None:
        """The newest records of these two devices, or those asked for; None where either has none."""
        if self.records is None:
            return None
        serials = (self.identities[name].serial for name in (modulator, electronics))
        self.standing = Standing.of(self.records, self._stored, *serials)
        if self.standing.pair is None or not self.compensated:
            return None
        panel, rows = self.standing.pair
        return Bench.of(panel.record, rows.record, (panel.id, rows.id))

    def _host_loop(self) -> OpticalHostLoopEngine:
        modulator, drive, camera = self.device(WeightModulator), self.device(InputDrive), self.device(Camera)
        serial = self.identities[modulator.name].serial
        record = nominal_panel_record(modulator.spec, self.config.n_channels, serial)
        self._light = LightCalibration()
        panel = WeightPanel(modulator, record, self.config.weights, self.config.pulse_bits)
        return OpticalHostLoopEngine(panel, drive, camera, self._light, name=self.name)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_rig(
    name_or_path: str | Path | RigConfig,
    *,
    records: str | Path | None = None,
    compensated: bool = True,
    overrides: Sequence[str] = (),
) -> Rig:
    """A rig, opened: a shipped name, a rig file or a configuration. Close it, or use `with`.

    records: folder of a bring-up's records, which the engine then works by; where not `compensated`, the
    camera's read-out alone. overrides: software limits and interlocks to let pass, each "NAME: REASON".
    """
    config = name_or_path if isinstance(name_or_path, RigConfig) else load_rig(name_or_path)
    store = None if records is None else RecordStore(records)
    return Rig(config, store, compensated=compensated, overrides=overrides).open()
