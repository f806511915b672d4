"""Collect what the documentation's site is made of, but for the reference.

    docs_source.py DIRECTORY

The pages are readable where they are, with links that work in a checkout. On the site all lie in one folder: the pages
of docs/, and those of the root under lower-case names. So links are written anew: ``docs/sharing.md`` of README.md
becomes ``sharing.md``, ``../README.md`` becomes ``readme.md``. What a page links to that is no page comes along.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_THE_ROOT = ("README.md", "CHANGELOG.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")


def on_the_site(path: Path) -> str:
    """Where a file of the repository is on the site."""
    inside = path.relative_to(ROOT)
    if str(inside) in OF_THE_ROOT:
        return inside.name.lower()
    return inside.relative_to("docs").as_posix() if inside.parts[0] == "docs" else inside.as_posix()


def collect(page: Path, directory: Path) -> None:
    """Write a page, with its links, and what they lead to that is no page."""

    def link(match: re.Match[str]) -> str:
        target = (page.parent / match[2]).resolve()
        if not target.is_file():
            raise SystemExit(f"{page.relative_to(ROOT)}: no file {match[2]}")
        place = directory / on_the_site(target)
        if target.suffix != ".md":
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, place)
        return f"{match[1]}{on_the_site(target)}{match[3]}"

    text = LINK.sub(link, page.read_text(encoding="utf-8"))
    (directory / on_the_site(page)).write_text(text, encoding="utf-8")


def main() -> None:
    """Collect all pages, and Sphinx's settings."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True)
    for page in [*(ROOT / name for name in OF_THE_ROOT), *sorted((ROOT / "docs").glob("*.md"))]:
        collect(page, directory)
    shutil.copy(ROOT / "docs" / "conf.py", directory)
    shutil.copytree(ROOT / "docs" / "style", directory / "style")


if __name__ == "__main__":
    main()
