"""Write copies of the notebooks with the smoke profile injected, for nbval, which cannot inject a parameter itself."""

import shutil
import sys
from pathlib import Path

import papermill

folder = Path(sys.argv[1])
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
for path in (Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"):
    papermill.execute_notebook(path, folder / path.name, {"profile": "smoke"}, prepare_only=True)
