"""Kitchen20: twenty kinds of sounds from kitchens."""

from lightning_sep.data.kinds import Folds


class Kitchen20(Folds):
    """Kitchen sounds in twenty classes, clips of 5 s (Moreaux and contributors)."""

    name = "kitchen20"
    columns = ("fold", "source_group", "category")
    source_column = "source_group"  # no author on both sides
    credit = "Kitchen20 by Marc Moreaux and contributors, treat as non-commercial"
    classes = frozenset(
        [
            "blender",
            "boiling-water",
            "book",
            "chopping",
            "clean-dishes",
            "cupboard",
            "cutlery",
            "dishwasher",
            "drawer",
            "eat",
            "fridge",
            "frying-pan",
            "juicer",
            "microwave",
            "peel",
            "plates",
            "stove-burner",
            "stove-fan",
            "sweep",
            "water-flowing",
        ]
    )
