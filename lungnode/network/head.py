"""The head: class maps from features, and the finding's logit from them.

An added 1x1 convolution turns features into one map per finding, whose mean is the logit: the map is the
class activation map and shows what each place added to the logit. Two things can be added to the logit:

- the *spread*: a linear function of how much each feature varies over the map, which has no place;
- the *lesion head*: two convolutions say of each cell of the map, less the mean cell of this slice, whether
  it shows a lesion, a third one whether it is lung, for outside of it nothing is a lesion. The mean of the
  highest cells counts: a small lesion counts as much in a large lung as in a small one. The map that is
  shown is then that of the cells.
"""

from typing import Any, Final

from keras import layers, ops

from lungnode.recipe import Network

HEAD: Final = "class_map"
SPREAD: Final = "spread"
LESION_HIDDEN: Final = "lesion_hidden"
LESION_MAP: Final = "lesion_map"
LUNG_MAP: Final = "lung_map"
# All other convolutions are the backbone's.
HEADS: Final = (HEAD, SPREAD, LESION_HIDDEN, LESION_MAP, LUNG_MAP)
FEATURES: Final = "dropout"  # the layer whose input is the features
CELL: Final = 32  # rows and columns of the input: the stride of stage 4
STRIDES: Final = (4, 8, 16, 32)  # of stages 1 to 4
TINY: Final = 1e-6  # of a variance, whose root has no slope at 0


def add_head(maps: list[Any], findings: int, network: Network) -> list[Any]:
    """Return class maps (n, rows, columns, findings) and logits.

    Logits are (n, findings); with a lesion head (n, 2 * findings), its own part of each behind them.

    Args:
        maps: Of each stage that is read; they are brought to the size of the first.
        findings: Number of class maps.
        network: Of the recipe.
    """
    features = layers.Dropout(network.dropout, name=FEATURES)(join_maps(maps))
    class_maps = layers.Conv2D(findings, 1, name=HEAD)(features)
    logits = layers.GlobalAveragePooling2D(name="logit")(class_maps)
    if network.spread:
        weighed = layers.Conv2D(findings, 1, use_bias=False, name=SPREAD)(measure_spread(features))
        logits = layers.Add()([logits, layers.Flatten()(weighed)])
    if not network.lesion_cells:
        return [class_maps, logits]
    lesion_maps = find_lesions(pool_cells(features, network), findings, network)
    highest = mean_of_highest(lesion_maps, network.lesion_cells)
    return [lesion_maps, layers.Concatenate(name="evidence")([layers.Add()([logits, highest]), highest])]


def find_lesions(cells: Any, findings: int, network: Network) -> Any:
    """Return a map that is positive where lung shows a lesion, (n, rows, columns, findings)."""
    roots = ops.sqrt(cells)  # a few features that fire strongly would outshout the rest
    centred = layers.Subtract()([roots, layers.GlobalAveragePooling2D(keepdims=True)(roots)])
    hidden = layers.Conv2D(network.lesion_channels, 1, activation="relu", name=LESION_HIDDEN)(centred)
    lesions = layers.Conv2D(findings, 1, name=LESION_MAP)(hidden)
    lung = layers.Conv2D(1, 1, name=LUNG_MAP)(roots)
    return layers.Add()([lesions, ops.minimum(lung, 0.0)])


def join_maps(maps: list[Any]) -> Any:
    """Join maps along the channels at the size of the first."""
    if len(maps) == 1:
        return maps[0]
    rows, columns = maps[0].shape[1:3]
    return layers.Concatenate()([layers.Resizing(rows, columns, interpolation="bilinear")(m) for m in maps])


def measure_spread(features: Any) -> Any:
    """Return the standard deviation of each feature over the map, (n, 1, 1, channels)."""
    mean = layers.GlobalAveragePooling2D(keepdims=True)(features)
    square = ops.square(layers.Subtract()([features, mean]))
    return ops.sqrt(layers.GlobalAveragePooling2D(keepdims=True)(square) + TINY)


def pool_cells(features: Any, network: Network) -> Any:
    """Average features over cells of 32 x 32 pixels of the input; cells at the border may be smaller."""
    side = CELL // STRIDES[network.stages[0] - 1]
    return layers.AveragePooling2D(side, padding="same", name="cells")(features)


def mean_of_highest(cells: Any, count: int) -> Any:
    """Return the mean of so many of the highest cells of each finding, (n, findings)."""
    rows, columns, findings = cells.shape[1:]
    values = layers.Permute((2, 1))(layers.Reshape((rows * columns, findings))(cells))
    return ops.mean(ops.top_k(values, count, sorted=False)[0], axis=-1)
