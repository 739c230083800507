"""The host's part of an image: cables and commands, and the power it draws meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.energy.constants import Value


def cable_s(constants: Mapping[str, Value], n_bytes: Value, commands: float) -> Value:
    """Time on the cable: `commands` latencies, and the bytes at its rate."""
    return commands * constants["link_latency_s"] + n_bytes / constants["link_bytes_per_s"]


def host_j(constants: Mapping[str, Value], busy_s: Value) -> Value:
    """Energy of the host for the time it works for the machine."""
    return constants["p_host_w"] * busy_s


def behind_supply_j(constants: Mapping[str, Value], energy_j: Value) -> Value:
    """What a supply takes from the wall to deliver so much."""
    return energy_j / constants["supply_efficiency"]
