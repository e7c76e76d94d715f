"""The ordeals of the tests, for longer: ``python benchmarks/durability.py --kills 500 --seconds 60``."""

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
    """Run every ordeal, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="writers to kill")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of a writer and its readers, for each kind")
    parser.add_argument("--calls", type=int, default=2000, help="calls of two writers each")
    parser.add_argument("--openings", type=int, default=200, help="stores that three processes make at once")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--folder", type=Path, help="on the disk to try; a new one if left out")
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
    # After a failure it is kept, to be looked into.
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
