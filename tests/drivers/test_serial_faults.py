"""A serial line that misbehaves, beyond the table of faults (`tests/link/test_fault_table.py`)."""

from __future__ import annotations

from fault_cases import BoardStand, play
from labctl_sim_devices.wires.faults import FaultLayer


def clock_after(layer):
    """The twin's clock at the end of a day."""
    stand = BoardStand(layer)
    with stand.driver:
        stand.work()
    stand.stop()
    return stand._twin._bench.now_us


def test_a_repeated_order_is_not_carried_out_twice():
    """The answer to every order is lost once: the twin's clock says that nothing ran twice."""
    right = clock_after(None)
    for seed in range(3):
        layer = FaultLayer("silent", seed=seed, within=24)
        assert clock_after(layer) == right
        assert layer.struck == 1


def test_errors_of_a_dead_line_are_time_outs_or_losses():
    assert play("serial board", "silent", "lasting", 0).outcome == "DeviceTimeout"
    assert play("serial board", "disconnect", "lasting", 0).outcome == "DeviceUnavailable"
