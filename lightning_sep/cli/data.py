"""`lightning-sep data`: list, prepare and verify corpora."""

import argparse
import json
from pathlib import Path

from lightning_sep.cli.command import Command, Parser, add_settings
from lightning_sep.cli.output import cell, print_table
from lightning_sep.data.progress import ProgressLine
from lightning_sep.homes import data_home

_TEXT = """\
Corpora: what is known, what is prepared, whether it is whole.

examples:
    lightning-sep data list
    lightning-sep data prepare esc10 --source ~/audio/esc10
    lightning-sep data prepare folder --source ~/audio/dogs data.sample_rate=16000
    lightning-sep data verify esc10
"""


def _add(parser: Parser, common: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    show = actions.add_parser("list", help="what is known and what is prepared", parents=[common])
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    show.set_defaults(handler=_list)
    prepare = actions.add_parser("prepare", help="manifests and decoded audio", parents=[common])
    prepare.add_argument("name", help="corpus (see `lightning-sep data list`)")
    add_settings(prepare, "settings of the data: data.sample_rate=16000")
    prepare.add_argument("--source", type=Path, metavar="FOLDER", help="where its audio lies")
    prepare.add_argument(
        "--keep", action="store_true", help="take clipped and other odd files: data.keep=true"
    )
    prepare.set_defaults(handler=_prepare)
    verify = actions.add_parser("verify", help="is every file as it was?", parents=[common])
    verify.add_argument("name", help="corpus (see `lightning-sep data list`)")
    add_settings(verify, "settings of the data, to look at that form alone")
    verify.set_defaults(handler=_verify)


def _list(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.data import commands

    corpora = commands.list_corpora(data_home())
    if arguments.json:
        print(json.dumps(corpora, indent=2))
    else:
        shown = ("name", "prepared", "hours", "sample_rate", "description")
        print_table([{name: one.get(name) for name in shown} for one in corpora])
    return None


def _prepare(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.data import commands

    settings = [*arguments.settings, *(["data.keep=true"] if arguments.keep else [])]
    told = commands.prepare(arguments.name, arguments.source, data_home(), ProgressLine(), settings)
    print(f"{arguments.name} is prepared in {data_home()}")
    for name, value in told.items():
        print(f"    {name:<16} {cell(value)}")
    return None


def _verify(arguments: argparse.Namespace) -> int | None:
    from lightning_sep.data import commands

    commands.verify(arguments.name, data_home(), ProgressLine(), arguments.settings)
    print(f"{arguments.name} in {data_home()} is whole")
    return None


COMMAND = Command("data", "list, prepare and verify corpora", _TEXT, _list, _add)
