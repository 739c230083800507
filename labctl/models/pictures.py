"""What the networks on pictures share: pictures as arrays, training by epochs, parameters in half precision.

A picture is float32 [28, 28] with 0 black and 1 white; a batch is [B, 28, 28]. Smaller ones say their side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from labctl.devices.errors import CheckpointError, DataError
from labctl.models.training import Progress, ProgressCallback

SIDE = 28
PIXELS = SIDE * SIDE
_CHUNK = 1000
_REPORT_EVERY = 50

Pictures = NDArray[np.float32]
Labels = NDArray[np.int64]


class EpochSettings(BaseModel):
    """How long and how fast a network on pictures trains: AdamW, warm-up, then a half cosine to zero."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=30, ge=1)
    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup: int = Field(default=300, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)


def as_pictures(pictures: ArrayLike, name: str = "pictures", side: int = SIDE) -> Pictures:
    """Pictures [B, side, side] as float32, bytes divided by 255. Raises DataError for anything else."""
    array = np.asarray(pictures)
    if array.ndim != 3 or array.shape[1:] != (side, side):
        raise DataError(f"{name}: shape {array.shape}; allowed: [B, {side}, {side}]")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255.0)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{name}: values are {array.dtype}; allowed: uint8, or floating point in 0..1")
    # Written so that NaN, which compares false with everything, is refused too.
    if array.size and not (array.min() >= 0.0 and array.max() <= 1.0):
        raise DataError(f"{name}: values from {array.min():g} to {array.max():g}; allowed: 0 to 1")
    return array.astype(np.float32)


def as_labels(labels: ArrayLike, count: int, n_classes: int, name: str = "labels") -> Labels:
    """`count` labels in 0 .. n_classes - 1 as int64; DataError for anything else."""
    array = np.asarray(labels)
    if array.shape != (count,):
        raise DataError(f"{name}: shape {array.shape}; allowed: ({count},)")
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{name}: values are {array.dtype}; allowed: whole numbers")
    if count and not 0 <= int(array.min()) <= int(array.max()) < n_classes:
        raise DataError(f"{name}: from {array.min()} to {array.max()}; allowed: 0 to {n_classes - 1}")
    return array.astype(np.int64)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function` over the rows of x without gradients, a thousand at a time, which bounds memory."""
    with torch.no_grad():
        parts = [function(part) for part in torch.split(x, _CHUNK)]
    return torch.cat(parts)


def train_by_epochs(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    settings: EpochSettings,
    *,
    generator: torch.Generator,
    progress: ProgressCallback | None = None,
) -> None:
    """Minimise `loss_of(rows)`, where rows int64 [batch] number the `count` examples, in random order.

    All randomness comes from `generator`: equal seeds give equal bits on the same build and thread count.
    """
    parameters = list(parameters)
    adam = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    batch = min(settings.batch, count)
    per_epoch = count // batch
    total, step = settings.epochs * per_epoch, 0
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=generator)
        for rows in torch.split(order[: per_epoch * batch], batch):
            rate = 0.5 * settings.learning_rate * (1.0 + math.cos(math.pi * step / total))
            for group in adam.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / (settings.warmup + 1))
            loss = loss_of(rows)
            adam.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            adam.step()
            step += 1
            if progress is not None and (step % _REPORT_EVERY == 0 or step == total):
                progress(Progress(step, total, (float(loss.detach()),)))


def seeded(module: nn.Module, generator: torch.Generator) -> None:
    """Draw initial weights from `generator`: Kaiming-uniform weights and zero biases, layer by layer."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            fan_in = layer.weight[0].numel()
            bound = math.sqrt(3.0 / fan_in)
            with torch.no_grad():
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()


def half_precision(module: nn.Module) -> dict[str, NDArray[Any]]:
    """The module's parameters as float16; the module is rounded to them too, so that both agree."""
    stored = {name: value.detach().numpy().astype(np.float16) for name, value in module.state_dict().items()}
    restore(module, stored, "module")
    return stored


def restore(module: nn.Module, tensors: dict[str, NDArray[Any]], where: str) -> None:
    """Load stored parameters, all of them and no others; CheckpointError names what does not fit."""
    wanted = module.state_dict()
    for name in sorted(wanted.keys() ^ tensors.keys()):
        raise CheckpointError(f"{where}: tensor {name} is {'missing' if name in wanted else 'superfluous'}")
    for name, value in tensors.items():
        if value.shape != tuple(wanted[name].shape):
            raise CheckpointError(
                f"{where}: tensor {name} has shape {value.shape}; allowed: {tuple(wanted[name].shape)}"
            )
        if not np.isfinite(value).all():
            raise CheckpointError(f"{where}: tensor {name} holds values that are not finite")
    module.load_state_dict({name: torch.as_tensor(v.astype(np.float32)) for name, v in tensors.items()})
