"""The docs are held to the code: generated pages, sections, columns, links, pictures."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from p2mbatch._version import __version__
from p2mbatch.base.shipped import preset_names
from p2mbatch.cli import COMMANDS
from p2mbatch.model import policies
from p2mbatch.report.summary import summary_table
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.columns import COLUMNS, OUTCOMES
from p2mbatch.store.survival import survival
from p2mbatch.sweeps.driver import sweep

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


GENERATE = module(ROOT / "docs" / "generate.py")


@pytest.mark.parametrize("name", list(GENERATE.PAGES))
def test_generated_pages_are_up_to_date(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert text == GENERATE.PAGES[name](), "run: python docs/generate.py"


def test_the_dictionary_has_every_column() -> None:
    text = (ROOT / "docs" / "data-dictionary.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [c.name for c in COLUMNS]


def test_the_reference_has_every_command() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"\n## p2mbatch {name}\n" in text


def test_sections_that_the_code_refers_to_exist() -> None:
    model = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    sections = [int(n) for n in re.findall(r"^## (\d+)\. ", model, re.MULTILINE)]
    assert sections == list(range(1, 14))
    for path in (ROOT / "p2mbatch").rglob("*.py"):
        for number in re.findall(r"model section (\d+)", path.read_text(encoding="utf-8")):
            assert int(number) in sections, path
    for word in (*OUTCOMES, *policies.names()):
        assert f"`{word}`" in model


def test_checks_and_bugs_are_all_in_the_model_page() -> None:
    from p2mbatch.compiled.status import BUGS, FAULTS, SAVE_FAILURES

    model = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    for detail in (*BUGS.values(), *FAULTS.values()):
        assert f"`{detail}`" in model
    for detail in SAVE_FAILURES.values():
        assert f"`{detail} <" in model


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        # Pages that are made with the site, whose links test_site.py looks at.
        made = page.parent.name == "docs" and target.startswith(("api/", "gallery.md"))
        assert made or (page.parent / target).exists(), target


def test_docs_that_the_code_names_exist() -> None:
    for path in (ROOT / "p2mbatch").rglob("*.py"):
        for target in re.findall(r"docs/[\w-]+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / target).is_file(), f"{path}: {target}"


# Libraries' modules, and what is no module at all: variables, tables of the store.
NO_MODULES = {"concurrent", "function", "self", "state"}
IN_SQL = {"cells.number", "rows.number"}
FILES = {
    "py",
    "c",
    "h",
    "p2mk",
    "patch",
    "yml",
    "md",
    "json",
    "toml",
    "svg",
    "html",
    "sqlite",
    "lock",
    "pml",
    "txt",
}


def test_names_in_other_modules_are_there() -> None:
    """What a docstring or a page has as the name of a module, a point and a name is there."""
    modules: dict[str, str] = {}
    files = [*(ROOT / "p2mbatch").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    for file in files:
        stem = file.parent.name if file.stem == "__init__" else file.stem
        modules[stem] = modules.get(stem, "") + file.read_text(encoding="utf-8")
        if file.stem == "__init__":
            # What lies in a package is a name of it too.
            modules[stem] += " ".join(path.stem for path in file.parent.iterdir())
    found = 0
    for file in [*files, *PAGES, ROOT / "CONTRIBUTING.md"]:
        text = file.read_text(encoding="utf-8")
        for module, name in re.findall(r"`([a-z_]\w*)\.([A-Za-z_]\w*)(?:\([^`]*\))?`", text):
            if name in FILES or module in NO_MODULES or f"{module}.{name}" in IN_SQL:
                continue
            found += 1
            assert module in modules, f"{file}: no module {module} for {name}"
            assert re.search(rf"\b{name}\b", modules[module]), f"{file}: {module}.{name}"
    assert found > 30


def test_trace_families_are_told() -> None:
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    families = {
        re.sub(r"-(32|64)-\d+\.json\.gz$", "", path.name)
        for path in (ROOT / "data" / "traces").glob("*.json.gz")
    }
    for family in families:
        assert f"`{family}`" in text or family.startswith(("crafted-", "aimed-")), family
    for path in (ROOT / "data" / "dumps").glob("*.gz"):
        assert f"`{path.name}`" in text


def test_every_size_has_its_source() -> None:
    sizes = tomllib.loads((ROOT / "data" / "guests.toml").read_text(encoding="utf-8"))
    for entry in [*sizes["guest"], *sizes.get("host", [])]:
        assert entry["source"] in sizes["sources"], entry


def test_versions_and_names_agree() -> None:
    assert f"## {__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "headline" in preset_names() and "p2mbatch sweep headline" in readme
    assert readme.index("<!-- bench:begin -->") < readme.index("<!-- bench:end -->")


def test_the_readmes_table_is_the_headline_sweeps(tmp_path: Path) -> None:
    spec = SweepSpec.from_toml(ROOT / "data" / "sweeps" / "headline.toml")
    table = summary_table(survival(sweep(spec, tmp_path / "run", progress="quiet"))).to_text()
    assert f"```\n{table}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_picture_is_what_the_script_draws() -> None:
    pictures = module(ROOT / "docs" / "make_pictures.py")
    _, after = pictures.tree("stale")
    # The picture's texts are paths; its numbers are what its title says.
    assert after.outcome == "ok" and after.stray_writes > 0
    assert (ROOT / "docs" / "img" / "tree.svg").stat().st_size < 300_000


def test_the_packages_description_has_no_relative_link() -> None:
    readme = module(ROOT / "docs" / "readme.py")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = re.findall(r"\]\((?!https?://)([^)]+)\)", text)
    assert len(relative) > 10
    for site in ("", "https://example.org/p2mbatch"):
        made = readme.absolute(text, site)
        assert re.findall(r"\]\((?!https?://)", made) == []
        assert made.count(f"({site}/") >= len(relative) - 2 if site else "](" not in made


def test_what_the_description_links_to_is_on_the_site() -> None:
    """Each page of the site that an absolute link names is made of a page of docs."""
    readme = module(ROOT / "docs" / "readme.py")
    made = readme.absolute((ROOT / "README.md").read_text(encoding="utf-8"), "https://x.org")
    found = re.findall(r"\]\(https://x\.org/([^)#]+)", made)
    assert len(found) > 10
    for page in found:
        source = ROOT / "docs" / re.sub(r"\.html$", ".md", page)
        assert source.is_file() or page in readme.PAGES.values(), page
