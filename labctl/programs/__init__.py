"""Programs: segments, codes and quantisers, placement of a network into W, encoding into light."""

from labctl.programs.area_encoding import EncodedPlanes, encode_planes, plane_durations_us
from labctl.programs.cell_map import CellMap
from labctl.programs.chain import ChainUpdate, encode_chain, injected, preset
from labctl.programs.code_search import search_codes
from labctl.programs.codes import CodedMatrix, encode, full_scale_code
from labctl.programs.encoded_frame import EncodedFrame
from labctl.programs.encoding import by_cell, encode_frame
from labctl.programs.measured_encoding import crosstalk
from labctl.programs.oscillator_program import (
    DEFAULT_EPS,
    NodeScales,
    OscillatorProgram,
    board_image,
    code_program,
    injection_codes,
)
from labctl.programs.pixel_maps import PIXEL_MAPS, pixels_of
from labctl.programs.placement import PlacedWeights, Placement, place
from labctl.programs.program import LoopProgram, LoopSegment, Settled
from labctl.programs.rounding import to_codes
from labctl.programs.tables import CodedTables, encode_tables
from labctl.programs.trims import RowTrims

__all__ = [
    "DEFAULT_EPS",
    "PIXEL_MAPS",
    "CellMap",
    "ChainUpdate",
    "CodedMatrix",
    "CodedTables",
    "EncodedFrame",
    "EncodedPlanes",
    "LoopProgram",
    "LoopSegment",
    "NodeScales",
    "OscillatorProgram",
    "PlacedWeights",
    "Placement",
    "RowTrims",
    "Settled",
    "board_image",
    "by_cell",
    "code_program",
    "crosstalk",
    "encode",
    "encode_chain",
    "encode_frame",
    "encode_planes",
    "encode_tables",
    "full_scale_code",
    "injected",
    "injection_codes",
    "pixels_of",
    "place",
    "plane_durations_us",
    "preset",
    "search_codes",
    "to_codes",
]
