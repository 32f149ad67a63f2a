"""Lung coverage against marks made by eye, phantoms whose truth is known, and bodies that are no chest."""

from typing import Final

# Written down on contact sheets (lung window, sorted top to bottom, 400 pixels a slice) before any coverage code
# was run on these studies: first and last slice, counted from 0, on which lung is seen, partial volume included.
EYE_MARKS: Final = {
    "covid-P001": (9, 147),  # left apex just appears on 9; the study ends (147) inside both recesses
    "normal-001": (8, 141),  # left apex just appears on 8; a last sliver of the left recess on 141
}
