"""The head: class maps from features, and the finding's logit from its class map.

The added 1x1 convolution turns features into one map per finding; the logit is the map pooled, so the map is
the class activation map: it shows what each place added to the logit.
"""

from typing import Any, Final

from keras import layers

HEAD: Final = "class_map"
HEADS: Final = (HEAD,)  # convolutions of the head; all others are the backbone's


def add_head(maps: list[Any], findings: int, dropout: float) -> list[Any]:
    """Return class maps (n, rows, columns, findings) and logits (n, findings).

    Args:
        maps: Of each stage that is read; they are brought to the size of the first.
        findings: Number of class maps.
        dropout: Share of the features dropped in training.
    """
    features = layers.Dropout(dropout, name="dropout")(_hypercolumn(maps))
    class_maps = layers.Conv2D(findings, 1, name=HEAD)(features)
    return [class_maps, _pool(class_maps)]


def _pool(class_maps: Any) -> Any:
    """Return the logit of each class map: its mean."""
    return layers.GlobalAveragePooling2D(name="logit")(class_maps)


def _hypercolumn(maps: list[Any]) -> Any:
    """Join maps along the channels at the size of the first."""
    if len(maps) == 1:
        return maps[0]
    rows, columns = maps[0].shape[1:3]
    return layers.Concatenate()([layers.Resizing(rows, columns, interpolation="bilinear")(m) for m in maps])
