"""``python -m lightning_sep``: the command, where the console script is not on the path."""

from lightning_sep.cli import main_script

if __name__ == "__main__":
    main_script()
