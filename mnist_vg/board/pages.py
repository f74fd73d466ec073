"""The pages about symptoms, as HTML."""

import functools
import html
import re
from pathlib import Path

from tensorboard import plugin_util

PAGES = Path(__file__).with_name("symptoms")
"""The pages of `docs/symptoms`. An installed package has their texts, and not their pictures."""

_ELSEWHERE = re.compile(r"\[([^]]*)\]\(\.\./[^)]*\)")
"""Links to pages that the package does not have."""


def page_of(symptom: str) -> str | None:
    """The file of the page about a symptom; None where there is none."""
    name = f"{symptom.replace(',', '').replace(' ', '-')}.md"
    return name if name in _names() else None


@functools.cache
def _names():
    return {path.name for path in PAGES.glob("*.md")}


def as_html(page: Path) -> str:
    """A page as a whole document, with the tab's own style."""
    text = page.read_text()
    title = html.escape(text.partition("\n")[0].lstrip("# "))
    body = plugin_util.markdown_to_safe_html(_ELSEWHERE.sub(r"\1", text))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<link rel="stylesheet" href="../style.css"></head><body class="page">{body}</body></html>'
    )
