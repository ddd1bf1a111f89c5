"""Screenshots of every view at three widths, light and dark: ``python -m tests.e2e.screenshots DIRECTORY``.

It starts a broker, a database and the services for itself, or uses what the tests' variables name.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

from tests.e2e.browser import Person, chromium, person
from tests.e2e.furnished import Furnished, furnish
from tests.installation import Installation, fresh, fresh_database
from tests.servers import servers

WIDTHS = {"desktop": 1280, "tablet": 834, "phone": 390}
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def main(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as place, servers(Path(place) / "servers") as found:
        dsn = fresh_database(found.dsn)
        services = Path(place) / "services"
        with Installation(found.bootstrap_servers, dsn, services, logins=found.logins) as installation:
            account = fresh("batik")
            furnished = furnish(installation, account)
            with chromium() as browser:
                for width_name, width in WIDTHS.items():
                    for scheme in SCHEMES:
                        api_key, viewport = installation.api_key(account), {"width": width, "height": 860}
                        visitor = person(browser, installation.address, api_key, viewport=viewport, color_scheme=scheme)
                        with visitor as somebody:
                            take(somebody, furnished, directory, f"{width_name}-{scheme}")


def take(somebody: Person, furnished: Furnished, directory: Path, suffix: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, path in furnished.views().items():
        somebody.visit(path)
        somebody.page.wait_for_timeout(150)  # pictures of flags
        has_dialog = somebody.page.locator("dialog[open]").count() > 0
        somebody.page.screenshot(path=directory / f"{name}-{suffix}.png", full_page=not has_dialog)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
