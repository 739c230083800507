"""`labctl align` in a real browser: what is drawn, what keys do, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from labctl_sim_devices import CameraTwin
from typer.testing import CliRunner

from labctl.cli import app
from labctl.devices import Camera
from labctl.rig import load_rig
from labctl.rig.rig import Rig

RED = "d[k] === 255 && d[k + 1] === 34 && d[k + 2] === 34"
CYAN = "d[k] < 100 && d[k + 1] > 190 && d[k + 2] > 210"
SCALE, MARGIN = 6, 4

COUNT = """(() => {{
  const c = document.getElementById("fold");
  const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  let found = 0;
  for (let k = 0; k < d.length; k += 4) if ({what}) found++;
  return found;
}})()"""
# centre of what has a colour inside a box of the canvas
MIDDLE = """(() => {{
  const c = document.getElementById("fold"), [x0, y0, w, h] = {box};
  const d = c.getContext("2d").getImageData(x0, y0, w, h).data;
  let n = 0, x = 0, y = 0;
  for (let j = 0; j < w * h; j++) {{
    const k = 4 * j;
    if ({what}) {{ n++; x += x0 + j % w + .5; y += y0 + Math.floor(j / w) + .5; }}
  }}
  return [n, x / n, y / n];
}})()"""


def count(browser, what):
    return browser.value(COUNT.format(what=what))


def number(browser, name):
    return browser.value(f"last.numbers.{name}")


def next_frames(browser, frames=2):
    """Wait until what is drawn was measured after now."""
    at = number(browser, "frame")
    browser.until(f"last.numbers.frame >= {at + frames}")


@pytest.fixture
def page(browser, aligning, tmp_path):
    process, address = aligning("optical-unit", "--out", tmp_path / "saved")
    browser.open(address)
    browser.until("document.body.dataset.frame > 1")
    return process


def true_centres():
    with Rig(load_rig("optical-unit")) as rig:
        camera = rig.device(Camera)
        assert isinstance(camera, CameraTwin)
        return np.stack([camera._sensor._y, camera._sensor._x], axis=1).reshape(2, 48, 2)


def test_what_is_drawn_and_what_keys_do(browser, page, tmp_path):
    assert browser.value("document.getElementById('rig').textContent") == "optical-unit"
    assert browser.value("document.getElementById('kind').textContent") == "simulated"
    assert number(browser, "spots_lit") == 96
    assert number(browser, "residual_px") < 0.15
    text = browser.value("document.getElementById('numbers').innerText")
    for words in ("exposure", "peak", "saturated", "spots lit", "off grid", "focus", "temperature", "jogged"):
        assert words in text
    assert browser.value("document.getElementById('keys').innerText").count("\n") >= 9

    # centroids are drawn where the twin's spots truly are, in the first and in the last row of the picture
    truth = true_centres()
    rows = browser.value("[0, 16, 32].map((k) => last.home[k])")
    tall = 2 * 12 + 2 * MARGIN
    for path, channel in ((0, 0), (1, 5), (0, 20), (1, 47)):
        row = channel // 16
        top, left = (round(v - 6) - MARGIN for v in rows[row])
        y, x = truth[path, channel]
        y0 = row * (tall * SCALE + 10)
        box = [round((x - left - 5) * SCALE), round(y0 + (y - top - 5) * SCALE), 10 * SCALE, 10 * SCALE]
        drawn, middle_x, middle_y = browser.value(MIDDLE.format(what=CYAN, box=box))
        assert drawn > 40
        assert abs(middle_x / SCALE + left - x) < 0.15
        assert abs((middle_y - y0) / SCALE + top - y) < 0.15

    # saturation is painted over the picture, and gone with less exposure
    assert count(browser, RED) == 0
    before_us = number(browser, "exposure_us")
    for _ in range(3):
        browser.press("+")
    browser.until(f"Math.abs(last.numbers.exposure_us - {before_us * 1.25**3}) < .01")
    assert number(browser, "saturated_px") > 20
    assert count(browser, RED) > 36 * 20
    assert "saturated" in browser.value("document.getElementById('said').textContent")
    for _ in range(3):
        browser.press("-")
    browser.until(f"Math.abs(last.numbers.exposure_us - {before_us}) < .01")
    assert count(browser, RED) == 0

    # a jog moves the grid, not the picture, by what it says
    amber = "Math.abs(d[k] - 190) < 70 && d[k + 1] > 90 && d[k + 1] < 190 && d[k + 2] < 110"
    strip = [0, 3 * SCALE, 6 * SCALE, 10 * SCALE]  # left edge of the first square
    _, edge, _ = browser.value(MIDDLE.format(what=amber, box=strip))
    browser.press("ArrowRight", shift=True)
    browser.until("last.numbers.grid_right_px === 1")
    browser.until("Math.abs(last.numbers.off_right_px + 1) < .05")
    _, moved, _ = browser.value(MIDDLE.format(what=amber, box=[strip[0] + SCALE, *strip[1:]]))
    assert moved - edge == pytest.approx(SCALE, abs=1.0)
    assert number(browser, "residual_px") == pytest.approx(np.sqrt(0.5), abs=0.05)
    browser.press("r")
    browser.until("last.numbers.grid_right_px === 0 && last.numbers.residual_px < .15")

    # the panel's frame moves by panel pixels, and the chessboard shows what that does
    browser.press("p")
    browser.until("last.pattern === 'cells' && last.numbers.contrast !== null")
    browser.press("t")
    next_frames(browser)
    there = number(browser, "contrast")
    for _ in range(2):
        browser.press("ArrowRight", shift=True)
    browser.until("last.numbers.panel_right_px === 8")
    next_frames(browser)
    assert abs(number(browser, "contrast") - there) > 0.1
    assert number(browser, "spots_lit") >= 48

    # frozen: nothing new; then a picture and its numbers are kept
    browser.press(" ")
    browser.until("last.frozen")
    frame = number(browser, "frame")
    browser.press("s")
    browser.until("document.getElementById('said').textContent.startsWith('saved ')")
    assert number(browser, "frame") == frame
    (picture,) = (tmp_path / "saved").glob("align-optical-unit-*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    kept = json.loads(picture.with_suffix(".json").read_text("utf-8"))
    assert kept["frame"] == frame
    assert kept["panel_right_px"] == 8
    assert {"exposure_us", "peak_percent", "dark_counts", "spot_width_px", "frame_hz"} <= kept.keys()
    browser.press(" ")
    browser.until(f"last.numbers.frame > {frame + 2}")

    browser.press("q")
    assert page.wait(20) == 0
    browser.until("document.getElementById('said').textContent.includes('has ended')")


@pytest.mark.slow  # a page and a browser of its own
def test_a_signal_ends_it_and_the_page_says_so(browser, page):
    page.send_signal(signal.SIGTERM)
    assert page.wait(20) == 143
    browser.until("document.getElementById('said').textContent.includes('has ended')")
    assert page.stderr.read().splitlines()[-1].startswith("stopped")


def test_only_this_machines_own_page_is_answered(aligning):
    process, address = aligning("optical-twin")
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        request = urllib.request.Request(address + "key", data=b"q", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(address + "next?after=x", timeout=10)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address + "etc/passwd", timeout=10)
    assert process.poll() is None
    urllib.request.urlopen(urllib.request.Request(address + "key", data=b"q"), timeout=10)
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digital"], "rig digital has no Camera"),
        (["optical-twin", "--out", "file"], "file: is a file; allowed: a folder"),
        (["optical-twin", "--port", "70000"], "--port"),
        (["no-such-rig"], "no-such-rig"),
    ],
)
def test_what_cannot_be_aligned_is_one_error(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    ended = CliRunner().invoke(app, ["align", *arguments, "--no-browser"])
    assert ended.exit_code == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_one_error():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = CliRunner().invoke(app, ["align", "optical-twin", "--no-browser", "--port", str(port)])
    assert ended.exit_code == 2
    assert f"--port is {port}: Address already in use; allowed" in ended.stderr
