"""Run the stress programs of the tests for longer: ``python benchmarks/durability.py --kills 500 --seconds 60``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "vector_store"))

import ordeals


def main() -> None:
    """Run every program, and print its result in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="number of writers to kill")
    parser.add_argument("--seconds", type=float, default=60, help="time of each program with a writer and readers")
    parser.add_argument("--calls", type=int, default=2000, help="number of calls of each of two writers")
    parser.add_argument(
        "--openings", type=int, default=200, help="number of stores that three processes create at once"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random kills")
    parser.add_argument(
        "--folder", type=Path, help="folder on the disk to test; by default the system's folder for temporary files"
    )
    arguments = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="durability-", dir=arguments.folder))
    print(json.dumps({"folder": str(folder)}), flush=True)
    runs = {
        "kills": (arguments.kills, arguments.seed),
        "kills_among_forks": (arguments.kills // 2, arguments.seed),
        "overwriting": (arguments.seconds,),
        "sliding": (arguments.seconds,),
        "writers": (arguments.calls,),
        "openings": (arguments.openings,),
    }
    for name, amounts in runs.items():
        (folder / name).mkdir()
        print(json.dumps({name: ordeals.PROGRAMS[name](folder / name, *amounts)}), flush=True)
    # After a failure the folder is kept for inspection.
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
