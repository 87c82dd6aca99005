"""A hook of MkDocs: links that leave docs/ lead to the repository, as they do where the pages are read there."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\]\(((?:\.\./)+[^)\s#]+)")
BRANCH = "blob/main"


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The page's text with ``../examples/x.py`` made a link to the repository; called by MkDocs for each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def outside(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[1]))
        if path.startswith("docs/"):
            return link[0]
        return f"]({config['repo_url']}/{BRANCH}/{path}"

    return _LINK.sub(outside, markdown)
