"""Cameras of libraries that know a region, an exposure and images, under the standard's names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from labctl_drivers.genicam.features import Arrived, Refused, Value
from labctl_drivers.link import WireLog

Region = tuple[int, int, int, int]  # offset x, offset y, width, height, in pixels
REGION = ("OffsetX", "OffsetY", "Width", "Height")


class PlainFeatures(ABC):
    """A FeatureWire over such a library.

    facts: features that stay as they are. Images come as they are taken, and there is no trigger.
    """

    def __init__(
        self, facts: Mapping[str, Value], exposure_range_us: tuple[float, float], log: WireLog
    ) -> None:
        self._facts = {"AcquisitionMode": "Continuous", **facts}
        self._exposure_range_us = exposure_range_us
        self._log = log

    def has(self, name: str) -> bool:
        return name in self._facts or name in REGION or name == "ExposureTime"

    def get(self, name: str) -> Value:
        if name in REGION:
            return self._region()[REGION.index(name)]
        if name == "ExposureTime":
            return self._exposure_us()
        return self._facts[name]

    def put(self, name: str, value: Value) -> None:
        self._log.sent(f"{name}={value}".encode())
        if name in REGION:
            wanted = list(self._region())
            wanted[REGION.index(name)] = int(value)
            self._set_region((wanted[0], wanted[1], wanted[2], wanted[3]))
            if (got := self.get(name)) != value:
                raise Refused(f"{name} = {value} becomes {got}")
        elif name == "ExposureTime":
            self._set_exposure_us(float(value))
        elif self._facts.get(name) != value:
            raise Refused(f"{name} = {value}: this library cannot set it")

    def limits(self, name: str) -> tuple[float, float]:
        if name == "ExposureTime":
            return self._exposure_range_us
        raise Refused(f"{name} has no limits here")

    def entries(self, name: str) -> tuple[str, ...]:
        return (str(self._facts[name]),) if name in self._facts else ()

    def execute(self, name: str) -> None:
        raise Refused(f"{name}: this library has no such command")

    def enable_chunks(self, selectors: tuple[str, ...]) -> None:
        if selectors:
            raise Refused("nothing travels with an image")

    @abstractmethod
    def start(self, n: int) -> None: ...

    @abstractmethod
    def next(self, wait_s: float) -> Arrived | None: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _region(self) -> Region: ...

    @abstractmethod
    def _set_region(self, region: Region) -> None: ...

    @abstractmethod
    def _exposure_us(self) -> float: ...

    @abstractmethod
    def _set_exposure_us(self, exposure_us: float) -> None: ...


def exposure_range(
    known: tuple[float, float] | None, told: tuple[float, float] | None
) -> tuple[float, float]:
    """What the library knows, else what the rig file tells, in us; Refused where neither does."""
    found = known or told
    if found is None:
        raise Refused("the library does not say which exposures there are (settings: exposure_range_us)")
    return found
