"""Stages run in the process of the tests, which spares each of them the seconds to import torch."""

from collections.abc import Iterable
from importlib import import_module

from pipeline.params import Params

NETWORK_STAGES = (
    "explore",
    "train feature_extraction",
    "train fine_tuning",
    "evaluate feature_extraction",
    "evaluate fine_tuning",
    "explain",
    "report",
)


def run_stages(params: Params, commands: Iterable[str] = NETWORK_STAGES) -> None:
    """Run stages in the current folder, each given as `python -m stages` takes it."""
    for command in commands:
        name, *arguments = command.split()
        import_module(f"stages.{name}").main(params, *arguments)
