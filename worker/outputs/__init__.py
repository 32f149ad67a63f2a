"""The objects that are sent of an analysis: report, heatmaps, parametric map. `compose` makes all of them."""
