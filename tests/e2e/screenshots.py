"""Screenshots of every view at three widths, light and dark: ``python -m tests.e2e.screenshots DIRECTORY``.

It starts a broker, a database and the services for itself, or uses what the tests' variables name.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

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
            customer, operator = installation.api_key(account), installation.api_key(None)
            with chromium() as browser:
                for width_name, width in WIDTHS.items():
                    for scheme in SCHEMES:
                        suffix = f"{width_name}-{scheme}"
                        looks: dict[str, Any] = {"viewport": {"width": width, "height": 860}, "color_scheme": scheme}
                        with person(browser, installation.address, customer, **looks) as somebody:
                            take(somebody, furnished.views(), directory, suffix)
                            take_what_if(somebody, furnished, directory, suffix)
                        with person(browser, installation.address, operator, **looks) as somebody:
                            take(somebody, {"health": "health"}, directory, suffix)


def take(somebody: Person, views: dict[str, str], directory: Path, suffix: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, path in views.items():
        somebody.visit(path)
        somebody.page.wait_for_timeout(150)  # pictures of flags
        has_dialog = somebody.page.locator("dialog[open]").count() > 0
        somebody.page.screenshot(path=directory / f"{name}-{suffix}.png", full_page=not has_dialog)


def take_what_if(somebody: Person, furnished: Furnished, directory: Path, suffix: str) -> None:
    somebody.service_settings(furnished.channel)
    scheduling = somebody.page.get_by_role("region", name="OTP Delivery Scheduling")
    scheduling.get_by_role("button", name="What if").click()
    scheduling.get_by_role("table").wait_for()
    scheduling.screenshot(path=directory / f"what-if-{suffix}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
