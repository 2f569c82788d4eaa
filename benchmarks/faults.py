"""Attacks on a project: faults, kills, loss of power, files that lie, commands at once, limits.

    python -m benchmarks.faults --every 10              # a tenth of all, some minutes
    python -m benchmarks.faults --write docs/benchmark-faults.md
    python -m benchmarks.faults --replay "kill:annotate:torn kill:17" --keep

Each attack has a copy of a small project with a trained model, predictions and annotations of its
own, and a name from which it can be repeated. What must be true after each is in
`tests.faults.campaign`. Linux with a C compiler only (see `tests.faults.shim`).
"""

from __future__ import annotations

import argparse
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import parser_of
from tests.faults.campaign import Campaign
from tests.faults.names import names_of
from tests.faults.server import Server
from tests.faults.shim import library
from tests.faults.template import Template

KINDS = {
    "fault": "a change fails (ENOSPC, EIO, EACCES; once, from then on, half written)",
    "disk": "reading fails once (EIO)",
    "kill": "SIGKILL before a change, or in the middle of it",
    "moment": "SIGKILL after a random time",
    "power": "loss of power: only what was synced is there, or more of it",
    "signal": "SIGTERM, SIGINT at a change",
    "stop": "SIGTERM, SIGINT after a random time",
    "start": "SIGTERM, SIGINT while Python starts",
    "input": "a file is changed at random",
    "pair": "two commands at once",
    "limit": "limits of memory, open files, size of files",
}
PROBLEMS = {
    "lost": "accepted patches lost",
    "outside": "files outside touched",
    "traceback": "tracebacks",
    "hang": "hangs",
    "silent": "wrong without a word",
    "sentence": "not one sentence",
    "stuck": "does not go on",
    "left": "left behind",
    "cost": "over 20 s, 2 GB, or 3 s to stop",
}
ROOT = Path(__file__).parents[1]
# Before and after the table in its page.
MARK = "<!-- faults -->"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--inputs", type=int, default=5000, help="changed files")
    parser.add_argument("--others", type=int, default=300, help="random times, and pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--every", nargs="*", default=["1"], help="every so many-th attack, such as 10, or kill=10"
    )
    parser.add_argument("--commands", nargs="*", default=[], help="only attacks on these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker", type=int, default=None, help="used between the processes")
    parser.add_argument("--replay", nargs="*", default=[], help="names of attacks")
    parser.add_argument("--keep", action="store_true", help="keep the folders of --replay")
    parser.add_argument("--folder", default=None, help="for the copies; a fast disk")
    parser.add_argument("--results", default=None, help="a file of JSON lines, to go on from")
    parser.add_argument("--write", default=None, help="a page for the table")
    options = parser.parse_args()
    if options.worker is None and not options.replay:
        sys.exit(lead(options))
    folder = Path(tempfile.mkdtemp(dir=options.folder)).resolve()
    built = library(folder)
    if built is None:
        raise SystemExit("This needs Linux and a C compiler (cc).")
    server = Server(built, folder, with_packages=True)
    campaign = Campaign(Template(server, folder))
    if options.replay:
        replay(campaign, options)
    else:
        work(campaign, options)
    server.close()
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)


def replay(campaign: Campaign, options: argparse.Namespace) -> None:
    """Repeat attacks by their names, and print what is wrong after each."""
    for number, name in enumerate(options.replay):
        keep = f"replay-{number}" if options.keep else ""
        problems = campaign.attack(name, keep)
        print(f"{name}: {'; '.join(f'{p.kind}: {p.text}' for p in problems) or 'all is well'}")
        if keep:
            print(f"  in {campaign.template.folder / keep}")


def work(campaign: Campaign, options: argparse.Namespace) -> None:
    """Carry out this worker's share, and print a line of JSON after each attack."""
    done = {result["name"] for result in results_in(options.results)}
    for kind in options.kinds:
        count = options.inputs if kind == "input" else options.others
        names = list(names_of(kind, campaign, count, options.seed, options.commands))
        step = every(kind, options.every)
        for name in names[::step][options.worker :: options.workers]:
            if name in done:
                continue
            try:
                problems = [(p.kind, p.text) for p in campaign.attack(name)]
            except Exception as error:  # noqa: BLE001 - a fault of the campaign itself is counted
                problems = [("hang", f"the campaign failed: {type(error).__name__}: {error}")]
            print(json.dumps({"kind": kind, "name": name, "problems": problems}), flush=True)


def every(kind: str, steps: list[str]) -> int:
    """Which attacks of a kind are carried out: every so many-th.

    Args:
        kind: of attacks.
        steps: as ``--every`` has them; the last one that names the kind, or none, counts.
    """
    parts = [step.rpartition("=") for step in steps]
    return next((int(step) for named, _, step in reversed(parts) if named in (kind, "")), 1)


def lead(options: argparse.Namespace) -> int:
    """Start the workers, collect what they print, and print the table."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.faults", *sys.argv[1:]]
    workers = [
        subprocess.Popen(
            [*command, "--worker", str(number)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for number in range(options.workers)
    ]
    results = results_in(options.results)
    for line in lines_of(workers):
        result = json.loads(line)
        results.append(result)
        if options.results:
            with Path(options.results).open("a") as file:
                file.write(line)
        for kind, text in result["problems"]:
            print(f"{result['name']}\t{kind}\t{text}", flush=True)
    text = table(results)
    minutes = (time.monotonic() - begun) / 60
    print(f"\n{text}\nSeed {options.seed}; every {' '.join(options.every)}; {minutes:.0f} minutes.")
    if options.write:
        replace_table(Path(options.write), text)
    return int(any(result["problems"] for result in results) or any(w.wait() for w in workers))


def results_in(path: str | None) -> list[dict[str, Any]]:
    """The results of earlier calls."""
    if path is None or not Path(path).exists():
        return []
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def lines_of(workers: list[subprocess.Popen[str]]) -> Iterator[str]:
    """The lines of several processes, as they come."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read(worker: subprocess.Popen[str]) -> None:
        for line in worker.stdout or ():
            lines.put(line)
        lines.put(None)

    for worker in workers:
        threading.Thread(target=read, args=[worker], daemon=True).start()
    ends = 0
    while ends < len(workers):
        line = lines.get()
        ends += line is None
        if line is not None:
            yield line


def table(results: list[dict[str, Any]]) -> str:
    """How many attacks there were, and after how many something was wrong."""
    rows = ["| attack | number | " + " | ".join(PROBLEMS.values()) + " |"]
    rows.append("|---" * (len(PROBLEMS) + 2) + "|")
    totals: Counter[str] = Counter()
    for kind, description in KINDS.items():
        of_kind = [result for result in results if result["kind"] == kind]
        if not of_kind:
            continue
        found = Counter(
            name for result in of_kind for name in {problem[0] for problem in result["problems"]}
        )
        cells = [str(found[problem]) for problem in PROBLEMS]
        rows.append(f"| {description} | {len(of_kind)} | " + " | ".join(cells) + " |")
        totals.update(found)
        totals["number"] += len(of_kind)
    cells = [str(totals[problem]) for problem in PROBLEMS]
    rows.append(f"| all | {totals['number']} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def replace_table(page: Path, text: str) -> None:
    """Put the table into a page, in place of the one that is there."""
    parts = page.read_text(encoding="utf-8").split(MARK)
    page.write_text(f"{parts[0]}{MARK}\n\n{text}\n{MARK}{parts[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
