"""What pages load: our own style and script, and htmx and flags out of WebJars, whose hashes are checked.

Nothing is from the network while the console runs. Without the WebJars the pages still work, by plain links and forms.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import Response

import deploy
from services.gateway.problems import Problem
from services.infrastructure.embedded.jars import JarSet, cache_directory, manifest, verified_jars
from services.infrastructure.embedded.process import EmbeddedServerError

log = structlog.stdlib.get_logger(__name__)

WEBJARS = JarSet(
    manifest=Path(deploy.__file__).with_name("console-jars.toml"),
    holds="the console's libraries",
    otherwise="or use the console without them, and without live changes",
)
_OWN = Path(__file__).with_name("static")
_FROM_JARS = {
    "dist/htmx.min.js": "htmx.min.js",
    "htmx-ext-sse/2.2.2/sse.js": "sse.js",
}
_FLAGS = "/flags/4x3/"
_FLAG_OF = {"sh-ac": "ac", "sh-ta": "ta"}
"""Ascension and Tristan da Cunha have telephone numbers, and codes for them, but no ISO 3166-1 codes of their own."""

_PICTURE = re.compile(rb'url\("([a-z-]+\.svg)"\)')
_FOR_EVER = "public, max-age=31536000, immutable"
_COMPRESSED = ("text/", "image/svg")


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    media_type: str
    compressed: bytes | None


class Assets:
    """Files by name. An address has the hash of the file in it, so it can be kept for ever."""

    def __init__(self) -> None:
        self._files: dict[str, Asset] = {}
        self._hashes: dict[str, str] = {}
        for path in sorted(_OWN.iterdir(), key=lambda path: path.suffix != ".svg"):  # a style names pictures
            body = path.read_bytes()
            self._add(path.name, self._with_addresses(body) if path.suffix == ".css" else body)

    async def load_webjars(self) -> None:
        """Takes htmx and the flags from the WebJars, which are fetched if they are missing."""
        try:
            jars = await asyncio.to_thread(verified_jars, manifest(WEBJARS.manifest), cache_directory(), WEBJARS)
        except EmbeddedServerError as error:
            log.warning("console without its libraries", reason=str(error))
            return
        for jar in jars:
            await asyncio.to_thread(self._read_jar, jar)

    def _read_jar(self, path: Path) -> None:
        with zipfile.ZipFile(path) as jar:
            for inside in jar.namelist():
                name = next((name for end, name in _FROM_JARS.items() if inside.endswith(end)), None)
                if _FLAGS in inside and inside.endswith(".svg"):
                    flag = Path(inside).stem
                    name = f"flag-{_FLAG_OF.get(flag, flag)}.svg"
                if name is not None:
                    self._add(name, jar.read(inside))

    def _add(self, name: str, body: bytes) -> None:
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        compressed = gzip.compress(body, mtime=0) if media_type.startswith(_COMPRESSED) else None
        self._files[name] = Asset(body, media_type, compressed)
        self._hashes[name] = hashlib.sha256(body).hexdigest()[:16]

    def _with_addresses(self, style: bytes) -> bytes:
        return _PICTURE.sub(lambda name: f'url("{self.url(name[1].decode())}")'.encode(), style)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def url(self, name: str) -> str:
        """Returns the address of a file; an empty string if there is none of that name."""
        return f"/console/assets/{self._hashes[name]}/{name}" if name in self._files else ""

    def response(self, request: Request, digest: str, name: str) -> Response:
        """Raises `Problem`."""
        if self._hashes.get(name) != digest:
            raise Problem(404, "RouteUnknown", "The console has no such file.")
        asset = self._files[name]
        headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
        if asset.compressed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(asset.compressed, media_type=asset.media_type, headers=headers)
        return Response(asset.body, media_type=asset.media_type, headers=headers)


def main() -> None:
    """Fetches the WebJars, so that the console needs no network later."""
    try:
        verified_jars(manifest(WEBJARS.manifest), cache_directory(), WEBJARS)
    except EmbeddedServerError as error:
        sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    main()
