"""The rendered notebooks and the READMEs as a static site: python site/build.py [folder, else out/html].

nbconvert makes the pages, latex2mathml their formulas, so that nothing is fetched from another host.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

SITE = Path(__file__).resolve().parent
ROOT = SITE.parent
PAGES = {
    "index": "bnat", "01_pretrain": "1 Pre-training", "02_bn_finetune": "2 BN fine-tuned",
    "03_bn_scratch": "3 BN from scratch", "04_robustness": "4 The answer", "05_trust": "5 Trust",
    "06_features": "6 Features", "07_norms": "7 Norms", "08_inside": "8 Inside BN", "benchmarks": "Speed",
}  # fmt: skip
READMES = {"index": ROOT / "README.md", "benchmarks": ROOT / "benchmarks" / "README.md"}


def formulas(markdown):
    """$...$ and $$...$$ as MathML; what stands in code spans and blocks is left alone."""

    def replace(match):
        block, inline = match["block"], match["inline"]
        tex = block or inline
        if tex is None:
            return match[0]
        return convert(" ".join(tex.split()), display="block" if block else "inline")

    code = r"```.*?```|`[^`]*`"
    tex = r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\s](?:[^$]*[^$\s])?)\$"
    return re.sub(f"{code}|{tex}", replace, markdown, flags=re.DOTALL)


def caption_of(cells, number):
    """The caption of a cell's picture: text in italics in its own output, or that starts the next cell."""
    texts = [output.get("data", {}).get("text/markdown", "") for output in cells[number].outputs]
    texts += [cell.source for cell in cells[number + 1 : number + 2] if cell.cell_type == "markdown"]
    captions = [re.match(r"\*[^*].*?(?:\n\n|$)", "".join(text).strip(), re.DOTALL) for text in texts]
    return next((caption[0].strip() for caption in captions if caption), "")


def notebook(name, folder):
    """The body of a notebook's page; its figures lie in the folder, captions are their alternative text."""
    content = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    for number, cell in enumerate(content.cells):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                caption = re.sub(r"[*`$]", "", caption_of(content.cells, number))
                output.metadata["image/png"] = {"alt": caption[:300]}
    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = formulas(cell.source)
    config = Config(
        HTMLExporter={"preprocessors": ["nbconvert.preprocessors.ExtractOutputPreprocessor"]},
        ExtractOutputPreprocessor={
            "output_filename_template": f"{name}_{{cell_index}}_{{index}}{{extension}}"
        },
    )
    exporter = HTMLExporter(config=config, template_name="bnat", extra_template_basedirs=[str(SITE)])
    body, resources = exporter.from_notebook_node(content)
    for file, image in resources["outputs"].items():
        (folder / file).write_bytes(image)
    for table in set(re.findall(r'href="\.\./(figures/[\w.]+)"', body)):
        copied(table, folder)
    body = body.replace('href="../figures/', 'href="figures/')
    return re.sub(r'href="(\w+)\.ipynb', r'href="\1.html', body)


def copied(file, folder):
    """Copy a file of the repository to where it lies in the site."""
    target = folder / file
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / file, target)


def readme(path, folder):
    """A README as a page: links lead to the pages of notebooks and READMEs, other files are copied."""
    text = re.sub(r"<!--.*?-->", "", path.read_text(), flags=re.DOTALL).replace("](../", "](")
    text = re.sub(r"\]\((?:notebooks/)?(\w+)(?:\.ipynb|/README\.md)\)", r"](\1.html)", text)
    for file in sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", text)) - {f"{name}.html" for name in PAGES}):
        copied(file, folder)
    return markdown2html(formulas(text))


def build(folder):
    folder.mkdir(parents=True, exist_ok=True)
    page = Environment(loader=FileSystemLoader(SITE), autoescape=False).get_template("page.html.j2")
    for name in PAGES:
        body = readme(READMES[name], folder) if name in READMES else notebook(name, folder)
        body = re.sub(r"<table.*?</table>", r'<div class="table">\g<0></div>', body, flags=re.DOTALL)
        headings = [
            (int(level), anchor, re.sub(r"<.*?>|¶|&#182;", "", text))
            for level, anchor, text in re.findall(
                r'<h([23])[^>]* id="([^"]+)"[^>]*>(.*?)</h\1>', body, re.DOTALL
            )
        ]
        title = re.sub(r"<.*?>|¶|&#182;", "", re.search(r"<h1.*?>(.*?)</h1>", body, re.DOTALL)[1])
        (folder / f"{name}.html").write_text(
            page.render(title=title, pages=PAGES.items(), current=name, headings=headings, body=body)
        )
    (folder / "style.css").write_text(
        (SITE / "style.css").read_text() + HtmlFormatter(style="default").get_style_defs(".highlight")
    )
    print(f"{len(PAGES)} pages: {folder / 'index.html'}")


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "out" / "html"))
