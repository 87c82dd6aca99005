"""A hook of MkDocs: links that leave docs/ lead nowhere on the site, so that they become paths in a checkout."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)\s#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page's text with ``[x](../examples/x.py)`` made ``x (`examples/x.py`)``; called by MkDocs for each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def outside(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        if path.startswith("docs/"):
            return link[0]
        return f"{link[1]} (`{path}`)" if link[1].strip("`") != path else f"`{path}`"

    return _LINK.sub(outside, markdown)
