"""The thirty physical faults of an optical bench that a morning can name: words, evidence, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HEALTHY = "healthy"
PATHS = ("positive", "negative")
AXES = ("down the panel", "across the panel")
TURNS = ("upside down", "left for right", "both ways round")

Place = tuple[int, ...]


@dataclass(frozen=True)
class Fault:
    """words: what is wrong. seen: the evidence, of a fitted size and place. remedy: what a person does first.
    procedures: to be calibrated once that is done.
    """

    name: str
    words: str
    seen: Callable[[float, Place], str]
    remedy: str
    procedures: tuple[str, ...] = ()


def _percent(text: str) -> Callable[[float, Place], str]:
    return lambda size, place: text.format(*place, percent=f"{100 * abs(size):.0f}%")


def _plain(text: str) -> Callable[[float, Place], str]:
    return lambda size, place: text.format(*place, size=size, abs=abs(size))


def _of_path(text: str) -> Callable[[float, Place], str]:
    return lambda size, place: text.format(PATHS[place[0]], *place[1:], percent=f"{100 * abs(size):.0f}%")


# fmt: off
_TABLE = (
    Fault(HEALTHY, "nothing", _plain("every probe is within what a day does"), "nothing"),
    Fault("emitter-dead", "an emitter is dead",
          _percent("emitter {0} gives no light; the others do"),
          "check the plug and the solder joint of that emitter, then replace it", ("emitters", "weights")),
    Fault("emitter-dim", "an emitter is dim",
          _percent("emitter {0} gives {percent} less light than the others"),
          "clean its facet, measure its current; replace it if that is right", ("emitters", "weights")),
    Fault("supply-sag", "all emitters are dim: their supply has sagged",
          _percent("all light is down by {percent}, in every row and column alike"),
          "measure the emitters' supply under load; look for a loose lead", ("emitters", "weights")),
    Fault("drive-stuck", "a drive channel is stuck",
          _plain("emitter {0} does not follow its drive, and shines in the dark ({size:.2f} units)"),
          "replace the driver channel; until then unplug that emitter", ("emitters", "weights")),
    Fault("drives-swapped", "two drive cables are swapped",
          _plain("emitters {0} and {1} light each other's columns"),
          "exchange the two plugs at the driver", ("emitters",)),
    Fault("image-shifted", "the panel's image has moved",
          lambda size, place: f"every cell lies {abs(size):.2f} cells away, {AXES[place[0]]}",
          "tighten the mount of panel and relay, set it back, then register anew", ("registration",)),
    Fault("image-turned", "the panel's image has turned",
          _plain("cells are off in proportion to their distance from the middle: {abs:.0f} mrad"),
          "turn panel or relay back and tighten it, then register anew", ("registration",)),
    Fault("image-flipped", "the panel's image is turned over",
          lambda size, place: f"cells answer {TURNS[place[0]]}",
          "check scan direction and mirror setting of the panel's video, and how it is mounted",
          ("registration",)),
    Fault("defocused", "the panel is out of focus",
          _percent("each cell spills {percent} of its light into each neighbour, down and across alike"),
          "focus the relay again and lock it", ("registration", "levels")),
    Fault("panel-row-stuck", "a row of the panel's cells is stuck",
          _plain("cells of row {0} hold one level on both paths"),
          "reseat the panel's flat cable; if it stays, the line driver is gone: replace the panel",
          ("levels",)),
    Fault("panel-column-stuck", "a column of the panel's cells is stuck",
          lambda size, place: f"cells of column {place[1]} on the {PATHS[place[0]]} path hold one level",
          "reseat the panel's flat cable; if it stays, the column driver is gone: replace the panel",
          ("levels",)),
    Fault("level-table-wrong", "the panel runs on a wrong level table",
          _plain("half-bright cells are off by {size:+.2f} of themselves, bright ones are not"),
          "load the panel's own gamma table (look for a firmware or driver update)", ("levels",)),
    Fault("panel-flicker", "the panel flickers",
          _percent("all light swings by {percent} (rms) within milliseconds"),
          "check the panel's drive scheme and its supply; see that its video has the right rate",
          ("panel-timing",)),
    Fault("panel-slow", "the panel is slow: not settled when it is used",
          _percent("{percent} of a new frame's light is still missing after its settle time"),
          "let the panel warm up, check its heater; else wait longer after a frame", ("panel-timing",)),
    Fault("shutter-closed", "no light: a shutter or a lens cap is closed",
          _plain("no emitter is seen by any row; the electronics are well"),
          "open the shutter, take the cap off; see that the beam path is clear"),
    Fault("dust", "something lies in the light path: dust",
          _of_path("a patch of the {0} path around row {1}, column {2} is darker by up to {percent}"),
          "clean the panel's window and the lenses near it with dry air", ("levels", "weights")),
    Fault("ambient-light", "ambient light reaches the detectors",
          _plain("the dark level of all rows has moved together, by {size:+.2f} units in the middle"),
          "close the lid, cover the room's lamps and status lights", ("darks",)),
    Fault("detector-dead", "a photodiode is dead",
          lambda size, place: f"row {place[1]} sees nothing of the {PATHS[place[0]]} path",
          "check that photodiode's cable and its bond; replace it", ("weights",)),
    Fault("dark-current", "a photodiode's dark current has risen",
          _plain("row {0} reads {size:+.2f} units in the dark; the others do not"),
          "check that photodiode for heat and leakage; replace it if it goes on", ("darks",)),
    Fault("row-gain", "a row's amplifier has another gain",
          lambda size, place: f"row {place[0]} sees {100 * abs(size):.0f}% "
                              f"{'more' if size > 0 else 'less'} of every emitter",
          "check the feedback resistor of that row's amplifier", ("weights", "rows")),
    Fault("detectors-swapped", "two detector cables are swapped",
          _plain("rows {0} and {1} read each other's light"),
          "exchange the two plugs at the amplifiers", ("weights",)),
    Fault("crosstalk", "detectors see more of their neighbours",
          _percent("each row has {percent} more of the rows beside it"),
          "dry and clean the detector board, check its shield", ("crosstalk", "weights")),
    Fault("adc-offset", "the converters' zero has moved",
          _plain("all rows read {size:+.3f} units more, whatever the leak"),
          "look for a ground loop or a loose ground of the read-out board", ("loopback", "rows")),
    Fault("adc-stuck-bit", "a converter has a stuck bit",
          _plain("readings of row {0} jump by steps along a straight ramp ({abs:.2f} units rms)"),
          "reseat the read-out board; replace that row's converter", ("loopback",)),
    Fault("loop-gain", "the loop's gain has moved in all rows",
          lambda size, place: f"the closed loop of all rows has {100 * abs(size):.0f}% "
                              f"{'more' if size > 0 else 'less'} gain than its light explains",
          "measure the reference voltage of the gain converters", ("rows",)),
    Fault("row-slow", "a row's time constant has changed",
          _plain("row {0} settles slower than it did"),
          "check the integrator's capacitor of that row", ("row-dynamics", "settling")),
    Fault("mains-hum", "mains hum on the loop",
          _plain("all rows swing by {size:.3f} units with the mains"),
          "look for a broken shield or a new load on the same outlet", ("noise",)),
    Fault("row-noisy", "a row has become noisy",
          _plain("row {0} scatters more than it did, without light"),
          "check the supply and the amplifier of that row", ("noise",)),
    Fault("too-warm", "the bench is too warm",
          _plain("the electronics are {size:.0f} degrees warmer than they were"),
          "check fans and filters, then let the bench cool down", ("warm-up",)),
    Fault("reads-early", "the read-out comes too early",
          _plain("settle traces begin {size:.1f} us after the trigger says so"),
          "check polarity and cable of the trigger, and the sequencer's delay", ("settling",)),
)
# fmt: on
FAULTS: dict[str, Fault] = {one.name: one for one in _TABLE}  # health among them
NAMES = tuple(name for name in FAULTS if name != HEALTHY)
