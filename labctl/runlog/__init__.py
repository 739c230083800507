"""One NeXus HDF5 file per run: structure first, flushed after every step, whole before it gets its name.

Rooms above fill plain records; this room writes and reads them. It knows devices' value types and nothing
else of labctl.
"""

from labctl.runlog.catalogue import RunSummary, fresh_path, list_runs, summarise
from labctl.runlog.header import (
    DeviceRecord,
    Document,
    RunHeader,
    Timing,
    as_json_card,
    device_records,
    now_iso,
)
from labctl.runlog.panel_reader import LedgerTable, PanelReader
from labctl.runlog.panel_writer import PanelWriter
from labctl.runlog.provenance import software_versions
from labctl.runlog.reader import RunReader
from labctl.runlog.records import (
    ControlRecord,
    DataPlan,
    DeviceTime,
    DriftRecord,
    LayerSlice,
    MatrixRecord,
    OscillatorRecord,
    PanelPlan,
    ProgramRecord,
    RunPlan,
    ScanPlan,
    SegmentTables,
    StepLedger,
    StepRecord,
)
from labctl.runlog.recover import recover
from labctl.runlog.watch_tree import WatchLook
from labctl.runlog.writer import RunWriter

__all__ = [
    "ControlRecord",
    "DataPlan",
    "DeviceRecord",
    "DeviceTime",
    "Document",
    "DriftRecord",
    "LayerSlice",
    "LedgerTable",
    "MatrixRecord",
    "OscillatorRecord",
    "PanelPlan",
    "PanelReader",
    "PanelWriter",
    "ProgramRecord",
    "RunHeader",
    "RunPlan",
    "RunReader",
    "RunSummary",
    "RunWriter",
    "ScanPlan",
    "SegmentTables",
    "StepLedger",
    "StepRecord",
    "Timing",
    "WatchLook",
    "as_json_card",
    "device_records",
    "fresh_path",
    "list_runs",
    "now_iso",
    "recover",
    "software_versions",
    "summarise",
]
