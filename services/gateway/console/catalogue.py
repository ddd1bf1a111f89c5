"""The console's text: gettext for templates and views, and the catalogue of all of it for translators.

``python -m services.gateway.console.catalogue`` writes the catalogue anew.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po
from babel.support import NullTranslations

CATALOGUE = Path(__file__).with_name("messages.pot")
TRANSLATIONS = NullTranslations()
_ = TRANSLATIONS.gettext

_METHODS = [("templates/**.html", "jinja2"), ("**.py", "python")]
_OPTIONS = {"templates/**.html": {"newstyle_gettext": "true"}}


def catalogue() -> str:
    """Returns the catalogue of the text as it is now, without times or lines, which would change with every edit."""
    found = Catalog(project="switchboard", creation_date=datetime(2026, 1, 1, tzinfo=UTC), fuzzy=False)
    texts = extract_from_dir(Path(__file__).parent, _METHODS, _OPTIONS, keywords={"_": None}, comment_tags=())
    for name, _line, text, _comments, _context in texts:
        found.add(text, locations=[(name, 0)])
    written = io.BytesIO()
    write_po(written, found, omit_header=True, include_lineno=False, sort_output=True)
    return written.getvalue().decode()


if __name__ == "__main__":
    CATALOGUE.write_text(catalogue())
