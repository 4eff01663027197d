"""ESC-10: ten kinds of environmental sounds."""

from lightning_sep.data.kinds import Folds


class Esc10(Folds):
    """Environmental sounds in ten classes, clips of 5 s (Piczak, ACM Multimedia 2015)."""

    name = "esc10"
    columns = ("fold", "src_file", "category")
    source_column = "src_file"  # takes of one recording stay together
    credit = "ESC-10 by Karol J. Piczak, CC BY 3.0"
    classes = frozenset(
        [
            "chainsaw",
            "clock_tick",
            "crackling_fire",
            "crying_baby",
            "dog",
            "helicopter",
            "rain",
            "rooster",
            "sea_waves",
            "sneezing",
        ]
    )
