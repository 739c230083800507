"""Training recipes of the garments: `kind` is "autoencoder", "classifier" or "latent-denoiser".

They need the data set (`labctl data fetch fashion-mnist`); what they make is shipped in the zoo.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import labctl
from labctl.devices.errors import ConfigError
from labctl.models.autoencoder import (
    Autoencoder,
    AutoencoderSettings,
    load_autoencoder,
    save_autoencoder,
    train_autoencoder,
)
from labctl.models.checkpoint import (
    SUFFIX,
    DatasetCard,
    card_path,
    describe,
    save_network,
    source_commit,
)
from labctl.models.classifier import (
    Classifier,
    ClassifierSettings,
    agreement,
    load_classifier,
    save_classifier,
    train_classifier,
)
from labctl.models.datasets import Affine
from labctl.models.fetch import data_set, load
from labctl.models.garments import AUTOENCODER, CLASSIFIER, DATA_SET
from labctl.models.network import RowTableNetwork
from labctl.models.pictures import as_pictures
from labctl.models.points import PointTable
from labctl.models.reference import converged_samples, start_noise
from labctl.models.refit import quantise, refit_settings
from labctl.models.training import ProgressCallback, TrainSettings, train
from labctl.programs.codes import DEFAULT_BITS, MAX_BITS, MIN_BITS, ScaleRule
