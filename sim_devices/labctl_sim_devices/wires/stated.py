"""What a driver does about each fault of each wire, as data: the page on wire faults, the tests and
`benchmarks/wire_faults.py` all read this table.

It begins with what holds for any wire (`faults.MISBEHAVIOURS`); a wire's row says only what is otherwise, and
which faults it cannot have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from labctl.devices import DeviceFault, DeviceTimeout, DeviceUnavailable, LimitExceeded
from labctl_sim_devices.wires.faults import MISBEHAVIOURS, Outcome

How = Literal["once", "lasting"]
HOWS: tuple[How, ...] = ("once", "lasting")
BOUND_S = 120.0  # a short day at a wire is over within, whatever the wire does
SAFE_S = 20.0  # from the end of the process that drives a bench to its safe state

# beyond the bytes of answers
EVENTS: dict[str, str] = {
    "believed": "a number that a limit rests on arrives as another one, plausible and wrong",
    "host-dies": "the process that drives the bench is killed",
}


@dataclass(frozen=True)
class WireStatement:
    """One wire: what it is, what is otherwise than for any wire, and why some faults do not exist on it.

    because: why it is otherwise, by fault; a fault that is otherwise without a word here needs none.
    believed: the dangerous number of fault "believed", and believed_once how the order ends once the true
    number came; unbelieved: why there is none. safe: the safe state in words. gone: what makes the first box
    safe by itself once another one is in its place ("": nothing that the twin has, it is out of reach).
    """

    about: str
    otherwise: Mapping[tuple[str, How], tuple[Outcome, ...]] = field(default_factory=dict)
    because: Mapping[str, str] = field(default_factory=dict)
    not_here: Mapping[str, str] = field(default_factory=dict)
    believed: str = ""
    believed_once: tuple[Outcome, ...] = ("answered",)
    unbelieved: str = ""
    safe: str = ""
    gone: str = ""

    def faults(self) -> tuple[str, ...]:
        """Those that this wire can have, in the table's order."""
        return tuple(f for f in MISBEHAVIOURS if f not in self.not_here)

    def stated(self, fault: str, how: How) -> tuple[Outcome, ...]:
        """How a day ends under this fault."""
        row = MISBEHAVIOURS[fault]
        return self.otherwise.get((fault, how), row.once if how == "once" else row.lasting)


_SEALED = "a data sheet whose full scale arrives 10 times smaller: patterns would be 10 times brighter"

WIRES: dict[str, WireStatement] = {
    "SCPI socket": WireStatement("sealed SCPI over TCP", believed=_SEALED, safe="no emitter is lit"),
    "SCPI HiSLIP": WireStatement("sealed SCPI over HiSLIP", believed=_SEALED, safe="no emitter is lit"),
    "serial board": WireStatement(
        "the oscillator board's protocol on a pseudo-terminal",
        otherwise={
            ("duplicate", "lasting"): ("answered",),
            ("truncated", "lasting"): ("answered", DeviceTimeout, DeviceFault),
            ("previous", "lasting"): ("answered", DeviceTimeout),
            ("garbage", "lasting"): ("answered",),
        },
        because={
            "duplicate": "answers bear the numbers of their questions",
            "truncated": "an answer that lacks only the zero at its end is whole, by its checksum, once the "
            "zero that begins the next one comes",
            "previous": "the question is repeated, and the answer before is the right one; each takes longer",
            "garbage": "every frame begins with a zero, which ends whatever came before",
        },
        believed="a temperature that arrives 40 °C too low: a board too hot would run",
        believed_once=(LimitExceeded,),
        safe="nothing is loaded: couplings and injections are off",
    ),
    "GigE control": WireStatement(
        "GVCP: a GigE Vision camera's registers, on UDP",
        otherwise={
            ("late", "lasting"): (DeviceUnavailable,),
            ("silent", "lasting"): (DeviceUnavailable,),
            ("duplicate", "lasting"): ("answered",),
            ("truncated", "lasting"): (DeviceFault,),
            ("garbage", "lasting"): ("answered", DeviceFault),
            ("previous", "lasting"): ("answered", DeviceUnavailable),
            ("empty-error", "once"): ("answered",),
        },
        because={
            "late": "the client asks again by itself, and says then that nobody is there",
            "silent": "as `late`",
            "duplicate": "answers bear the numbers of their questions",
            "garbage": "a packet too short for a header is taken for a damaged answer, another one is passed "
            "over",
            "previous": "the second answer to a question is right, after the client's time-out: an operation "
            "of many registers, opening above all, is not over in its time; to connect is one call of the "
            "client's, which nothing cuts, and takes most of a minute then",
            "empty-error": "a register is asked again where its answer was damaged or an error without a "
            "reason",
        },
        not_here={
            "corrupted": "the network's own checksums drop such a packet: it is lost",
            "old-firmware": "no camera's firmware is too old for the standard",
        },
        unbelieved="limits are on current, irradiance, temperature of the device commanded and mirrors: none "
        "rests on a number of a camera",
        safe="no acquisition runs",
        gone="its host's heartbeat ends: it stops by itself",
    ),
    "GigE stream": WireStatement(
        "GVSP: its images, on UDP; a frame that stays incomplete is counted and never used",
        otherwise={
            (fault, how): ("answered",)
            for fault in ("late", "silent", "duplicate", "truncated", "previous", "garbage")
            for how in HOWS
        },
        not_here={
            "corrupted": "the network's own checksums drop such a packet: it is lost",
            "disconnect": "a stream has no connection: what a pulled cable loses is `silent`",
            "busy": "nobody asks a stream anything",
            "empty-error": "nobody asks a stream anything",
            "other-box": "a stream says nothing of its sender: the control channel does",
            "old-firmware": "a stream says nothing of its sender: the control channel does",
        },
        unbelieved="as for GigE control: no limit rests on a picture",
    ),
    "display": WireStatement(
        "pixels of a screen, which a window's process draws",
        not_here=dict.fromkeys(MISBEHAVIOURS, "a display answers nothing"),
        unbelieved="a display answers nothing",
        safe="the screen is black",
    ),
}


def stated(wire: str, fault: str, how: How) -> tuple[Outcome, ...]:
    """How a day at a wire ends under a fault of either table."""
    if fault == "believed":
        row = WIRES[wire].believed_once
        return row if how == "once" else (DeviceFault, DeviceTimeout)
    if fault == "host-dies":
        return ("answered",)
    return WIRES[wire].stated(fault, how)


def words_of(outcomes: tuple[Outcome, ...]) -> tuple[str, ...]:
    """Their names."""
    return tuple(outcome if isinstance(outcome, str) else outcome.__name__ for outcome in outcomes)
