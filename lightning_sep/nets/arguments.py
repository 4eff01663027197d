"""Constructor arguments are checked where they enter, all problems of one net at once."""

from lightning_sep.errors import ConfigError


class Arguments:
    """Collects what is wrong with the settings of one class.

    Settings arrive from YAML and the command line, where a word can stand in the place of a number;
    without a check it would fail in the first step, far from its cause.

    Args:
        owner: name of the class whose settings these are; the message starts with it.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.problems: list[str] = []

    def whole(self, name: str, value: object, *, at_least: int = 1, odd: bool = False) -> None:
        """Asks for a whole number, of at least ``at_least`` and ``odd`` where that matters."""
        # a bool is an int to Python, but nobody means `levels: true`
        right = isinstance(value, int) and not isinstance(value, bool) and value >= at_least
        if not right or (odd and isinstance(value, int) and value % 2 == 0):
            kind = "an odd whole number" if odd else "a whole number"
            self.refuse(name, value, f"{kind} of at least {at_least} is needed")

    def number(self, name: str, value: object, *, low: float, below: float) -> None:
        """Asks for a number in ``[low, below)``."""
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if not right or not low <= float(value) < below:  # type: ignore[arg-type]
            self.refuse(name, value, f"a number from {low:g} to below {below:g} is needed")

    def yes_or_no(self, name: str, value: object) -> None:
        """Asks for a truth value."""
        if not isinstance(value, bool):
            self.refuse(name, value, "true or false is needed")

    def one_of(self, name: str, value: object, known: tuple[str, ...]) -> None:
        """Asks for one of the words in ``known``."""
        if value not in known:
            self.refuse(name, value, f"known are {', '.join(known)}")

    def refuse(self, name: str, value: object, what_would_work: str) -> None:
        """Notes that ``name`` cannot have ``value``."""
        self.problems.append(f"{name} = {value!r}: {what_would_work}")

    def check(self) -> None:
        """Raises what has been collected, if anything.

        Raises:
            ConfigError: at least one setting was refused; the message lists all of them.
        """
        if len(self.problems) == 1:
            raise ConfigError(f"{self.owner}: {self.problems[0]}")
        if self.problems:
            listed = "".join(f"\n    {problem}" for problem in self.problems)
            raise ConfigError(
                f"{len(self.problems)} settings of {self.owner} cannot be used:{listed}"
            )
