"""The fitted twin of an open rig, of the records whose agreement with it was measured, if that suffices."""

from __future__ import annotations

from datetime import UTC, datetime

from labctl_calibration.optical.agreement import KIND as LOOP_KIND
from labctl_calibration.optical.twin import FittedTwin
from labctl_calibration.oscillators.agreement import KIND as BOARD_KIND
from labctl_calibration.oscillators.twin import FittedBoardTwin
from labctl_calibration.planning import NEVER_PASSED

from labctl.devices import CalibrationMissing, ConfigError, LoopElectronics, OscillatorBoard, WeightModulator
from labctl.rig.calibrating import bench_of
from labctl.rig.rig import Rig
from labctl.rig.trust import RECORDS

AnyTwin = FittedTwin | FittedBoardTwin


def fitted_twin(rig: Rig, override: str = "") -> AnyTwin:
    """The twin of the records that the newest agreement rests on; their ids are in `record_ids`.

    CalibrationMissing where the rig was opened without records or its agreement was never measured,
    ConfigError where that is below its gate or not in order any more and no reason is given to go on
    (`override`, or the rig's of "records"; kept in the twin's `overridden`), and for rigs of which there is
    none.
    """
    rig.require_open()
    how = f"run labctl calibrate {rig.name}, and open the rig with records=FOLDER"
    if rig.records is None:
        raise CalibrationMissing(f"rig {rig.name} was opened without records: {how}")
    bench = bench_of(rig, rig.records)
    kind = next((kind for kind in (LOOP_KIND, BOARD_KIND) if kind in bench.by_kind), None)
    if kind is None:
        raise ConfigError(
            f"rig {rig.name} has no fitted twin; allowed: rigs with WeightModulator and LoopElectronics, or "
            "with OscillatorBoard"
        )
    standing = bench.standing(bench.by_kind[kind], datetime.now(UTC))
    stored = standing.stored
    if stored is None or standing.because_of(*NEVER_PASSED):
        raise CalibrationMissing(
            f"rig {rig.name}: the agreement of its fitted twin is not known: {standing.words}; {how}"
        )
    reason = override.strip() or rig.overrides.get(RECORDS, "")
    if not standing.in_order and not reason:
        raise ConfigError(
            f"rig {rig.name}: its fitted twin is not to be trusted: {standing.words}; allowed: a calibration "
            f'in order (labctl calibrate), rig.fitted_twin(override="REASON"), or the rig opened with the '
            f'override "{RECORDS}: REASON"'
        )
    below = [rig.records.get(name) for name in stored.record.upstream]
    records = {one.record.kind: one.record for one in below}
    ids = (*(one.id for one in below), stored.id)
    twin: AnyTwin
    if kind == LOOP_KIND:
        loop, panel = rig.device(LoopElectronics).spec, rig.device(WeightModulator).spec
        twin = FittedTwin(loop, panel, records, ids)
    else:
        twin = FittedBoardTwin(rig.device(OscillatorBoard).spec, records, ids)
    twin.overridden = "" if standing.in_order else reason
    return twin
