"""What mkdocs does to the API pages beyond its plugins: docstrings name objects by Sphinx roles, Markdown has none."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:func|class|meth|mod|data|exc|attr):<code>(~?)([^<]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show ``:func:`~a.b.c``` as the code ``c``, and without the tilde as ``a.b.c``."""
    return _ROLE.sub(lambda m: f"<code>{m[2].rpartition('.')[2] if m[1] else m[2]}</code>", html)
