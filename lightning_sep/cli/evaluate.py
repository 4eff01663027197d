"""`lightning-sep evaluate`."""

import argparse
import json

from lightning_sep.cli.command import Command, Parser, add_settings
from lightning_sep.cli.process import ready_process
from lightning_sep.homes import runs_home

_TEXT = """\
Score a trained run on other data than it was trained on. RUN is a run id or a run's folder.
Sample rate, examples, gain and threshold are those of the run. The result is written into the
run's folder, with hashes of the data and of the weights and the values of the examples.

examples:
    lightning-sep evaluate 3f9a1c2e77aa data=kitchen20
    lightning-sep evaluate 3f9a1c2e77aa data=kitchen20 examples.test=1000 --split val
    lightning-sep evaluate 3f9a1c2e77aa data=folder data.path=~/audio data.test_only=true --json
    lightning-sep evaluate 3f9a1c2e77aa data=given_mixtures data.path=~/wav8k/min examples=given
"""


def _add(parser: Parser, common: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="run id or folder")
    add_settings(
        parser, "the data: data=ENTRY, data.SETTING=VALUE, examples=ENTRY, examples.SETTING=VALUE"
    )
    parser.add_argument("--split", default="test", help="test or val (default: test)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _run(arguments: argparse.Namespace) -> int | None:
    ready_process()
    from lightning_sep.evaluate import evaluate

    result, path = evaluate(
        arguments.run,
        arguments.settings,
        home=runs_home(),
        split=arguments.split,
        config_dir=arguments.config_dir,
    )
    if arguments.json:
        print(json.dumps(result, indent=2))
        return None
    data = ", ".join(f"{name} {known[:12]}" for name, known in result["data"].items())
    print(f"run {result['run_id']} on {data}, {result['examples']} examples: {path}")
    for name, value in result["metrics"].items():
        print(f"    {name:<36} {'' if value is None else f'{value:.6g}'}")
    for remark in result["remarks"]:
        print(f"    {remark}")
    return None


COMMAND = Command("evaluate", "score a run on other data", _TEXT, _run, _add)
