"""A W&B server on the loopback: as much of one as an upload asks for, and all that it was told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

KEY = "0" * 40


@dataclass
class RunOnServer:
    """What the server has of a run."""

    entity: str
    project: str
    told: dict[str, Any] = field(default_factory=dict)  # the last word of each variable
    lines: list[str] = field(default_factory=list)  # of the history, in order of their offsets
    sent: list[str] = field(default_factory=list)  # whatever was sent of it, doubles too
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    complete: bool | None = None  # None until the client says that it has ended
    exit_code: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def stream(self, sent: dict[str, Any]) -> None:
        """Take a piece of the history, at the offset that it names."""
        files = sent.get("files", {})
        if part := files.get("wandb-history.jsonl"):
            self.lines[part["offset"] :] = []
            self.lines += part["content"]
            self.sent += part["content"]
        if part := files.get("wandb-summary.json"):
            self.summary = json.loads(part["content"][-1])
        if sent.get("complete") is not None:
            self.complete, self.exit_code = sent["complete"], sent.get("exitcode")


class Server(ThreadingHTTPServer):
    """What was told, by run id."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, RunOnServer] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.queries: list[str] = []
        self.views: list[dict[str, Any]] = []
        self.refuse = False  # as a server that is down

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, **more: str) -> dict[str, str]:
        """What a client of it finds in its environment."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, **more}

    def answer(self, text: str, given: dict[str, Any]) -> dict[str, Any]:
        """What a query or mutation gets."""
        name = text.replace("(", " ").replace("{", " ").split()[1]
        self.queries.append(name)
        handle = getattr(self, f"_{name}", None)
        return {} if handle is None else handle(given)

    def _Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": []}
        return {
            "viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}"}
            | {"teams": teams}
        }

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        bucket = None
        if run is not None:
            bucket = {
                "name": given["name"],
                "id": given["name"],
                "historyLineCount": len(run.lines),
                "eventsLineCount": 0,
                "logLineCount": 0,
                "history": json.dumps(run.lines[-1:]),
                "events": "[]",
                "historyTail": json.dumps(run.lines[-1:]),
                "eventsTail": "[]",
                "summaryMetrics": json.dumps(run.summary),
                "config": json.dumps({key: {"value": one} for key, one in run.config.items()}),
                "tags": run.told.get("tags") or [],
                "displayName": run.told.get("displayName"),
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": {"id": "p", "name": given.get("project"), "bucket": bucket}}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("name") or given["id"]
        entity, project = given.get("entity") or "me", given.get("project") or "uncategorized"
        new = name not in self.runs
        run = self.runs.setdefault(name, RunOnServer(entity, project))
        run.told |= {key: value for key, value in given.items() if value is not None}
        if given.get("config"):
            told = json.loads(given["config"])
            run.config |= {key: one.get("value") for key, one in told.items()}
        bucket = {
            "id": name,
            "name": name,
            "displayName": run.told.get("displayName"),
            "description": "",
            "config": json.dumps({key: {"value": one} for key, one in run.config.items()}),
            "sweepName": None,
            "project": {"id": "p", "name": project, "entity": {"id": "e", "name": entity}},
            "historyLineCount": len(run.lines),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        where = f"{self.url}/storage/{given['run']}"
        files = [{"name": one, "uploadUrl": f"{where}/{one}"} for one in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        asked = given["input"]
        number = f"a{len(self.artifacts)}"
        self.artifacts[number] = asked
        artifact = {"id": number, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/storage/{given['artifactID']}/manifest.json"
        file = {"id": "f", "name": "m", "displayName": "m", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for one in given["input"]["artifactFiles"]:
            path = f"{one['artifactID']}/{one['name']}"
            node = {
                "id": path,
                "name": one["name"],
                "displayName": one["name"],
                "uploadUrl": f"{self.url}/storage/{path}",
                "uploadHeaders": [],
                "storagePath": path,
                "uploadMultipartUrls": None,
                "artifact": {"id": one["artifactID"]},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _UpsertView2(self, given: dict[str, Any]) -> dict[str, Any]:
        self.views.append(given | {"spec": json.loads(given["spec"])})
        return {"upsertView": {"view": {"id": "v", "name": given["name"]}, "inserted": True}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[given["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if self.server.refuse:
            return self._say(503, b"{}")
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            data = self.server.answer(asked["query"], asked.get("variables") or {})
            return self._say(200, json.dumps({"data": data}).encode())
        if self.path.endswith("/file_stream"):
            self.server.runs[self.path.split("/")[-2]].stream(json.loads(body))
        return self._say(200, b"{}")

    def do_PUT(self) -> None:
        body = self._body()
        name, _, path = unquote(self.path).removeprefix("/storage/").partition("/")
        if name in self.server.runs:
            self.server.runs[name].files[path] = body
        elif name in self.server.artifacts:
            self.server.artifacts[name].setdefault("files", {})[path] = body
        self._say(200, b"")

    def do_GET(self) -> None:
        self._say(200, b"{}")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _say(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server that ends with the block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
