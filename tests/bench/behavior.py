#!/usr/bin/env python3
"""Bursts of edges on the DARPA 1998 stream: area under the curve, and edges a second on one core.

    behavior.py CORPUS [--build]

Reads CORPUS/data/darpa/darpa_original.zip and gives it to the example `darpa` of libs/behavior, as built in the profile
`dev`; with --build it is built in `release` first, for the speed that counts. The last line is `N passed, N failed`: an area
below 0.98 is a failure, the speed is only told.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    corpus, build = pathlib.Path(sys.argv[1]).resolve(), "--build" in sys.argv[2:]
    if build:
        subprocess.run(["cargo", "build", "--release", "--locked", "-p", "gumshoe-behavior", "--example", "darpa"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or os.path.expanduser("~/.cache/gumshoe/target"))
    example = target / ("release" if build else "debug") / "examples" / "darpa"
    with zipfile.ZipFile(corpus / "data" / "darpa" / "darpa_original.zip") as archive, archive.open("darpa_original.csv") as edges:
        process = subprocess.Popen([example], stdin=subprocess.PIPE)
        with process.stdin as stream:
            shutil.copyfileobj(edges, stream, 1 << 20)
        sys.exit(process.wait())


if __name__ == "__main__":
    main()
