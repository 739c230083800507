"""Calibration records on disk: immutable, found by what is in them, never deleted unless asked."""

from labctl_calibration.store.about import About
from labctl_calibration.store.files import FORMATS, NAME_LENGTH, Stored
from labctl_calibration.store.record_store import RAW_POLICIES, DriftEvent, RawPolicy, RecordStore

__all__ = [
    "FORMATS",
    "NAME_LENGTH",
    "RAW_POLICIES",
    "About",
    "DriftEvent",
    "RawPolicy",
    "RecordStore",
    "Stored",
]
