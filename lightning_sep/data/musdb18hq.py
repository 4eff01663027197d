"""The songs of MUSDB18-HQ."""

from collections.abc import Sequence

from lightning_sep.data.songs import Songs

# validation_tracks of the package musdb, configs/mus.yaml
_VAL = (
    *("Actions - One Minute Smile", "Clara Berry And Wooldog - Waltz For My Victims"),
    *("Johnny Lokke - Promises & Lies", "Patrick Talbot - A Reason To Leave"),
    *("Triviul - Angelsaint", "Alexander Ross - Goodbye Bolero", "Fergessen - Nos Palpitants"),
    *("Leaf - Summerghost", "Skelpolu - Human Mistakes", "Young Griffo - Pennies"),
    *("ANiMAL - Rockshow", "James May - On The Line", "Meaxic - Take A Step"),
    "Traffic Experiment - Sirens",
)


class Musdb18Hq(Songs):
    """MUSDB18-HQ (Rafii et al., doi:10.5281/zenodo.3338373), as it is unpacked.

    ``{train,test}/<song>/{mixture,drums,bass,other,vocals}.wav``; the songs of train that validate
    are those that the package musdb names.

    Args:
        path: the folder.
        val: names of songs of train that validate; ``None`` draws 15 %.
        seed: see :class:`Songs`.
        channels: see :class:`Songs`.
        sample_rate: in Hz; ``None`` takes the rate that most files have.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: see :class:`Songs`.
        test_only: see :class:`~lightning_sep.data.corpus.Corpus`.

    Raises:
        ConfigError: a setting cannot be used.
    """

    name = "musdb18hq"

    def __init__(
        self,
        path: str | None = None,
        val: Sequence[str] | None = _VAL,
        seed: int = 0,
        channels: str = "keep",
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
        test_only: bool = False,
    ) -> None:
        super().__init__(path, val, seed, channels, sample_rate, cache_limit_mb, keep, test_only)
