"""True FID, where the user has the network it is defined by.

FID is the Frechet distance in the features of one network: the Inception of 2015 in its original weights. It
is in no package, so labctl has none: give the TorchScript file `inception-2015-12-05.pt` that is commonly
used, whose call takes bytes [B, 3, H, W] and gives, with `return_features=True`, features [B, 2048]. The
arithmetic is tested with a stand-in; nobody here has run the real file. A recipe names it: `--set
inception=PATH` puts the metric FID beside FD*; nothing else is ever called FID.

A TorchScript file is a program: take it from where you trust it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike

from labctl.devices.errors import DataError
from labctl.models.picture_metrics import FeatureMoments, FloatArray, frechet_distance
from labctl.models.pictures import as_pictures

FEATURES: Final = 2048
_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Inception:
    """The user's network; make it with `load_inception`."""

    network: Any
    path: Path

    def features(self, pictures: ArrayLike) -> FloatArray:
        """Features float64 [B, 2048] of grey pictures [B, 28, 28] (uint8, or 0..1), the same in each colour.

        Raises DataError where the network gives anything else.
        """
        grey = torch.as_tensor(np.rint(as_pictures(pictures) * 255).astype(np.uint8))
        parts = [np.empty((0, FEATURES))]
        for part in torch.split(grey, _CHUNK):
            colour = part[:, None].repeat(1, 3, 1, 1)
            try:
                with torch.no_grad():
                    found = self.network(colour, return_features=True)
            except (RuntimeError, TypeError) as error:
                said = str(error).strip().splitlines()[-1]
                raise DataError(f"{self.path}: does not run on bytes [B, 3, H, W] ({said})") from error
            if not isinstance(found, torch.Tensor) or found.shape != (len(part), FEATURES):
                shape = tuple(getattr(found, "shape", ()))
                raise DataError(f"{self.path}: gives {shape}; allowed: ({len(part)}, {FEATURES})")
            parts.append(found.double().numpy())
        return np.concatenate(parts)

    def fid(self, pictures: ArrayLike, real: ArrayLike) -> float:
        """FID between two sets of pictures, each [B, 28, 28]."""
        moments = [FeatureMoments.of(self.features(shown)) for shown in (pictures, real)]
        return frechet_distance(*moments)


def load_inception(weights: Path | str) -> Inception:
    """The network from its TorchScript file. Raises DataError when the file is absent or another thing."""
    path = Path(weights)
    if not path.is_file():
        raise DataError(
            f"{path}: is not there; true FID needs the TorchScript file inception-2015-12-05.pt, which is "
            "not shipped (FD* needs nothing)"
        )
    try:
        with warnings.catch_warnings():  # newer torch prefers another form, but the file is what it is
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: not a TorchScript file ({said})") from error
    return Inception(network, path)
