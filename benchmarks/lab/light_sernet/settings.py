"""Training settings of Light-SERNet. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingSettings:
    """Published settings by default; `patience` is an addition.

    Attributes:
        epochs: maximum number.
        patience: epochs without improvement on validation speakers before training ends.
        batch_size: utterances per step.
        learning_rate: of the first `constant_epochs`.
        constant_epochs: epochs with the first rate.
        decay: afterwards the rate is multiplied by ``exp(-decay)``
        decay_epochs: every so many epochs.
        l2: weight of the squared weights in the loss.
        seed: of initialisation, order and dropout.
    """

    epochs: int = 300
    patience: int = 40
    batch_size: int = 32
    learning_rate: float = 1e-4
    constant_epochs: int = 50
    decay: float = 0.15
    decay_epochs: int = 20
    l2: float = 1e-6
    seed: int = 0

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0.

        >>> [f"{TrainingSettings().rate(epoch):.2e}" for epoch in (0, 49, 50, 69, 70)]
        ['1.00e-04', '1.00e-04', '8.61e-05', '8.61e-05', '7.41e-05']
        """
        steps = 0 if epoch < self.constant_epochs else (epoch - self.constant_epochs) // self.decay_epochs + 1
        return self.learning_rate * math.exp(-self.decay * steps)

    def facts(self) -> dict[str, Any]:
        """Return all settings but the seed, which is a separate field of records."""
        return {name: value for name, value in asdict(self).items() if name != "seed"}
