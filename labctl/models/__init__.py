"""Networks that fit the machine: data, training, re-fit, checkpoints, metrics."""
