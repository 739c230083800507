"""Parser, error queue and status model, asked by pyvisa alone: a client that we did not write."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import pyvisa
from decoder_cases import everyday_and_slow
from hypothesis import strategies as st
from labctl_sim_devices.wires.scpi.headers import BadSuffix, HeaderTable

from labctl.devices.wire.records import record_of
from labctl.devices.wire.scpi_commands import COMMON, DRIVE, LOOP, OWN, PANEL, SYSTEM
from labctl.devices.wire.scpi_records import Readings
from labctl.devices.wire.scpi_syntax import block

MEDIA = pytest.mark.parametrize("medium", ["socket", "hislip"])
NO_ERROR = '0,"No error"'


@pytest.fixture(params=["socket", "hislip"])
def visa(request, served, bare):
    """pyvisa on a served twin of loop electronics."""
    return bare(served("electronics", request.param).address)


def ask(visa, question):
    return visa.query(question).strip()


def test_identity(visa):
    vendor, model, serial, firmware = ask(visa, "*IDN?").split(",")
    assert (vendor, model, firmware) == ("labctl", "simulated loop electronics", "1")
    assert serial.startswith("SIM-LOOP-")


@pytest.mark.parametrize(
    "spelling", ["SYSTem:ERRor:NEXT?", "SYST:ERR?", "system:error?", ":SyStEm:ERR:next?", "  syst:err?"]
)
def test_long_and_short_forms_and_optional_nodes(served, bare, spelling):
    assert ask(bare(served().address), spelling) == NO_ERROR


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ("SYSTE:ERR?", -113),  # neither long nor short
        ("NOBODY", -113),
        ("LOOP:WAIT", -109),
        ("LOOP:WAIT 1,2", -108),
        ("LOOP:WAIT ABC", -104),
        ("LOOP:WAIT 1US", -138),
        ("LOOP:WAIT -1", -222),
        ("LOOP:WAIT 1E400", -222),
        ("LOOP:TRAC MAYBE", -141),
        ("LOOP2:WAIT 1", -114),
        ("LOOP:SETT? #15abcde", -161),
        ("LOOP:SETT? 5", -161),
        ("LOOP:NULL #", -363),  # nobody can tell where such a message ends
        ("LOOP:CHA:RUN? #11x", -161),
        ("LOOP:TRAC:DATA?", -230),
    ],
)
def test_errors_have_their_numbers(served, bare, wrong, number):
    visa = bare(served().address)
    visa.write(wrong)
    assert ask(visa, "SYST:ERR?").split(",")[0] == str(number)
    assert ask(visa, "SYST:ERR?") == NO_ERROR


def test_paths_of_compound_messages(visa):
    """SCPI-99 volume 1, 6.2.4: relative to the last header, unless a colon leads; * leaves the path alone."""
    assert ask(visa, "LOOP:WAIT 7;WAIT?;*ESE 0;TRAC ON;TRAC?;:LOOP:WAIT 8.5;WAIT?") == "7.0;1;8.5"
    assert ask(visa, "LOOP:CHA:PROG?;PROG?;:SYST:ERR?;VERS?") == f"NONE;NONE;{NO_ERROR};1999.0"
    assert ask(visa, "LOOP:WAIT 7;SYST:ERR?;:SYST:ERR?").startswith('-113,"Undefined header;LOOP:SYST:ERR?"')


def test_an_error_leaves_the_rest_of_a_message(visa):
    assert ask(visa, "LOOP:WAIT 3;FOO;WAIT?;:SYST:ERR?") == '3.0;-113,"Undefined header;LOOP:FOO"'


def test_status_byte_and_events(visa):
    ask(visa, "*ESR?")  # 128: it was switched on
    visa.write("*CLS;*ESE 32;*SRE 36")
    assert ask(visa, "*STB?") == "0"
    visa.write("FOO")
    assert ask(visa, "*STB?") == str(4 + 32 + 64)
    assert ask(visa, "*ESR?;*ESR?") == "32;0"
    assert ask(visa, "*STB?") == str(4 + 64)
    visa.write("LOOP:WAIT -1;:LOOP:TRAC:DATA?")
    assert ask(visa, "*ESR?") == "16"
    visa.write("*OPC")
    assert ask(visa, "*ESR?;*OPC?;*STB?") == "1;1;84"  # an answer is waiting: 16
    visa.write("*CLS")
    assert ask(visa, "*STB?;SYST:ERR:COUN?") == "0;0"


def test_operation_register(visa, served):
    visa.write("STAT:OPER:ENAB 16")
    assert ask(visa, "STAT:OPER?;OPER:COND?;:STAT:OPER:ENAB?").startswith("0")
    visa.query_binary_values("SYST:SNAP?", datatype="B", container=bytes)
    assert ask(visa, "STAT:OPER?") == "0"  # a snapshot is no measurement
    visa.write("STAT:PRES")
    assert ask(visa, "STAT:OPER:ENAB?") == "0"


def test_the_error_queue_overflows_as_it_should(visa):
    for _ in range(40):
        visa.write("FOO")
    assert ask(visa, "SYST:ERR:COUN?") == "32"
    errors = re.findall(r'(-?\d+),"[^"]*"', ask(visa, "SYST:ERR:ALL?"))
    assert errors == ["-113"] * 31 + ["-350"]
    assert ask(visa, "SYST:ERR?") == NO_ERROR


def test_binary_blocks_by_pyvisa(visa):
    payload = visa.query_binary_values("SYST:SNAP?", datatype="B", container=bytes)
    assert record_of(Readings, payload).values == {"offset_null_rms_units": 0.0, "temperature_c": 25.0}


def test_hislip_status_and_clear(served, bare):
    one = served(medium="hislip")
    visa = bare(one.address)
    visa.write("*CLS;*SRE 4")
    assert visa.read_stb() == 0
    visa.write("FOO")
    ask(visa, "*OPC?")
    assert visa.read_stb() == 4 + 64
    visa.clear()  # with an answer waiting pyvisa-py 0.8.1 fails: the driver connects again then
    assert ask(visa, "SYST:ERR?").startswith("-113")


def test_hislip_large_messages_are_cut_and_joined(served, bare):
    visa = bare(served("panel", medium="hislip").address)
    visa.set_visa_attribute(pyvisa.constants.ResourceAttribute.tcpip_hislip_max_message_kb, 64)
    payload = visa.query_binary_values("PAN:FRAM?", datatype="B", container=bytes)
    assert len(payload) > 2_000_000


def test_latency_is_kept(served, bare):
    visa = bare(served(latency_s=0.2).address)
    began = time.monotonic()
    ask(visa, "*OPC?")
    assert time.monotonic() - began >= 0.2


def test_reset_leaves_it_safe(served, bare):
    one = served("drive")
    with one.driver as drive:
        drive.drive(np.full((1, 48), 100))
        assert one.bench.emitted_units.max() > 0
        visa = bare(one.address)
        visa.write("*RST")
        assert ask(visa, "*OPC?") == "1"  # on the same line: another may be served before
        assert one.bench.emitted_units.max() == 0


@pytest.mark.parametrize(
    ("kind", "table"), [("electronics", LOOP), ("drive", DRIVE), ("panel", PANEL)], ids=lambda v: str(v)[:6]
)
def test_the_tables_say_all_that_is_understood(served, kind, table):
    """Every header of the tables has a handler, and no handler is missing from them."""
    known = served(kind).face.instrument.headers
    assert known == {command.header for command in (*COMMON, *SYSTEM, *OWN, *table)}
    for command in table:
        assert command.header.endswith("?") == bool(command.gives)


def test_numeric_suffixes():
    table = HeaderTable({"CHANnel<n>:SCALe[:VALue]?": "scale", "OUTPut<n>[:STATe]": "output"})
    assert table.find("CHAN3:SCAL?").suffixes == (3,)
    assert table.find("channel12:scale:value?").suffixes == (12,)
    assert table.find("OUTP").suffixes == (1,)
    with pytest.raises(BadSuffix):
        table.find("CHAN3:SCAL2?")
    for wrong in ("CHAN:SCAL", "CHANN:SCAL?", "OUTP:STAT:ON", "", "CHAN3.5:SCAL?"):
        with pytest.raises(LookupError):
            table.find(wrong)
    with pytest.raises(ValueError, match="can be read as another header"):
        HeaderTable({"PANel:SHOW?": 1, "PANel:SHOWn?": 2})


@pytest.mark.dialogue("scpi.loop-electronics", source="docs/reference/scpi.md")
def _any_message(message):
    instrument = _instrument()
    instrument.answer(message.replace(b"*RST", b""))
    instrument.answer(b"*CLS")
    assert instrument.answer(b"*OPC?;:SYST:ERR?") == b'1;0,"No error"\n'


PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"LOOP:WAIT", b" ", b"?", b";", b":", b",", b"5", b"*", b"#", b'"', b"SYST:ERR?", b"\n",
                     b"LOOP:SETT? ", block(b"LCR1xxxxxxxx"), b"*ESR?", b"9e9"]),
)  # fmt: skip
test_no_bytes_bring_the_instrument_down, test_no_bytes_slow = everyday_and_slow(
    _any_message, st.lists(PIECES, max_size=12).map(b"".join)
)


def _instrument(made=[]):  # noqa: B006 - one for all cases
    import threading

    from labctl_sim_devices import ElectronicsTwin, OpticalBench, load_profile
    from labctl_sim_devices.wires.scpi.loop import ScpiLoopFace

    if not made:
        twin = ElectronicsTwin("electronics", OpticalBench(load_profile("adm")))
        made.append(ScpiLoopFace(twin, threading.RLock()).instrument)
    return made[0]


@MEDIA
def test_garbage_on_the_socket_does_not_end_the_instrument(served, bare, medium):
    import socket

    one = served(medium=medium)
    port = int(re.search(r"(\d+)::(SOCKET|INSTR)", one.address)[1])
    rng = np.random.default_rng(0)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.sendall(rng.bytes(200))
    visa = bare(one.address)
    visa.write("*CLS")
    assert ask(visa, "*OPC?") == "1"
