"""Stream N images of a GigE Vision camera with Aravis and print what came, as JSON.

Runs under Debian's own Python (python3-gi, gir1.2-aravis-0.8), not under the project's:

    /usr/bin/python3 benchmarks/aravis_peer.py ADDRESS N '{"Width": 512}' [--no-resend] [--packet-size BYTES]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis  # noqa: E402

WAIT_US = 5_000_000
BUFFERS = 64
# By default Aravis gives a frame up early, or once it has asked for a quarter of its packets again. A server that a
# busy core stalls in the middle of a frame looks like that, and then a lost packet is not asked for.
RETENTION_US, REQUEST_RATIO = 1_000_000, 2.0


def put(camera, name, value):
    """A feature by its name, with the setter of the value's type."""
    if isinstance(value, str):
        camera.set_string(name, value)
    elif isinstance(value, float):
        camera.set_float(name, value)
    else:
        camera.set_integer(name, value)


def main():
    """Stream, count, print one line of JSON for whoever started this."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("frames", type=int)
    parser.add_argument("features", type=json.loads)
    parser.add_argument("--no-resend", action="store_true")
    parser.add_argument("--packet-size", type=int, default=1500)
    options = parser.parse_args()
    camera = Aravis.Camera.new(options.address)
    camera.gv_set_packet_size_adjustment(Aravis.GvPacketSizeAdjustment.NEVER)
    camera.gv_set_packet_size(options.packet_size)
    for name, value in options.features.items():
        put(camera, name, value)
    camera.set_string("AcquisitionMode", "Continuous")
    if "AcquisitionFrameRate" not in options.features:
        camera.set_string("AcquisitionMode", "MultiFrame")
        camera.set_integer("AcquisitionFrameCount", options.frames)
    stream = camera.create_stream(None, None)
    stream.set_property("frame-retention", RETENTION_US)
    stream.set_property("packet-request-ratio", REQUEST_RATIO)
    if options.no_resend:
        stream.set_property("packet-resend", Aravis.GvStreamPacketResend.NEVER)
    for _ in range(BUFFERS):
        stream.push_buffer(Aravis.Buffer.new_allocate(camera.get_payload()))
    camera.start_acquisition()
    begun, statuses, digest = time.monotonic(), {}, hashlib.sha256()
    for _ in range(options.frames):
        buffer = stream.timeout_pop_buffer(WAIT_US)
        if buffer is None:
            break
        status = buffer.get_status().value_nick
        statuses[status] = statuses.get(status, 0) + 1
        if status == "success":
            digest.update(buffer.get_data())
        stream.push_buffer(buffer)
    seconds = time.monotonic() - begun
    camera.stop_acquisition()
    print(
        json.dumps(
            {
                "statuses": statuses,
                "sha256": digest.hexdigest(),
                "seconds": seconds,
                "resent": stream.get_info_uint64_by_name("n_resent_packets"),
                "missing": stream.get_info_uint64_by_name("n_missing_packets"),
            }
        )
    )


if __name__ == "__main__":
    main()
