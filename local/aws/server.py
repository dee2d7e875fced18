"""The HTTP server: moto's application on 127.0.0.1, with the hooks in place."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from local.aws.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

log = logging.getLogger(__name__)


class Application:
    """Moto's WSGI application, made to understand presigned requests to services other than S3."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        query = environ.get("QUERY_STRING", "")
        if "X-Amz-Credential=" in query and "HTTP_AUTHORIZATION" not in environ:
            credential = parse_qs(query)["X-Amz-Credential"][0]
            if credential.split("/")[-2:-1] != ["s3"]:
                # moto finds service and caller in this header only.
                environ["HTTP_AUTHORIZATION"] = (
                    f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host"
                )
        return self._inner(environ, start_response)


class Server:
    """The emulator, listening on a free (or the given) port of 127.0.0.1."""

    def __init__(self, run_dir: Path, registry: str, port: int = 0) -> None:
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        logging.getLogger("moto").setLevel(logging.CRITICAL)  # the interpreter tells its whole state
        application = Application(DomainDispatcherApplication(create_backend_app))
        self._http = make_server(
            "127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler
        )
        port = self._http.server_port
        os.environ |= {"MOTO_HOST": "http://127.0.0.1", "MOTO_PORT": str(port)}
        self.emulator = Emulator(run_dir=run_dir, registry=registry, endpoint=f"http://127.0.0.1:{port}")
        _install(self.emulator)

    def start(self) -> None:
        """Serve from a thread."""
        threading.Thread(target=self._http.serve_forever, args=(0.1,), name="http", daemon=True).start()

    def stop(self) -> None:
        """Take no more requests, end every process that was started."""
        self.emulator.stopping.set()
        self._http.shutdown()
        self._http.socket.close()
        self.emulator.stop()


def _install(emulator: Emulator) -> None:
    from local.aws import clusters, images, state_machines
    from local.aws.builds import Builds
    from local.aws.events import Events
    from local.aws.functions import Functions
    from local.aws.queues import Queues
    from local.aws.training import Training

    functions = Functions(emulator)
    events = Events(emulator, functions)
    functions.install()
    events.install()
    Queues(emulator, functions).install()
    Training(emulator, events).install()
    Builds(emulator, events).install()
    images.install(emulator.registry)
    clusters.install(emulator)
    state_machines.install(emulator)
