"""Build the article: `python docs/article/build.py [OUT]`. One source, article.typ; its {{ expressions }} ask Tables,
and so data/results; typst makes PDF and HTML of what comes out. letter.md is filled in likewise."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import typst
from evidence import Evidence, number
from tables import Tables

from memlib import viz

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXPRESSION = re.compile(r"\{\{(.+?)\}\}", re.S)


def build(out: Path) -> None:
    """Write article.pdf, article.html and letter.md to `out`, with what they are made of."""
    out.mkdir(parents=True, exist_ok=True)
    evidence = Tables()
    figures(evidence, out)
    for name in ("article.typ", "letter.md"):
        (out / name).write_text(fill((HERE / name).read_text("utf-8"), evidence), "utf-8")
    shutil.copy(HERE / "style.typ", out)
    shutil.copy(ROOT / "docs" / "references.bib", out)
    typst.compile(out / "article.typ", output=out / "article.pdf", ignore_system_fonts=True)
    page = typst.compile(out / "article.typ", format="html", sys_inputs={"html": "yes"}, ignore_system_fonts=True)
    css = f"<style>{(HERE / 'article.css').read_text('utf-8')}</style></head>"
    (out / "article.html").write_text(page.decode().replace("</head>", css), "utf-8")
    print(out / "article.pdf", out / "article.html", sep="\n")


def figures(own: Evidence, out: Path) -> None:
    """The notebooks' figures, as SVG."""
    viz.use_style()
    plt.rcParams["svg.hashsalt"] = "memlib"  # the same bytes each time
    looks = {name: own.dose.controls[name].timesteps for name in ("uniform", "0 to 500", "0 to 2000")}
    shares = {name: own.share(name) for name in own.dose.controls}
    weights = [name for name in shares if "as weight" in name]
    groups = {"drawn": [name for name in shares if name not in weights], "as loss weight": weights}
    sets, asked = ("mixture16", "ecg5000"), ("H1", "H2", "H3", "H4", "H7")
    tested = [f for name in sets for f in own.findings if f.dataset == name and f.hypothesis[:2] in asked]
    made = {
        "spectrum": viz.spectrum(own.spectrum, own.schedule, looks),
        "dose": viz.dose(own.courses, shares, groups),
        "frontier": viz.frontier(own.on_the_way, [*own.plans["mixture_matched"].controls]),
        "predictions": viz.predictions(tested),
    }
    views = own.share("Laplace") * own.last * own.budget["training"]["batch_size"] / own.budget["n_train"]
    mark = (views, own.mean("Laplace"))  # far from the others: the caption says why
    made["dose"].axes[0].annotate("Laplace", mark, (6, -3), textcoords="offset points", size=8)
    for name, figure in made.items():
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def fill(text: str, evidence: Evidence) -> str:
    """The text with each expression replaced by its value."""
    names = {name: getattr(evidence, name) for name in dir(evidence) if not name.startswith("_")}
    names |= {"number": number, "pct": lambda x, digits=1: f"{x:.{digits}%}", "num": lambda x: f"{x:.2f}"}

    def value(found: re.Match[str]) -> str:
        try:
            return str(eval(found[1].strip(), names))  # one dict: comprehensions see its names
        except Exception as error:
            raise ValueError(f"{{{{{found[1]}}}}}: {error}") from error

    return EXPRESSION.sub(value, text)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "article")
