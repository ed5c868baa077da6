"""Of what coverage.py measured, the share of memlib's branches that were taken; exits with 1 below the least."""

import json
import sys
from pathlib import Path

LEAST = 95.0  # per cent


def main(report: Path) -> int:
    """`report` is what `coverage json` wrote: each file's lines from which a branch was never taken, then the share."""
    measured = json.loads(report.read_text(encoding="utf-8"))
    for name, file in measured["files"].items():
        if missed := file["missing_branches"]:
            print(f"{name}:", ", ".join(f"{line} to {to if to > 0 else 'the end'}" for line, to in missed))
    totals = measured["totals"]
    share = 100 * totals["covered_branches"] / totals["num_branches"]
    print(f"{share:.1f} % of {totals['num_branches']} branches; at least {LEAST:g} % are needed")
    return int(share < LEAST)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
