"""What a bring-up measured of the panel's half of a bench, as one immutable record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Wiring
from labctl_calibration.darks import Darks
from labctl_calibration.emitters import Emitters
from labctl_calibration.levels import Levels
from labctl_calibration.linearity import Linearity
from labctl_calibration.registration import Registration

KIND = "panel (measured)"


def panel_arrays(
    darks: Darks,
    linearity: Linearity,
    emitters: Emitters,
    registration: Registration,
    levels: Levels,
    wiring: Wiring | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Everything by name, as `encode_frame` reads it; sign paths in order (positive first).

    Swapped and mirrored planes are already in the paths' maps. `channel_order` [n] ranks the input channels,
    best first; `dead_channels` says 1 where one gives no light. `full_scale_units` is the light of the median
    live cell: what nearly every cell reaches is a third of that, and gains would have to make up for it
    beyond their range, noise with them. Programs put what matters on good channels; what weaker cells lack is
    in the map that compensation trains through. `reached_full_scale_units` is what nearly every cell reaches.

    All is by the panel's rows and columns, but for `channel_order` and `dead_channels`, which are programs'
    and so by channel; with a `wiring`, it stands beside them.
    """
    paths = registration.paths
    n = paths[0].cells.n
    dead = np.zeros(n)
    dead[emitters.dead] = 1.0
    order, dead_channels = emitters.order, dead
    if wiring is not None:
        order, dead_channels = wiring.channel_of_column[order], dead[wiring.column]
    return {
        "cell_px": np.array(paths[0].cells.pitch_px),
        "path_middle_px": np.stack([path.cells.middle_px for path in paths]),
        "path_affine": np.stack([path.cells.affine for path in paths]),
        "path_distortion_px": np.array([path.cells.distortion_px for path in paths]),
        "path_residual_px": np.array([path.residual_px for path in paths]),
        "point_spread_px": np.array([path.blur_px for path in paths]),
        "neighbour_share": np.stack([path.neighbour for path in paths]),
        "level_knots": levels.knots.astype(np.float64),
        "level_shape": levels.shape,
        "span_units": levels.span_units,
        "span_units_sd": levels.span_error,
        "zero_units": levels.zero_units,
        "full_scale_units": np.array([float(np.median(levels.span_units[:, :, dead == 0]))]),
        "reached_full_scale_units": np.array([levels.full_scale_units]),
        "reach_share": np.array([levels.reach]),
        "dark_units": darks.level_units,
        "window_noise_units": darks.noise_units,
        "compression_per_unit": linearity.compression,
        "emitter_slope_units": emitters.slope_units,
        "emitter_quadratic": emitters.quadratic,
        "emitter_cubic": emitters.cubic,
        "channel_order": order.astype(np.float64),
        "dead_channels": dead_channels,
        **({} if wiring is None else wiring.arrays()),
    }
