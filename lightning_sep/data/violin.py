"""Solo violin: movements of Bach's sonatas and partitas."""

from lightning_sep.data.kinds import Music


class Violin(Music):
    """Solo violin: movements of Bach's sonatas and partitas."""

    name = "violin"
    credit = "Bach Violin Dataset (Dong, Zhou, Berg-Kirkpatrick, McAuley, 2022), CC BY 3.0"
