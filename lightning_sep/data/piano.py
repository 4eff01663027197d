"""Solo piano: preludes and fugues by Bach, played by Kimiko Ishizaka."""

from lightning_sep.data.kinds import Music


class Piano(Music):
    """Solo piano: preludes and fugues by Bach, played by Kimiko Ishizaka."""

    name = "piano"
    credit = "Kimiko Ishizaka (Open Well-Tempered Clavier, Open Goldberg Variations), CC0 1.0"
