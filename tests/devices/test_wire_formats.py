"""Records and SCPI messages as bytes: there and back without a bit lost, damage never taken for data."""

from __future__ import annotations

import numpy as np
import pytest
from decoder_cases import DAMAGE, everyday_and_slow, harmed
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labctl.devices import (
    BoardSpec,
    CameraSpec,
    ChainCodes,
    Converter,
    DriveReceipt,
    DriveSpec,
    GainScale,
    LinkSpec,
    LoopReadout,
    LoopSpec,
    SettleCodes,
)
from labctl.devices.values import Coercion
from labctl.devices.wire.records import RecordProblem, record_bytes, record_of
from labctl.devices.wire.scpi_records import CodeTable, Readings, joined_chain, split_chain
from labctl.devices.wire.scpi_syntax import (
    SyntaxProblem,
    block,
    message_length,
    missing_bytes,
    parts,
    payload_of,
)

LOOP = LoopSpec(
    3, Converter(14, 3.8), Converter(12, 3.8), Converter(8, 1.0), 8, GainScale(8, 5e-4, 1.0),
    GainScale(8, 0.02, 20.0), Converter(12, 9.7), 0.34, "tanh", (0, 2), 6.25, 40, 8.5, 0.75, 0.02, 64,
    LinkSpec(50.0, 100.0), None, 100.0,
)  # fmt: skip
FLOATS = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=5))
CODES = hnp.arrays(np.int64, hnp.array_shapes(max_dims=3, max_side=5))


@pytest.mark.parametrize(
    "spec",
    [
        LOOP,
        DriveSpec(4, 1001, 100.0, 50.0, 120.0),
        CameraSpec(
            (8, 9), 12, "global", (1.0, 1e5), (0.0, 24.0), 1e4, 0.6, 3.0, 5.0, 0.01, 1.5, 0.2, 10.0, 8, 64,
            LinkSpec(50.0, 100.0),
        ),
    ],
)  # fmt: skip
def test_a_data_sheet_comes_back_equal(spec) -> None:
    assert record_of(type(spec), record_bytes(spec)) == spec


@given(FLOATS, st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20))
def test_floats_come_back_bit_for_bit(values, number, text) -> None:
    receipt = DriveReceipt(values, (Coercion(text, number, -number, "mA", 3),))
    back = record_of(DriveReceipt, record_bytes(receipt))
    assert back.current_ma.tobytes() == values.tobytes()
    assert back.current_ma.shape == values.shape
    assert back.coercions == receipt.coercions


@given(CODES)
def test_codes_come_back_as_int64(codes) -> None:
    back = record_of(CodeTable, record_bytes(CodeTable(codes))).codes
    np.testing.assert_array_equal(back, codes)
    assert back.dtype == np.int64
    assert back.flags.writeable


def test_codes_travel_in_the_narrowest_integers() -> None:
    sizes = [len(record_bytes(CodeTable(np.full(1000, top)))) for top in (127, 128, 2**15, 2**31)]
    assert [round((size - sizes[0]) / 1000) for size in sizes] == [0, 1, 3, 7]


def test_a_readout_with_all_its_parts() -> None:
    rng = np.random.default_rng(0)
    readout = LoopReadout(
        rng.normal(size=(2, 3)), rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 3)),
        rng.integers(0, 2, (2, 3)).astype(bool), 8.5, 6.4, None, None,
    )  # fmt: skip
    back = record_of(LoopReadout, record_bytes(readout))
    assert back.adc_clipped.dtype == bool
    assert back.trace_counts is None
    np.testing.assert_array_equal(back.half_counts, readout.half_counts)


def test_a_chain_in_two_halves() -> None:
    rng = np.random.default_rng(0)
    fields = {name: rng.integers(0, 9, 4) for name in ChainCodes.__annotations__}
    fields["inject_add"] = None
    codes = ChainCodes(**fields)
    back = joined_chain(*split_chain(codes))
    for name in fields:
        np.testing.assert_array_equal(getattr(back, name), getattr(codes, name))


def test_scalars_keep_their_types() -> None:
    values = {"a_us": 1.0, "b": 2, "c": True, "d": "x"}
    back = record_of(Readings, record_bytes(Readings(values))).values
    assert {k: type(v) for k, v in back.items()} == {"a_us": float, "b": int, "c": bool, "d": str}


def _damaged_record(damage, noise) -> None:
    whole = record_bytes(CodeTable(np.arange(6)))
    for data in (harmed(whole, *damage), whole + noise, noise):
        if data != whole:
            with pytest.raises(RecordProblem):
                record_of(CodeTable, data)


test_damaged_records_are_refused, test_damaged_records_slow = everyday_and_slow(
    _damaged_record, DAMAGE, st.binary(max_size=64)
)


def test_a_record_of_something_else_is_refused() -> None:
    with pytest.raises(RecordProblem, match="no LoopSpec"):
        record_of(LoopSpec, record_bytes(CodeTable(np.arange(3))))
    with pytest.raises(RecordProblem, match="no CodeTable: an array of float64"):
        record_of(CodeTable, record_bytes({"codes": np.zeros(2)}))
    with pytest.raises(RecordProblem, match="no BoardSpec"):
        record_of(BoardSpec, record_bytes({}))


def test_settle_codes_keep_their_labels() -> None:
    table = np.zeros((2, 3), np.int64)
    codes = SettleCodes(table, table[:1], table[:1], table[0], table, 2**31 - 1, np.array([7, 2**32 - 1]))
    back = record_of(SettleCodes, record_bytes(codes))
    assert back.step_id == 2**31 - 1
    assert back.sample_id.tolist() == [7, 2**32 - 1]


# -- messages ---------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="ascii", exclude_characters="\"'#;,\n \t\r"), min_size=1, max_size=8)
ELEMENT = st.one_of(
    TEXT.map(str.encode),
    st.binary(max_size=40).map(block),
    TEXT.map(lambda text: f'"{text};,#9\n"'.encode()),
)


@given(st.lists(ELEMENT, min_size=1, max_size=5), st.sampled_from([b";", b","]), st.binary(max_size=10))
def test_parts_are_what_was_put_together(elements, separator, after) -> None:
    message = separator.join(elements) + b"\n"
    assert message_length(message + after) == len(message)
    assert parts(message, separator) == elements
    for cut in range(len(message)):
        assert message_length(message[:cut]) is None
        assert 1 <= missing_bytes(message[:cut]) <= len(message) - cut
    assert missing_bytes(message) == 0


def _any_bytes(data) -> None:
    for read in (message_length, missing_bytes, lambda d: parts(d, b";"), payload_of):
        try:
            read(data)
        except SyntaxProblem:
            continue


test_any_bytes_are_read_or_refused, test_any_bytes_slow = everyday_and_slow(
    _any_bytes, st.binary(max_size=100)
)


@given(st.binary(max_size=2000))
def test_a_block_carries_any_bytes(payload) -> None:
    assert payload_of(block(payload)) == payload


@pytest.mark.parametrize("wrong", [b"#0abc", b"#13ab", b"#13abcd", b"#1", b"#2x1a", b"abc", b"", b"#A1"])
def test_what_is_no_block_is_refused(wrong) -> None:
    with pytest.raises(SyntaxProblem):
        payload_of(wrong)


def test_numbers_in_other_bases_are_no_blocks() -> None:
    assert parts(b"#HFF,#B101,#Q17\n", b",") == [b"#HFF", b"#B101", b"#Q17"]
