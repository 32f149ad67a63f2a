"""What is learnt of an example, and how far the network is from it. Imports TensorFlow."""

from typing import Any, NamedTuple

import tensorflow as tf


class Targets(NamedTuple):
    """What is known of a batch."""

    positive: Any  # shape (n,), 0 or 1
    weight: Any  # shape (n,), of mean 1 over an epoch


def losses(class_maps: Any, logits: Any, targets: Targets) -> Any:
    """Return the loss of each example, shape (n,), its weight applied.

    Args:
        class_maps: Shape (n, rows, columns, findings); what the logits are made of.
        logits: Shape (n, findings).
        targets: What is true.
    """
    del class_maps  # slices are labelled, not places
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets.positive, logits[:, 0])
    return targets.weight * entropy
