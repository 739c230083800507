"""What the base of wired drivers promises, over real sockets and in real processes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from labctl_drivers.link import Deadline, WireLog
from labctl_drivers.link.identity import numbers_of
from labctl_drivers.link.ownership import ResourceLock, file_name
from labctl_sim_devices.wires.faults import FaultLayer
from lamp_driver import LampDriver
from lamp_server import LampServer

from labctl.devices import (
    ConfigError,
    DeviceFault,
    DeviceStateError,
    DeviceTimeout,
    DeviceUnavailable,
    DeviceValueError,
)

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
HERE = Path(__file__).parent


def eventually(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


# settings, addresses, deadlines


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"timeout_s": -1}, "device 'lamp': settings: timeout_s = -1: allowed: above 0 to 3600 s"),
        ({"timeout_s": math.inf}, "timeout_s = inf"),
        ({"attempts": 0}, "attempts = 0: allowed: 1 or more"),
        ({"timeot_s": 1}, "'timeot_s' is not known; did you mean 'timeout_s'?"),
    ],
)
def test_wrong_settings_are_named(settings, told) -> None:
    with pytest.raises(ConfigError) as caught:
        LampDriver("lamp", "127.0.0.1:1", **settings)
    assert told in str(caught.value)


def test_the_constructor_talks_to_nobody(lamp) -> None:
    made = lamp()
    time.sleep(0.05)
    assert made.server.asked == []
    assert not made.driver.is_open
    with pytest.raises(DeviceStateError):
        made.driver.temperature_c()


def test_nobody_there_is_said_at_once(lamp) -> None:
    made = lamp()
    made.server.stop()
    began = time.monotonic()
    with pytest.raises(DeviceUnavailable) as caught:
        made.driver.open()
    assert time.monotonic() - began < 0.5, "not waited for"
    assert made.server.address in str(caught.value)
    assert "refused" in str(caught.value)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_deadline_is_finite(seconds) -> None:
    with pytest.raises(ConfigError, match="allowed: finite and above 0"):
        Deadline.after(seconds)


def test_a_deadline_runs_out() -> None:
    deadline = Deadline.after(0.02)
    assert 0 < deadline.left_s <= 0.02
    assert not deadline.passed
    time.sleep(0.03)
    assert deadline.left_s == 0
    assert deadline.passed


def test_the_log_keeps_the_ends_of_what_passed() -> None:
    log = WireLog()
    log.sent(b"first")
    for _ in range(20):
        log.received(bytes(range(256)) * 40)
    log.sent(b"FETCH?\n")
    kept = log.last()
    assert b"first" not in kept
    assert kept.endswith(b"> FETCH?\n")
    assert b"[9984 bytes]" in kept
    assert len(kept) < 6000
    assert log.words().startswith(r"last sent b'FETCH?\n', last received b'\x00\x01")


def test_versions_are_compared_by_their_numbers() -> None:
    assert numbers_of("v1.12-rc3") == (1, 12)
    assert numbers_of("1.9") < numbers_of("1.12")
    assert numbers_of("none") == ()


# one owner


def test_threads_get_their_own_answers_in_turn(lamp) -> None:
    made = lamp()
    made.driver.open()
    made.server.delay_s = 0.001
    wrong: list[object] = []

    def use(temperature: bool) -> None:
        for _ in range(40):
            got = made.driver.temperature_c() if temperature else made.driver.snapshot()["total_current_ma"]
            if got != (25.25 if temperature else 0.0):
                wrong.append(got)

    threads = [threading.Thread(target=use, args=(i % 2 == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert made.server.asked.count("TEMP") == made.server.asked.count("TOTAL") == 80


def test_the_queue_is_served_in_order(lamp) -> None:
    made = lamp(timeout_s=2.0)
    made.driver.open()
    made.server.delay_s = 0.1
    done: list[int] = []

    def use(number: int) -> None:
        made.driver.drive([[number, 0, 0, 0]])
        done.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=use, args=(number,)))
        threads[-1].start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert done == [0, 1, 2, 3, 4]


def test_a_library_that_does_not_come_back_stops_nobody_else(lamp) -> None:
    """A call that ignores its deadline, as vendors' libraries may."""
    made = lamp(attempts=1, open_timeout_s=0.3)
    driver = made.driver
    driver.open()
    ended: list[BaseException] = []

    def stuck() -> None:
        try:
            driver._exchange("wait for ever", lambda wire, deadline: wire._socket.recv(1), once=True)
        except Exception as error:  # noqa: BLE001 - looked at below
            ended.append(error)

    thread = threading.Thread(target=stuck)
    driver._wire._socket.settimeout(None)
    thread.start()
    time.sleep(0.05)
    began = time.monotonic()
    with pytest.raises(DeviceTimeout, match="has not come back from 'wait for ever'"):
        driver._exchange("temperature_c", lambda wire, deadline: wire.ask("TEMP", deadline))
    assert time.monotonic() - began < 10
    thread.join(5)
    assert not thread.is_alive(), "its connection was taken from it"
    assert driver.temperature_c() == 25.25
    driver.close()
    assert "OFF" in made.server.asked


