"""What a watch knows, as records of the store: the reference and the baselines of its charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from labctl.devices import CalibrationRecord, Device
from labctl.version import __version__
from labctl_calibration.drift.look import HARMLESS, FloatArray, Learnt, Look, Prober, learnt_of
from labctl_calibration.store import About, RecordStore, Stored

REFERENCE, SERIES, DEVICE_US = "reference_", "series", "device_us"


def keep_baseline(
    store: RecordStore,
    kind: str,
    device: Device,
    looks: Sequence[Look],
    prober: Prober,
    *,
    rig: str = "",
    upstream: Sequence[str] = (),
) -> Stored:
    """Keep looks at a device in order as the baseline of a kind, resting on the records `upstream`."""
    names = looks[0].arrays
    reference = Look(
        {name: np.mean([look.arrays[name] for look in looks], axis=0) for name in names}, looks[0].device_us
    )
    values = np.stack([prober.reading(look, reference).values for look in looks])
    identity = device.open()
    record = CalibrationRecord(
        kind=kind,
        device_serial=identity.serial,
        taken_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        arrays={
            **{REFERENCE + name: np.asarray(array, np.float64) for name, array in reference.arrays.items()},
            SERIES: values,
            DEVICE_US: np.array([look.device_us for look in looks]),
        },
        settings={"probes": prober.title},
        upstream=tuple(upstream),
    )
    return store.get(store.put(record, About(rig=rig, identity=identity, code_version=__version__)))


def baseline_of(stored: Stored, prober: Prober, harmless: float = HARMLESS) -> Learnt | None:
    """Reference and baselines back; None where the record is of other probes than the prober's."""
    record = stored.record
    if record.settings.get("probes") != prober.title:
        return None
    arrays: dict[str, FloatArray] = {
        name.removeprefix(REFERENCE): values
        for name, values in record.arrays.items()
        if name.startswith(REFERENCE)
    }
    return learnt_of(prober, Look(arrays, prober.device_us), record.array(SERIES), harmless)
