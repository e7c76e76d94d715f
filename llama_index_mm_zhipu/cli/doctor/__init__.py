"""Checks of the installation, the machine, the network, the weights and an index, for ``mmzhipu doctor``."""

from llama_index_mm_zhipu.cli.doctor.check import Check
from llama_index_mm_zhipu.cli.doctor.checks import run_checks

__all__ = ["Check", "run_checks"]