def test_a_second_driver_in_this_process_is_refused(lamp) -> None:
    made = lamp()
    made.driver.open()
    with pytest.raises(DeviceUnavailable) as caught:
        lamp.driver(made.server).open()
    assert f"in use by process {os.getpid()} (" in str(caught.value)
    made.driver.close()
    again = lamp.driver(made.server)
    again.open()
    assert again.temperature_c() == 25.25


def user(server: LampServer, end: str, environment) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "lamp_user.py"), server.address, end],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout.readline() == "driven\n"
    return process


def test_another_process_is_named_and_its_death_lets_go(lamp, environment) -> None:
    made = lamp(lock_wait_s=0.1)
    with user(made.server, "sleep", environment) as process:
        with pytest.raises(DeviceUnavailable) as caught:
            made.driver.open()
        told = str(caught.value)
        assert f"{made.server.address} is in use by process {process.pid} (" in told
        assert "lamp_user.py" in told
        assert f" since {time.gmtime().tm_year}-" in told
        process.kill()
        process.communicate()
    made.driver.open()
    assert made.driver.temperature_c() == 25.25


def test_a_lock_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceUnavailable, match=r"file.* cannot be locked"):
        ResourceLock("COM1", device="x", folder=tmp_path / "file" / "locks").acquire(Deadline.after(0.1))


def test_links_to_a_port_and_letter_case_are_one_lock(tmp_path) -> None:
    assert file_name("TCPIP0::Lab-3::5025::SOCKET") == file_name("tcpip0::lab-3::5025::socket ")
    assert file_name("COM1") != file_name("COM2")
    near, far = os.openpty()
    try:
        assert file_name(os.ttyname(far)) != file_name(os.ttyname(far) + "1")
        assert file_name(f"ASRL{os.ttyname(far)}::INSTR").startswith("ASRL-dev")
        assert file_name("/dev/stdin") == file_name(os.path.realpath("/dev/stdin"))
    finally:
        os.close(near)
        os.close(far)


# recovery


def test_after_a_replug_the_box_is_known_and_programmed_again(lamp) -> None:
    made = lamp()
    made.driver.open()
    made.server.unplug()
    assert made.server.unit == ""
    assert made.driver.temperature_c() == 25.25
    assert made.server.unit == "ma"
    assert made.server.asked.count("IDN") == 2


def test_a_cable_that_comes_back_in_time_is_waited_for(lamp) -> None:
    made = lamp(open_timeout_s=3.0)
    made.driver.open()
    address = made.server.address
    made.server.stop()
    came_back: list[LampServer] = []

    def plug_in() -> None:
        time.sleep(0.4)
        came_back.append(LampServer(port=int(address.rpartition(":")[2])))

    thread = threading.Thread(target=plug_in)
    thread.start()
    try:
        assert made.driver.temperature_c() == 25.25
        made.driver.close()
    finally:
        thread.join()
        came_back[0].stop()


def test_what_must_not_happen_twice_does_not(lamp) -> None:
    made = lamp(FaultLayer("silent", after=2, within=1))  # after identity and unit
    made.driver.open()
    with pytest.raises(DeviceTimeout, match=r"no answer within 0\.25 s"):
        made.driver.blink()
    assert made.server.blinks == 1
    assert made.driver.blink() == "2", "the wire is in order again"


