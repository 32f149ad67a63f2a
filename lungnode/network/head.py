"""The head: class maps from features, and the finding's logit from them.

An added 1x1 convolution turns features into one map per finding, whose mean is the logit: the map is the
class activation map and shows what each place added to the logit. With a lesion head, a second convolution
says of each place whether it shows a lesion, and the mean of its highest cells is added to the logit: a small
lesion counts as much in a large lung as in a small one. Its map is then the one that is shown.
"""

from typing import Any, Final

from keras import layers, ops

from lungnode.recipe import Network

HEAD: Final = "class_map"
LESION_HEAD: Final = "lesion_map"
HEADS: Final = (HEAD, LESION_HEAD)  # convolutions of the head; all others are the backbone's
CELL: Final = 32  # rows and columns of the input: the stride of stage 4
STRIDES: Final = (4, 8, 16, 32)  # of stages 1 to 4


def add_head(maps: list[Any], findings: int, network: Network) -> list[Any]:
    """Return class maps (n, rows, columns, findings) and logits (n, findings).

    Args:
        maps: Of each stage that is read; they are brought to the size of the first.
        findings: Number of class maps.
        network: Of the recipe.
    """
    features = layers.Dropout(network.dropout, name="dropout")(join_maps(maps))
    class_maps = layers.Conv2D(findings, 1, name=HEAD)(features)
    logits = layers.GlobalAveragePooling2D(name="logit")(class_maps)
    if not network.lesion_cells:
        return [class_maps, logits]
    lesion_maps = layers.Conv2D(findings, 1, name=LESION_HEAD)(features)
    highest = _mean_of_highest(pool_cells(lesion_maps, network), network.lesion_cells)
    return [lesion_maps, layers.Add(name="evidence")([logits, highest])]


def join_maps(maps: list[Any]) -> Any:
    """Join maps along the channels at the size of the first."""
    if len(maps) == 1:
        return maps[0]
    rows, columns = maps[0].shape[1:3]
    return layers.Concatenate()([layers.Resizing(rows, columns, interpolation="bilinear")(m) for m in maps])


def pool_cells(maps: Any, network: Network) -> Any:
    """Average maps of the first stage that is read over cells; cells at the border may be smaller."""
    side = CELL // STRIDES[network.stages[0] - 1]
    return layers.AveragePooling2D(side, padding="same", name=f"cells_{maps.shape[-1]}")(maps)


def _mean_of_highest(cells: Any, count: int) -> Any:
    rows, columns, findings = cells.shape[1:]
    values = layers.Permute((2, 1))(layers.Reshape((rows * columns, findings))(cells))
    return ops.mean(ops.top_k(values, count, sorted=False)[0], axis=-1)
