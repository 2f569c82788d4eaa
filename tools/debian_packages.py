"""Say in one line which Debian packages are missing; silent where they are not needed or all there.

Usage: debian_packages.py PACKAGE...
"""

import shutil
import subprocess
import sys


def missing(packages: list[str]) -> list[str]:
    """The packages that are neither installed nor provided by another one.

    On newer systems libglib2.0-0t64, for example, provides libglib2.0-0.
    """
    command = [
        "dpkg-query",
        "--show",
        "--showformat",
        "${db:Status-Status} ${Package}, ${Provides}\n",
    ]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    installed = {
        name.split()[0]
        for state, _, names in (line.partition(" ") for line in lines)
        if state == "installed"
        for name in names.split(",")
        if name.strip()
    }
    return [package for package in packages if package not in installed]


if __name__ == "__main__":
    absent = missing(sys.argv[1:]) if shutil.which("dpkg-query") else []
    if absent:
        sys.exit(
            f"Debian packages are missing for tests with a viewer: {' '.join(absent)}; "
            "`make apt` installs them."
        )
