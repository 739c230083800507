"""A panel and a camera as slmsuite's own classes have them, with the twins' bench behind."""

from __future__ import annotations

import time

from slmsuite.hardware.cameras.camera import Camera
from slmsuite.hardware.slms.slm import SLM


class BenchSLM(SLM):
    """An SLM whose frames the bench's panel shows; what it waits, the bench's clock goes on."""

    def __init__(self, twin):
        self.twin = twin
        twin.open()
        height, width = twin.spec.shape_px
        super().__init__(
            (width, height),
            bitdepth=(twin.spec.n_levels - 1).bit_length(),
            name=twin.open().serial,
            settle_time_s=1e-6 * twin.spec.settle_time_us,
            gpu=False,
        )

    def _set_phase_hw(self, display):
        self.twin.show(display, wait=False)

    def set_phase(self, phase, *, settle=None, **options):
        super().set_phase(phase, settle=False, **options)
        if settle:
            time.sleep(settle)
            self.twin._bench.advance(1e6 * settle)

    def close(self):
        self.twin.close()


class BenchCamera(Camera):
    """A camera that sees the bench's light, of its whole sensor or a window read by it."""

    def __init__(self, twin):
        self.twin = twin
        twin.open()
        height, width = twin.spec.shape_px
        low_us, high_us = twin.spec.exposure_range_us
        super().__init__(
            (width, height),
            bitdepth=twin.spec.bit_depth,
            name=twin.open().serial,
            exposure_bounds_s=(1e-6 * low_us, 1e-6 * high_us),
        )
        self._flush_iterations = 0  # an image is taken when it is asked for
        twin.close()  # that constructor has taken one to see what they are: begin anew
        twin.open()
        twin.configure({"BlackLevel": 0})  # slmsuite has no word for one

    def _get_exposure_hw(self):
        return 1e-6 * self.twin.settings.exposure_us

    def _set_exposure_hw(self, exposure_s):
        self.twin.configure({"ExposureTime": round(1e6 * exposure_s, 6)})

    def _set_woi_hw(self, woi):
        x, width, y, height = (int(value) for value in woi)
        self.twin.configure({"OffsetX": x, "Width": width, "OffsetY": y, "Height": height})

    def _get_woi_hw(self):
        s = self.twin.settings
        return s.offset_x_px, s.width_px, s.offset_y_px, s.height_px

    def _get_image_hw(self, timeout_s):
        del timeout_s
        time.sleep(1e-6 * self.twin.settings.exposure_us)
        return self.twin.acquire(1).counts[0]

    def close(self):
        self.twin.close()
