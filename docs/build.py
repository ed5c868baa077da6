"""Build the site over a folder of executed notebooks: `python docs/build.py [NOTEBOOKS [OUT]]`. Nothing is executed."""

from __future__ import annotations

import re
import shutil
import sys
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode
from sphinx.cmd.build import main as sphinx

from memlib.lab.claims import claim_table
from memlib.lab.courses import read
from memlib.lab.hypotheses import decide, finding_table
from memlib.lab.spectrum import recorded_spectra
from memlib.notebooks import NOTEBOOKS, ROOT, folded, without_widgets
from memlib.viz import explore
from memlib.viz.explore.playground import inlined

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:)([^)#\s]+/)?([^)#\s/]+\.\w+)(#[^)\s]*)?\)")  # to a file, not a picture
ENTRY = re.compile(r"^% (?P<heading>.+)$|^@\w+\{\w+, (?P<fields>.*)\}$", re.M)  # of references.bib, on one line
PROMPT = {"solution": "one solution", "prediction": "what happens", "setup": "the set-up", "plot": "how it is drawn"}
LIVE = re.compile(r"^explore\.(interval|snr)_explorer\(", re.M)  # the cells whose explorer needs no kernel
CARD = '<a class="card" href="{}.html">{}<b>{}</b><small>{}</small></a>'


def build(notebooks: Path, out: Path) -> int:
    """Write the site to `out`, over an earlier one; 0 if that worked. A failed notebook is shown as far as it came."""
    paths = {path.stem: path for path in sorted(notebooks.glob("*.ipynb")) if not path.stem.endswith(".part")}
    names = sorted({name.removesuffix(".failed") for name in paths})
    paths = {name: paths.get(f"{name}.failed") or paths[name] for name in names}
    if not paths:
        raise FileNotFoundError(f"no executed notebook in {notebooks}")
    read_in = {name: nbformat.read(path, as_version=4) for name, path in paths.items()}
    with TemporaryDirectory() as folder:
        source, site = Path(folder) / "source", Path(folder) / "site"
        left_out = shutil.ignore_patterns("*.py", "static", "lab", "article", "__pycache__")
        shutil.copytree(ROOT / "docs", source, ignore=left_out)
        shutil.copy(NOTEBOOKS / "README.md", source / "terms.md")
        shutil.copy(ROOT / "data" / "readme_picture.png", source)
        pages = {f"{name}.ipynb" for name in paths} | {path.name for path in source.glob("*.md")}
        found = decide(lines := read())
        made = {"ran": _ran(read_in), "notebooks": "\n".join(paths)}
        made |= {"verdicts": claim_table(found), "predictions": finding_table(found)}
        made["playground"] = inlined(explore.playground())
        made["references"] = _references((ROOT / "docs" / "references.bib").read_text(encoding="utf-8"))
        interval = explore.interval_explorer(spectra=recorded_spectra(lines, "mixture", "heartbeats"))
        live = {"interval": inlined(interval), "snr": inlined(explore.snr_explorer())}
        for path in source.glob("*.md"):
            text = _linked(path.read_text(encoding="utf-8"), pages)
            path.write_text(re.sub(r"<!-- (\w+) -->", lambda mark: made.get(mark[1], ""), text), encoding="utf-8")
        for name, nb in read_in.items():
            (source / f"{name}.ipynb").write_text(_prepared(nb, pages, live), encoding="utf-8")
        if code := sphinx(["-q", "-c", str(ROOT / "docs"), "-d", f"{folder}/trees", str(source), str(site)]):
            return code
        for path in (path for path in site.iterdir() if path.is_dir()):
            shutil.rmtree(out / path.name, ignore_errors=True)
        shutil.copytree(site, out, dirs_exist_ok=True)
    print(out / "index.html")
    return 0


def _ran(notebooks: dict[str, NotebookNode]) -> str:
    """What ran, what failed, the minutes and what it was made with: HTML without an empty line, where it would end."""
    records = {name: nb.metadata.get("memlib", {}) for name, nb in notebooks.items()}
    failed = {name: " ".join(record["error"].split()) for name, record in records.items() if record.get("error")}
    made = {" · ".join(str(r[k]) for k in ("commit", "versions", "hardware") if k in r) for r in records.values()}
    minutes = {name: f"{record.get('seconds', 0) / 60:.1f} min" for name, record in records.items()}
    total = sum(record.get("seconds", 0) for record in records.values()) / 60
    lines = [f"<p>{len(records)} notebooks in {total:.0f} minutes, {len(failed) or 'none'} failed.</p>"]
    lines += [f'<p class="failed"><b>{escape(name)} failed</b>: {escape(error)}</p>' for name, error in failed.items()]
    lines.append('<div class="cards">')
    for name, nb in notebooks.items():
        title = next(iter(re.findall(r"^# +(.+)", nb.cells[0].source, re.M)), name) if nb.cells else name
        given = [f"{k} {v}" for k, v in records[name].get("parameters", {}).items() if v != ""]
        small = ", ".join([name, "failed" if name in failed else minutes[name], *given])
        lines.append(CARD.format(escape(name), _thumbnail(nb), escape(title), escape(small)))
    return "\n".join([*lines, "</div>", *(f"<p><small>{escape(text)}</small></p>" for text in sorted(made))])


def _references(bib: str) -> str:
    """What references.bib holds, as Markdown: by its headings, each title leading to the work."""
    lines: list[str] = []
    for entry in list(ENTRY.finditer(bib))[1:]:  # the first line says what the file is
        if entry["heading"]:
            lines.append(f"\n## {entry['heading']}\n")
            continue
        own = dict(re.findall(r"(\w+) = \{([^}]*)\}", entry["fields"]))
        names = [" ".join(reversed(name.split(", "))) for name in own["author"].split(" and ")]
        who = f"{names[0]} et al." if len(names) > 3 or "others" in names else ", ".join(names)
        where = own.get("booktitle") or own.get("journal") or own.get("institution")
        where = f", *{where}*" if where else f", arXiv {own['eprint']}"
        link = own.get("url") or (f"https://doi.org/{own['doi']}" if "doi" in own else "")
        title = f"[{own['title']}]({link})" if link else own["title"]
        lines.append(f"- {who}: {title}{where}, {own['year']}")
    return "\n".join(lines)


def _thumbnail(nb: NotebookNode) -> str:
    """The picture of the cell tagged `thumbnail`, else the first."""
    outputs = [(cell, o.data) for cell in nb.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    outputs.sort(key=lambda pair: "thumbnail" not in pair[0].metadata.get("tags", []))
    return f'<img alt="" src="data:image/png;base64,{outputs[0][1]["image/png"]}">' if outputs else ""


def _linked(markdown: str, pages: set[str]) -> str:
    """Links to pages lead there, links to what else the clone holds become text, and wrong links stay wrong."""

    def lead(link: re.Match[str]) -> str:
        text, folder, name, part = link.groups(default="")
        page = "terms.md" if name == "README.md" and folder in ("", "../notebooks/") else name
        if page in pages:
            return f"[{text}]({page}{part})"
        return text if any((ROOT / place / folder / name).exists() for place in ("notebooks", "docs")) else link[0]

    return LINK.sub(lead, markdown)


def _prepared(nb: NotebookNode, pages: set[str], live: dict[str, str]) -> str:
    """The notebook as the site shows it: figures described, `live` explorers that compute in the page, no dead
    controls, cells folded by their tags."""
    nb = without_widgets(nb)
    nb.metadata = {key: nb.metadata[key] for key in ("kernelspec", "language_info") if key in nb.metadata}
    heading = "figure"
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = _linked(cell.source, pages)
            heading = re.sub(r"[*`$\\]", "", [heading, *re.findall(r"^#+ +(.+)", cell.source, re.M)][-1])
            continue
        found = LIVE.search(cell.source)
        for output in cell.get("outputs", []) if found else []:
            if 'class="explorer"' in output.get("data", {}).get("text/html", ""):
                output.data["text/html"] = live[found[1]]
        tags = cell.metadata.setdefault("tags", [])
        cell.metadata["mystnb"] = {"image": {"alt": heading}}
        if cell.cell_type == "code" and (parts := folded(cell)):
            what = next(words for tag, words in PROMPT.items() if tag in tags)  # the first of PROMPT that fits
            cell.metadata["mystnb"] |= {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
            tags.append("hide-cell" if len(parts) == 2 else f"hide-{'input' if parts == {'source'} else 'output'}")
    return nbformat.writes(nb)


if __name__ == "__main__":
    defaults = (NOTEBOOKS, ROOT / "build" / "book")
    given = tuple(Path(argument) for argument in sys.argv[1:3])
    sys.exit(build(*(given + defaults[len(given) :])))
