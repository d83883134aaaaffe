"""`make html`: the site as a browser shows it, with every other host out of reach."""

import re
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import schematic
from build import PAGES
from conftest import REPOSITORY, run
from matplotlib.colors import to_hex


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `make html` makes in a clone whose environment is installed."""
    folder = tmp_path_factory.mktemp("html") / "clone"
    made_here = (".git", ".venv", "out", "data", ".snakemake", ".*_cache", "__pycache__", "incoming")
    shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns(*made_here))
    (folder / ".venv").mkdir()
    (folder / ".venv" / "installed").touch()
    run("make", "html", f"BIN={Path(sys.executable).parent}", cwd=folder)
    return folder / "out" / "html"


@pytest.fixture(scope="module")
def browser():
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium with its driver here (Debian: apt install chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as chrome:
        yield chrome


@pytest.mark.parametrize("page", PAGES)
def test_pages_ask_no_other_host_and_their_links_work(site, page):
    html = (site / f"{page}.html").read_text()
    assert not re.search(
        r"""(?:src|srcset|action)=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//|@import|url\(""",
        html + (site / "style.css").read_text(),
    )
    assert "$" not in re.sub(
        r"<pre.*?</pre>|<code.*?</code>|<script.*?</script>|<style.*?</style>", "", html, flags=re.DOTALL
    ), "a formula is left as TeX"
    anchors = {name: set(re.findall(r' id="([^"]+)"', (site / f"{name}.html").read_text())) for name in PAGES}
    for link in re.findall(r'href="([^"]+)"', html):
        if not link.startswith(("http", "data:")):
            file, _, anchor = link.partition("#")
            assert not file or (site / file).is_file(), f"{page}: {link} leads nowhere"
            assert not anchor or anchor in anchors[(file or f"{page}.html").removesuffix(".html")], (
                f"{page}: {link} leads nowhere"
            )


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("page", PAGES)
def test_pages_in_a_browser(site, browser, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        dict(width=width, height=800, deviceScaleFactor=1, mobile=width < 500),
    )
    browser.get((site / f"{page}.html").as_uri())
    assert browser.get_log("browser") == []
    broken = browser.execute_script(
        "return [...document.images].filter(i => i.src && !(i.complete && i.naturalWidth)).map(i => i.src)"
    )
    assert broken == [] and browser.execute_script("return document.querySelectorAll('main img').length") > 0
    assert browser.execute_script(
        "return [...document.querySelectorAll('main img')].every(i => i.alt.length > 10)"
    ), "a figure without its text"
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), (
        "the page is wider than the screen"
    )
    assert browser.execute_script("return document.querySelectorAll('.toc a').length") >= 4
    assert not browser.execute_script(
        "return [...document.querySelectorAll('details.code')].some(d => d.open)"
    ), "code is not folded"
    browser.execute_script("document.querySelector('main img').click()")
    assert browser.execute_script(
        "const large = document.querySelector('dialog'); return large.open && large.firstChild.naturalWidth"
    )


def test_the_index_shows_the_claims_and_a_figure(site):
    html = (site / "index.html").read_text()
    assert all(f"<td>C{claim}</td>" in html for claim in range(1, 7)) and re.search(
        r'<img src="figures/04_\w+.png"', html
    )


def test_the_schematic_freezes_convolutions_and_head_and_trains_bn_alone():
    (axis,) = schematic.draw().axes
    fills = [to_hex(patch.get_facecolor()).upper() for patch in axis.patches]
    assert (fills.count(schematic.FROZEN), fills.count(schematic.LEARNS)) == (3, 2)
    plt.close("all")
