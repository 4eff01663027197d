"""The command ``lightning-sep``: a file per command, and what they share.

Only this room prints errors and decides exit codes. Nothing heavy is imported before a command
runs, so help answers at once.
"""

from lightning_sep.cli.entry import main, main_script

__all__ = ["main", "main_script"]
