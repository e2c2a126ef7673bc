"""Runs the notebooks of the guide and keeps what they show, without times and machines.

python scripts/notebooks.py                # all
python scripts/notebooks.py tutorial       # one
"""

import argparse
import tempfile
from pathlib import Path

import nbformat
from bench_machine import finish
from nbclient import NotebookClient

DATA = Path(__file__).parent.parent / "data"
NAMES = ("tutorial", "section4")


def run_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Runs a notebook in an empty folder, and leaves in it what it shows, nothing of when."""
    with tempfile.TemporaryDirectory(prefix="patchcollide-") as folder:
        NotebookClient(notebook, timeout=1200, kernel_name="python3").execute(cwd=folder)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            # Warnings and progress are of this machine.
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    return notebook


def main() -> dict[str, str]:
    """Runs the notebooks, and writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, help="which; all by default")
    written = {}
    for name in parser.parse_args().names:
        path = DATA / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.write(run_notebook(notebook), path)  # type: ignore[no-untyped-call]
        written[name] = str(path)
    return written


if __name__ == "__main__":
    finish(main)
