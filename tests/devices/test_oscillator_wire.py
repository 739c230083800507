"""The oscillator board's wire format: what is encoded comes back, what is harmed is refused."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from functools import lru_cache

import numpy as np
import pytest
from decoder_cases import DAMAGE, EVERYDAY, SLOW, everyday_and_slow, harmed
from hypothesis import given
from hypothesis import strategies as st
from labctl_sim_devices import OscillatorBench, OscillatorBoardTwin, load_oscillator_profile

from labctl.devices import BoardImage, FrequencyCount, Identity, Phases, RunCodes, grid
from labctl.devices.oscillator_wire import blocks, frames, messages
from labctl.devices.oscillator_wire.frames import FormatError, Frame, FrameReader

U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
REALS = st.floats(allow_nan=False, allow_infinity=False)
FRAMES = st.builds(Frame, U8, U8, U16, U32, st.binary(max_size=700))


# COBS and frames


@pytest.mark.parametrize(
    ("plain", "encoded"),
    [  # the examples of the COBS article in Wikipedia, "Encoding examples" (hex), the long runs cut to a rule
        ("00", "01 01"),
        ("00 00", "01 01 01"),
        ("00 11 00", "01 02 11 01"),
        ("11 22 00 33", "03 11 22 02 33"),
        ("11 22 33 44", "05 11 22 33 44"),
        ("11 00 00 00", "02 11 01 01 01"),
    ],
)
def test_cobs_encodes_the_published_examples(plain, encoded):
    assert frames.cobs_encode(bytes.fromhex(plain)) == bytes.fromhex(encoded)
    assert frames.cobs_decode(bytes.fromhex(encoded)) == bytes.fromhex(plain)


def test_long_runs_as_published():
    run = bytes(range(1, 255))
    assert frames.cobs_encode(run) == b"\xff" + run
    assert frames.cobs_encode(b"\0" + run) == b"\x01\xff" + run
    assert frames.cobs_encode(run + b"\xff") == b"\xff" + run + b"\x02\xff"
    assert frames.cobs_encode(run[1:] + b"\xff\0") == b"\xff" + run[1:] + b"\xff\x01\x01"
    assert frames.cobs_encode(run[2:] + b"\xff\0\x01") == b"\xfe" + run[2:] + b"\xff\x02\x01"


def _cobs_as_the_package(data):
    peer = pytest.importorskip("cobs.cobs", reason="the package cobs (extra: dev) is not installed")
    assert frames.cobs_encode(data) == peer.encode(data)
    assert frames.cobs_decode(peer.encode(data)) == data


COBS_DATA = st.lists(st.binary(max_size=40) | st.integers(250, 260).map(lambda n: b"\x07" * n)).map(b"".join)


@given(COBS_DATA)
@EVERYDAY
def test_cobs_as_an_implementation_of_others_does_it(data):
    _cobs_as_the_package(data)


@given(COBS_DATA)
@EVERYDAY
def test_cobs_leaves_no_zero_and_little_more(data):
    encoded = frames.cobs_encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + 1 + len(data) // 254
    assert frames.cobs_decode(encoded) == data


def _stream(sent, cuts):
    line = b"".join(frame.encode() for frame in sent)
    reader, got, at = FrameReader(), [], 0
    for cut in [*sorted(c % (len(line) + 1) for c in cuts), len(line)]:
        got += reader.feed(line[at:cut])
        at = cut
    assert got == sent
    assert (reader.accepted, reader.rejected) == (len(sent), 0)


test_a_stream_cut_anywhere_gives_its_frames, test_a_stream_cut_anywhere_slow = everyday_and_slow(
    _stream, st.lists(FRAMES, max_size=4), st.lists(st.integers(0, 4000), max_size=8)
)


def _harmed(frame, damage):
    """One fault between two good frames: both come through, the harmed one only if it is what was sent."""
    good = Frame(1, 2, 3, 4, b"good")
    reader = FrameReader()
    got = reader.feed(good.encode() + harmed(frame.encode(), *damage) + good.encode())
    assert got[0] == good
    assert got[-1] == good
    for one in got[1:-1]:
        assert one in (frame, good)


test_no_harmed_frame_is_accepted, test_no_harmed_frame_is_accepted_slow = everyday_and_slow(
    _harmed, FRAMES, DAMAGE
)


def _noise(pieces):
    reader = FrameReader()
    for piece in pieces:
        assert reader.feed(piece) == []
    good = Frame(1, 1, 1, 1, b"through")
    assert reader.feed(good.encode()) == [good]  # its leading zero ends whatever noise was there


test_noise_is_dropped_and_the_next_frame_comes_through, test_noise_is_dropped_slow = everyday_and_slow(
    _noise, st.lists(st.binary(max_size=300), max_size=6)
)


def test_an_endless_run_without_zero_is_not_kept():
    reader = FrameReader()
    for _ in range(100):
        assert reader.feed(b"\x55" * 1000) == []
    assert len(reader._held) <= frames.MAX_ENCODED
    good = Frame(1, 1, 1, 1)
    assert reader.feed(good.encode()) == [good]
    assert reader.rejected == 1


def test_a_frame_of_another_crc_or_too_short_is_refused():
    body = struct.pack("<BBHI", 1, 2, 3, 4)
    with pytest.raises(FormatError, match="the frame says"):
        Frame.decode(frames.cobs_encode(body + struct.pack("<I", zlib.crc32(body) ^ 1)))
    with pytest.raises(FormatError, match="allowed: 12 or more"):
        Frame.decode(frames.cobs_encode(b"short"))
    with pytest.raises(FormatError, match="payload has 8193 bytes"):
        Frame(1, 1, 1, 1, b"\1" * 8193).encode()
    with pytest.raises(FormatError, match="frame:"):
        Frame(1, 1, 65_536, 1).encode()


# Messages


def _fields(kind):
    chosen = {"B": U8, "H": U16, "I": U32, "d": REALS}
    parts = [chosen[letter] for letter in kind.LAYOUT[1:]]
    if kind.TAIL:
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
        parts.append(text if kind.TAIL == "text" else st.binary(max_size=60))
    return st.tuples(*parts).map(lambda values: kind(*values))


KINDS = sorted(
    {*messages.REQUESTS, *messages.REQUESTS.values(), messages.Busy, messages.Error},
    key=lambda kind: kind.__name__,
)


@given(st.sampled_from(KINDS).flatmap(_fields))
@EVERYDAY
def test_messages_come_back(message):
    assert messages.decode(type(message), message.encode()) == message


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_message_of_any_payload(kind):
    """As below, for every message by itself."""

    @given(st.binary(max_size=40) | _fields(kind).map(lambda message: message.encode()))
    @SLOW
    def any_payload(payload):
        _any_payload(kind, payload)

    any_payload()


def _any_payload(kind, payload):
    try:
        message = messages.decode(kind, payload)
    except FormatError:
        return
    assert message.encode() == payload  # whatever is accepted is what was said


test_any_payload_is_understood_or_refused, test_any_payload_slow = everyday_and_slow(
    _any_payload, st.sampled_from(KINDS), st.binary(max_size=40)
)


def test_every_request_has_an_answer_of_its_own_number():
    assert len({kind.KIND for kind in messages.REQUESTS}) == len(messages.REQUESTS)
    for request, answer in messages.REQUESTS.items():
        assert request.KIND < 0x7E
        assert answer is messages.Empty or answer.KIND == request.KIND | messages.ANSWER
        assert len(dataclasses.fields(request)) == len(request.LAYOUT) - 1 + bool(request.TAIL)


def test_a_field_that_does_not_fit_is_refused():
    with pytest.raises(FormatError, match=r"Begin: \[1, -1, 0\]"):
        messages.Begin(1, -1, 0).encode()
    with pytest.raises(FormatError, match="Write: 8197 bytes"):
        messages.Write(1, 0, bytes(8192)).encode()
    with pytest.raises(FormatError, match="finite"):
        messages.decode(messages.Warmth, struct.pack("<d", float("nan")))


# Blocks


@lru_cache(maxsize=8)
def _spec(name):
    bench = OscillatorBench(load_oscillator_profile(name, {"masked_edges": [[1, 0]]}), seed=1)
    with OscillatorBoardTwin("board", bench) as board:
        return board.spec


PROFILES = ("board50", "chip1ghz", "ideal")


@pytest.mark.parametrize("name", PROFILES)
def test_data_sheets_come_back_whole(name):
    spec = _spec(name)
    back = blocks.decode_spec(blocks.encode_spec(spec))
    assert back.topology.hash == spec.topology.hash
    assert (back.topology.kind, back.topology.n_hidden) == (spec.topology.kind, spec.topology.n_hidden)
    np.testing.assert_array_equal(back.topology.sites, spec.topology.sites)
    np.testing.assert_array_equal(back.usable, spec.usable)
    for field in dataclasses.fields(spec):
        if field.name not in ("topology", "usable"):
            assert getattr(back, field.name) == getattr(spec, field.name), field.name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"coupling_bits":4', b'"coupling_bits":0', "coupling_bits is 0; allowed: 1 to 32"),
        (b'"coupling_bits":4', b'"coupling_bits":"four"', "coupling_bits"),
        (b'"kind":"grid"', b'"kind":"ring"', "kind is 'ring'"),
        (b'"heard":[[', b'"heard":[[70,', "source is 70"),
        (b'"masked":[', b'"masked":[99999,', "masked is 99999"),
        (b'"tick_us":0.005', b'"tick_us":-1', "tick_us is -1"),
        (b'"depth":16', b'"deep":16', "depth"),
        (b"{", b"", "JSON"),
    ],
)
def test_a_data_sheet_that_makes_no_sense_is_refused(old, new, message):
    document = blocks.encode_spec(_spec("board50"))
    assert old in document
    with pytest.raises(FormatError, match=message):
        blocks.decode_spec(document.replace(old, new, 1))


@st.composite
def tables(draw):
    """Tables of codes of any width, in range."""
    rng = np.random.default_rng(draw(U32))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        bits, signed, count = draw(st.integers(2, 32)), draw(st.booleans()), draw(st.integers(0, 40))
        low = -(2 ** (bits - 1)) if signed else 0
        found.append((rng.integers(low, low + 2**bits, count), blocks.Packed((count,), bits, signed)))
    return found


def _tables(found):
    data = blocks.pack_codes([(codes, table.bits) for codes, table in found])
    assert len(data) == blocks.packed_bytes([table for _, table in found])
    back = blocks.unpack_codes("test", data, [table for _, table in found])
    for (codes, _), got in zip(found, back, strict=True):
        np.testing.assert_array_equal(got, codes)
    for wrong in (data + b"\0", data[:-1]):
        if wrong != data:
            with pytest.raises(FormatError, match="allowed"):
                blocks.unpack_codes("test", wrong, [table for _, table in found])


test_tables_of_any_width_come_back, test_tables_slow = everyday_and_slow(_tables, tables())


def test_more_codes_than_are_spread_at_once_come_back():
    codes = np.random.default_rng(0).integers(-8, 8, (3, 50_001))
    data = blocks.pack_codes([(codes, 4), (np.array([5]), 3)])
    back = blocks.unpack_codes("test", data, [blocks.Packed(codes.shape, 4, True), blocks.Packed((1,), 3)])
    np.testing.assert_array_equal(back[0], codes)
    assert back[1] == 5


def test_the_lowest_bit_comes_first():
    assert blocks.pack_codes([(np.array([1, -1, 2]), 4), (np.array([3]), 2)]) == bytes([0xF1, 0x32])
    with pytest.raises(FormatError, match="behind the last code"):
        blocks.unpack_codes("test", bytes([0xF1, 0x72]), [blocks.Packed((3,), 4), blocks.Packed((1,), 2)])


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("segments", [1, 4])
def test_images_come_back_in_the_bytes_of_the_data_sheet(name, segments):
    spec, rng = _spec(name), np.random.default_rng(segments)

    def codes(table):
        low = -(2 ** (table.bits - 1)) + 1 if table.signed else 0
        return rng.integers(low, 2 ** (table.bits - table.signed), table.shape)

    layout = blocks.image_tables(spec, segments)
    image = BoardImage(spec.topology.hash, **{field: codes(table) for field, table in layout.items()})
    data = blocks.encode_image(spec, image)
    assert len(data) == spec.image_bytes(segments)
    assert blocks.decode_image(spec, segments, data).crc == image.crc
    with pytest.raises(FormatError, match=r"segments; allowed: 1 to"):
        blocks.decode_image(spec, spec.depth + 1, data)
    with pytest.raises(FormatError, match="bytes of codes"):
        blocks.decode_image(spec, segments, data[:-1])


def test_one_bit_couplings_keep_their_zeros():
    spec = dataclasses.replace(_spec("board50"), coupling_bits=1)
    assert blocks.image_tables(spec, 1)["coupling"].bits == 2


QUEUES = (st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans(), U32, U32)


def _queue(drawn):
    batch, played, reads, anchored, started, step, seed = drawn
    spec, rng = _spec("board50"), np.random.default_rng(seed)
    top = spec.injection.max_code
    a, b = (rng.integers(-top, top + 1, (batch, spec.n)) if anchored else None for _ in range(2))
    start = rng.integers(0, spec.max_start_code + 1, (batch, spec.n)) if started else None
    sample_id, play = rng.integers(0, 2**32, batch), rng.integers(0, spec.depth, played)
    codes, ticks = RunCodes(sample_id, step, play, a, b, start), rng.integers(0, 2**40, reads)
    data = blocks.encode_queue(spec, codes, ticks)
    back = blocks.decode_queue(spec, data)
    for field in dataclasses.fields(codes):
        np.testing.assert_array_equal(getattr(back.codes, field.name), getattr(codes, field.name))
    np.testing.assert_array_equal(back.read_ticks, ticks)
    with pytest.raises(FormatError):
        blocks.decode_queue(spec, data[:-1])
    with pytest.raises(FormatError):
        blocks.decode_queue(spec, data + b"\1")


test_queues_come_back, test_queues_slow = everyday_and_slow(lambda *drawn: _queue(drawn), *QUEUES)


def _results(batch, reads, seed, temperature):
    spec, rng = _spec("board50"), np.random.default_rng(seed)
    ticks = np.sort(rng.integers(0, 2**30, reads))
    phases = Phases(
        rng.integers(0, spec.max_read_code + 1, (batch, reads, spec.n)), rng.random(batch) < 0.5,
        rng.random(batch) < 0.5, temperature, ticks * spec.tick_us, float(ticks[-1]) * spec.tick_us,
    )  # fmt: skip
    data = blocks.encode_phases(spec, phases)
    back = blocks.decode_phases(spec, data)
    for field in dataclasses.fields(phases):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(phases, field.name))
    counts = FrequencyCount(rng.integers(0, 2**50, spec.n), seed, abs(temperature))
    counted = blocks.decode_counts(spec, blocks.encode_counts(counts))
    np.testing.assert_array_equal(counted.counts, counts.counts)
    assert (counted.reference_count, counted.gate_us) == (counts.reference_count, counts.gate_us)
    trims = rng.integers(-(2**31), 2**31, spec.n)
    gate_us, back_trims = blocks.decode_gate(spec, blocks.encode_gate(temperature, trims))
    assert gate_us == temperature
    np.testing.assert_array_equal(back_trims, trims)


test_results_come_back, test_results_slow = everyday_and_slow(
    _results, st.integers(1, 5), st.integers(1, 3), U32, REALS
)


def _any_block(data):
    spec = _spec("board50")
    for decode in (blocks.decode_queue, blocks.decode_phases, blocks.decode_gate, blocks.decode_counts):
        try:
            decode(spec, data)
        except FormatError:
            continue
    for decode in (blocks.decode_spec, lambda d: blocks.decode_image(spec, 1, d)):
        with pytest.raises(FormatError):
            decode(data)


test_any_block_is_understood_or_refused, test_any_block_slow = everyday_and_slow(
    _any_block, st.binary(max_size=400)
)


def _any_text(text):
    for decode in (blocks.decode_identity, blocks.decode_settings):
        try:
            decode(text)
        except FormatError:
            continue


test_any_text_is_understood_or_refused, test_any_text_slow = everyday_and_slow(
    _any_text, st.text(max_size=60) | st.sampled_from(['{"vendor": 1}', "[" * 50_000, "1" * 5000])
)


def test_identities_and_settings_come_back():
    one = Identity("ours", "µboard", "7", "1.2", True)
    assert blocks.decode_identity(blocks.encode_identity(one)) == one
    assert blocks.decode_settings('{"a_us": 1.5, "b_count": 2, "c_name": "x"}') == {
        "a_us": 1.5, "b_count": 2, "c_name": "x",
    }  # fmt: skip
    for wrong in ('{"a": [1]}', '{"a": NaN}', "3", "{"):
        with pytest.raises(FormatError):
            blocks.decode_settings(wrong)
    with pytest.raises(FormatError, match="identity"):
        blocks.decode_identity('{"vendor": "ours"}')


def test_steps_beyond_32_bits_are_refused():
    spec = _spec("board50")
    codes = RunCodes(np.arange(1), 2**32, np.arange(1))
    with pytest.raises(FormatError, match="step_id is 4294967296; allowed: 0 to 4294967295"):
        blocks.encode_queue(spec, codes, np.arange(1))
    assert grid(2, 2, 1).n == 4
