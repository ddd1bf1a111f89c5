"""The one media type of data, as CloudEvents' ``datacontenttype`` and as HTTP's ``Content-Type``."""

from __future__ import annotations

import re

_PARAMETER = re.compile(r"""[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|"[^"]*")""")


def is_json_media_type(text: str) -> bool:
    """Whether it is ``application/json`` in UTF-8, in any case; other parameters than ``charset`` say nothing."""
    media_type, *parameters = (part.strip(" \t") for part in text.split(";"))
    if media_type.lower() != "application/json":
        return False
    given = [one for one in parameters if one]
    if not all(_PARAMETER.fullmatch(one) for one in given):
        return False
    charsets = [
        value.strip('"').lower()
        for name, _, value in (one.partition("=") for one in given)
        if name.lower() == "charset"
    ]
    return all(charset in ("utf-8", "utf8") for charset in charsets)
