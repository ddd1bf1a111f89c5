"""A Python client that openapi-python-client generates from the document that a gateway serves."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Self

PACKAGE = "switchboard_client"
_MADE = ("api", "models")


def generate(document: dict[str, Any], directory: Path) -> None:
    """Generates the package `PACKAGE` in the directory. Fails where the generator leaves anything out."""
    source = directory / "openapi.json"
    source.write_text(json.dumps(document))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # it formats with ruff
    arguments = ("generate", "--path", str(source), "--meta", "none", "--output-path", str(directory / PACKAGE))
    done = _run("openapi_python_client", *arguments, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arning" not in done.stdout, done.stdout


def type_errors(directory: Path) -> str:
    """What mypy finds in strict mode in what is made from the document; nothing where it finds nothing.

    The generator's own ``client.py`` is the same for every document.
    """
    options = ("--strict", "--follow-imports=silent", "--config-file=", "--no-error-summary")
    done = _run(
        "mypy", *options, "--cache-dir", str(directory / "cache"), *(f"{PACKAGE}/{one}" for one in _MADE), cwd=directory
    )
    return done.stdout + done.stderr


def _run(module: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", module, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


class GeneratedClient:
    """A context manager that calls operations by their ids. ``done`` collects those that were answered with success.

    ``path`` has parameters that every operation gets that has them.
    """

    def __init__(self, document: dict[str, Any], address: str, token: str, **path: str) -> None:
        client = importlib.import_module(f"{PACKAGE}.client").AuthenticatedClient
        self._models = importlib.import_module(f"{PACKAGE}.models")
        self._client = client(base_url=address, token=token)
        self._operations = {
            operation["operationId"]: operation
            for methods in document["paths"].values()
            for operation in methods.values()
        }
        self.path, self.done = path, set[str]()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(*error)

    @property
    def operations(self) -> set[str]:
        return set(self._operations)

    async def __call__(self, operation: str, body: object = None, status: int = 200, **parameters: Any) -> Any:
        """Returns the parsed answer, an object of a generated class. Fails on another status."""
        call = self._module(operation).asyncio_detailed
        known = inspect.signature(call).parameters
        parameters |= {name: value for name, value in self.path.items() if name in known and name not in parameters}
        if body is not None:
            reference = self._operations[operation]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            parameters["body"] = getattr(self._models, reference.rpartition("/")[2]).from_dict(body)
        answer = await call(client=self._client, **parameters)
        assert answer.status_code == status, (operation, answer.status_code, answer.content[:500])
        assert answer.parsed is not None, f"The client does not know {status} of {operation}."
        if status < 400:
            assert not isinstance(answer.parsed, self._models.Problem)
            self.done.add(operation)
        return answer.parsed

    async def problem(self, operation: str, status: int, body: object = None, **parameters: Any) -> str:
        """Returns the name of the problem that the operation is refused with."""
        problem = await self(operation, body, status, **parameters)
        assert isinstance(problem, self._models.Problem)
        assert problem.status == status
        assert problem.detail
        return str(problem.type_).removeprefix("urn:switchboard:problem:")

    def _module(self, operation: str) -> ModuleType:
        tag = self._operations[operation]["tags"][0].lower().replace(" ", "_")
        name = re.sub("(?<!^)(?=[A-Z])", "_", operation).lower()
        return importlib.import_module(f"{PACKAGE}.api.{tag}.{name}")
