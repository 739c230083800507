"""The SCPI commands of labctl's own instruments, as tables: the open protocol that drivers speak.

Capitals are the short form; [:NODE] may be left out; a query ends in "?". `takes` and `gives` say what goes
and comes; a record is a block holding the named dataclass (`labctl.devices.wire.records`).
"""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL = (1, 0)  # major: not understood by older ones; minor: something was added


@dataclass(frozen=True)
class Command:
    """One header: what it takes, what it gives ("" where it is no query), what it does."""

    header: str
    takes: str
    gives: str
    does: str


COMMON: tuple[Command, ...] = (
    Command("*CLS", "", "", "clears event registers and the error queue"),
    Command("*ESE", "0 to 255", "", "which standard events set bit 5 of the status byte"),
    Command("*ESE?", "", "number", "that mask"),
    Command("*ESR?", "", "number", "standard events since the last *ESR?, which it clears"),
    Command("*IDN?", "", "vendor,model,serial,firmware", "identity; commas inside stand as semicolons"),
    Command("*OPC", "", "", "sets bit 0 of the standard events when all before it is done"),
    Command("*OPC?", "", "1", "answers when all before it is done"),
    Command("*RST", "", "", "safe state, settings as after switching on"),
    Command("*SRE", "0 to 255", "", "which bits of the status byte set its bit 6"),
    Command("*SRE?", "", "number", "that mask"),
    Command("*STB?", "", "number", "status byte: 4 errors queued, 16 answer waiting, 32 events, 64 summary"),
    Command("*TST?", "", "0 or 1", "self-test: 0 where the instrument answers for its settings"),
    Command("*WAI", "", "", "waits for all before it: always so, commands are sequential"),
)

SYSTEM: tuple[Command, ...] = (
    Command("SYSTem:ERRor[:NEXT]?", "", 'number,"text"', "oldest queued error, taken out; 0 where none is"),
    Command("SYSTem:ERRor:ALL?", "", 'number,"text",...', "all of them"),
    Command("SYSTem:ERRor:COUNt?", "", "number", "how many there are"),
    Command("SYSTem:VERSion?", "", "1999.0", "version of SCPI"),
    Command("STATus:OPERation[:EVENt]?", "", "number", "operation events, cleared: 16 a measurement ended"),
    Command("STATus:OPERation:CONDition?", "", "number", "operation now"),
    Command("STATus:OPERation:ENABle", "0 to 65535", "", "which of them set bit 7 of the status byte"),
    Command("STATus:OPERation:ENABle?", "", "number", "that mask"),
    Command("STATus:QUEStionable[:EVENt]?", "", "number", "doubtful events, cleared"),
    Command("STATus:QUEStionable:CONDition?", "", "number", "doubtful now"),
    Command("STATus:QUEStionable:ENABle", "0 to 65535", "", "which of them set bit 3 of the status byte"),
    Command("STATus:QUEStionable:ENABle?", "", "number", "that mask"),
    Command("STATus:PRESet", "", "", "clears both masks"),
)

OWN: tuple[Command, ...] = (
    Command(
        "SYSTem:DESCribe?",
        "",
        "record Description",
        "kind, protocol version, whether simulated, and the data sheet",
    ),
    Command("SYSTem:SNAPshot?", "", "record Readings", "settings and readings, keys with units"),
    Command("SYSTem:TEMPerature?", "", "number", "degrees Celsius"),
    Command("SYSTem:SAFE", "", "", "safe state; the next command takes it up again"),
    Command(
        "SYSTem:SEAL?",
        "tag: 0 to 4294967295",
        "tag,errors,crc",
        "the tag, how many errors are queued, and the CRC-32 (eight hexadecimal digits) of: this message up "
        "to its last semicolon, |, what was answered to it so far, |, tag,errors. It proves that question "
        "and answer belong together, unharmed",
    ),
)

LOOP: tuple[Command, ...] = (
    Command("LOOP:NULL", "record CodeTable", "", "detector offset null, set_offset_null"),
    Command(
        "LOOP:PROBe?",
        "PHI or EMITter, repeats, record CodeTable",
        "record ProbeReadout",
        "opens the loop, drives patterns, reads the detectors",
    ),
    Command("LOOP:WAIT", "us", "", "wait before the window of the next settles"),
    Command("LOOP:WAIT?", "", "us", "that wait"),
    Command("LOOP:TRACe", "ON or OFF", "", "whether the next settles keep what the ADC saw during the wait"),
    Command("LOOP:TRACe?", "", "0 or 1", "whether they do"),
    Command("LOOP:HOLD", "OFF, or hold us, period us", "", "camera trigger output of the next queues"),
    Command("LOOP:HOLD?", "", "OFF, or hold us,period us", "as it is set"),
    Command("LOOP:SETTle?", "record SettleCodes", "record LoopReadout", "runs a queue of settles"),
    Command("LOOP:TRACe:DATA?", "", "record Trace", "trace of the last queue"),
    Command("LOOP:CHAin:PROGram", "record ChainTables", "", "tables of the sequencer"),
    Command("LOOP:CHAin:PROGram?", "", "crc or NONE", "CRC-32 of the tables' record that it holds"),
    Command("LOOP:CHAin:RUN?", "record ChainQueue", "record ChainReadout", "runs samples through the tables"),
)

DRIVE: tuple[Command, ...] = (
    Command("DRIVe:HOLD", "OFF, or hold us, period us", "", "camera trigger output of the next queues"),
    Command("DRIVe:HOLD?", "", "OFF, or hold us,period us", "as it is set"),
    Command("DRIVe:PATTern?", "record DriveQueue", "record DriveReceipt", "drives a queue of patterns"),
)

PANEL: tuple[Command, ...] = (
    Command("PANel:SHOW?", "wait: ON or OFF, record Levels", "record ShowReceipt", "shows a frame"),
    Command(
        "PANel:SEQuence?", "wait: ON or OFF, record Planes", "record ShowReceipt", "shows planes, repeated"
    ),
    Command("PANel:FRAMe?", "", "record Levels", "the frame on display, read back"),
    Command("PANel:REPeat?", "", "us", "period of the light of what is on display"),
)

OPERATION_MEASURED = 16  # bit of the operation register: a measurement ended
