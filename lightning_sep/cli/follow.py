"""What the other processes of a run on several devices are: started by the first one, not by hand.

``python -m lightning_sep.cli.follow`` finds its place in the environment.
"""

import os
import sys

from lightning_sep.ranks import Seat, follow, given_seat


def main(place: Seat) -> int:
    """Train what the first process says; the exit code."""
    from lightning_sep import experiment

    return follow(place, experiment.follow)


if __name__ == "__main__":
    sys.exit(main(given_seat(os.environ)))
