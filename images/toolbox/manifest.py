"""Write down what the toolbox tree consists of, or check that a copy of it is whole; prints the tree's version.

An engine that is killed while it fills a volume leaves a part of the tree behind; `check` in the volume tells.
Usage: manifest.py write|check TREE
"""

import hashlib
import os
import sys
from pathlib import Path


def main(action: str, tree: Path) -> None:
    listed = "".join(f"{digest(path)}  {path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")) if counts(path))
    if action == "write":
        (tree / "MANIFEST").write_text(listed)
    elif (tree / "MANIFEST").read_text() != listed:
        sys.exit(f"{tree} is not what its MANIFEST says")
    print((tree / "VERSION").read_text().strip())


def counts(path: Path) -> bool:
    return path.is_symlink() or (path.is_file() and path.name != "MANIFEST")


def digest(path: Path) -> str:
    content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