def test_what_the_instrument_refuses_is_its_own_word(lamp) -> None:
    made = lamp()
    made.driver.open()
    with pytest.raises(DeviceFault, match="-113") as caught:
        made.driver._exchange("colour", lambda wire, deadline: wire.ask("COLOUR", deadline))
    assert b"COLOUR" in caught.value.wire
    assert made.server.asked.count("COLOUR") == 1
    with pytest.raises(DeviceValueError):
        made.driver.drive([[1001, 0, 0, 0]])


# closing


def test_close_leaves_it_safe_and_free(lamp) -> None:
    made = lamp()
    made.driver.open()
    made.driver.drive([[100, 100, 100, 100]])
    made.driver.close()
    made.driver.close()
    assert sum(made.server.current_ma) == 0
    assert made.server.asked[-1] == "OFF"


def test_close_after_an_exception_inside_an_exchange(lamp) -> None:
    made = lamp()

    def wrong(wire, deadline):
        wire.tell("TOTAL", deadline)  # and its answer is never read
        raise ZeroDivisionError

    made.driver.open()
    made.driver.drive([[100, 100, 100, 100]])
    with pytest.raises(ZeroDivisionError), made.driver as driver:
        driver._exchange("total", wrong)
    assert sum(made.server.current_ma) == 0


@posix
def test_an_exchange_that_ctrl_c_cuts_leaves_no_wrong_answer(lamp) -> None:
    made = lamp(timeout_s=2.0)
    made.driver.open()
    made.server.delay_s = 0.2
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        made.driver.snapshot()
    timer.join()
    assert made.driver.temperature_c() == 25.25
    made.driver.close()


@posix
def test_an_impatient_ctrl_c_does_not_leave_it_on(lamp) -> None:
    made = lamp(timeout_s=2.0)
    made.driver.open()
    made.driver.drive([[100, 100, 100, 100]])
    made.server.delay_s = 0.3
    timer = threading.Timer(0.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    asked = made.driver._make_safe

    def slow(wire, deadline):
        timer.start()
        wire.ask("HELLO", deadline)  # in which it comes
        asked(wire, deadline)

    made.driver._make_safe = slow
    with pytest.raises(KeyboardInterrupt) as caught:
        made.driver.close()
    assert caught.value.__notes__ == ["lamp: its safe state was commanded, without an answer"]
    assert eventually(lambda: sum(made.server.current_ma) == 0)
    assert not made.driver.is_open


@posix
def test_signals_mean_what_they_meant_before(lamp) -> None:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        one, other = lamp().driver, lamp().driver
        one.open()
        other.open()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        one.close()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        other.close()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        one.open()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        one.close()
    finally:
        signal.signal(signal.SIGTERM, before)


@posix
@pytest.mark.parametrize(
    ("end", "number", "code"),
    [
        ("return", None, 0),
        ("raise", None, 1),
        ("lose", None, 0),
        ("sleep", signal.SIGTERM, -signal.SIGTERM),
        pytest.param("busy", signal.SIGTERM, -signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("sleep", signal.SIGINT, -signal.SIGINT, marks=pytest.mark.slow),
        ("busy", signal.SIGINT, -signal.SIGINT),
        pytest.param("sleep", signal.SIGHUP, -signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_however_a_script_ends_the_lamp_goes_out(lamp, environment, end, number, code) -> None:
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this signal is ignored here (nohup), and so in what is started")
    made = lamp()
    with user(made.server, end, environment) as process:
        if number is not None:
            time.sleep(0.1)
            assert sum(made.server.current_ma) == pytest.approx(40)
            process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == code, told
    assert eventually(lambda: sum(made.server.current_ma) == 0)
    made.driver.open()  # and it is free


@posix
def test_a_killed_process_leaves_it_on(lamp, environment) -> None:
    """Which is what the watchdog is for."""
    made = lamp()
    with user(made.server, "sleep", environment) as process:
        process.kill()
        process.communicate()
    time.sleep(0.2)
    assert sum(made.server.current_ma) == pytest.approx(40)
