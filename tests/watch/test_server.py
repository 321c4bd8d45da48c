"""`segdecay watch` reads a run of another process: fixed paths, GET and HEAD, this machine alone, damage named."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from commands import Command
from small_search import SmallSearch

from segdecay.errors import ConfigError, RunError
from segdecay.runs.lock import WATCH_S, Holder
from segdecay.utils.files import read_json
from segdecay.watch.server import Watch
from segdecay.watch.state import Pulse, RunReader, read_progress


@contextmanager
def served(run: Path) -> Iterator[Watch]:
    with Watch(run, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: Watch, path: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def leave_lease(run: Path, count: int, host: str = "elsewhere") -> None:
    holder = asdict(Holder(host, 7, "", "token", count))
    (run / ".lease.json").write_text(json.dumps(holder), encoding="utf-8")


@pytest.fixture
def run(small_search: SmallSearch, tmp_path: Path) -> Path:
    """A copy of a finished search, to be changed."""
    return Path(shutil.copytree(small_search.run, tmp_path / "run"))


# --- the state --------------------------------------------------------------------------------------------------------


def test_a_finished_run_has_its_trials_scores_and_verdict(run: Path) -> None:
    state = RunReader(run).state()
    verdict = read_json(run / "verdict.json")
    assert (state["status"], state["command"], state["faults"]) == ("finished", "tune", [])
    assert state["result"]["sentence"] == verdict["sentence"]
    assert state["finished"] == len(list(run.glob("trials/*/*/trial.json")))
    means = {item["strength"]["value"]: item["mean"] for item in verdict["settings"]}
    shown = {float(item["name"].partition("=")[2]): item["mean"] for item in state["settings"]}
    assert shown == pytest.approx({value: mean for value, mean in means.items() if value in shown})
    assert state["left_s"] is None
    one = next(row for row in state["rows"] if row["place"] == "trials/total_decay=2/0-0")
    assert len(one["curve"]) == state["epochs"] == 6


def test_a_running_search_tells_its_race_and_the_time_left(run: Path) -> None:
    for name in ("verdict.json", "report.html"):
        (run / name).unlink()
    shutil.rmtree(run / "refit")
    (run / "trials" / "total_decay=0" / "1-0" / "trial.json").unlink()
    leave_lease(run, 3)
    state = RunReader(run).state()
    race = read_json(run / "race.json")
    assert state["status"] == "running"
    assert f"{race['trials']} of {race['least']} to {race['most']} trials of the race are finished" in state["race"]
    standings = {item["name"]: item["standing"] for item in state["settings"]}
    assert standings[race["leader"]] == "leads"
    assert set(standings.values()) <= {"leads", "in the race", "its folds are not complete", *race["dropped"].values()}
    (left,) = [row for row in state["rows"] if row["status"] == "running"]
    assert (left["setting"], left["fold"]) == ("total_decay=0", 2)
    took = sorted(row["seconds"] for row in state["rows"] if row["status"] == "finished")
    assert state["left_s"] == pytest.approx(took[len(took) // 2] * (race["most"] - state["finished"]), rel=0.5)


def test_a_run_that_nobody_works_on_is_stopped(run: Path) -> None:
    (run / "verdict.json").unlink()
    assert RunReader(run).state()["status"] == "stopped"


def test_a_lease_that_stops_changing_is_dead_and_a_changing_one_alive(tmp_path: Path) -> None:
    now = [100.0]
    pulse = Pulse(tmp_path, clock=lambda: now[0])
    assert not pulse.is_alive()
    leave_lease(tmp_path, 1)
    assert pulse.is_alive()
    now[0] += WATCH_S - 1
    assert pulse.is_alive()
    now[0] += 2
    assert not pulse.is_alive()
    leave_lease(tmp_path, 2)
    assert pulse.is_alive()


def test_a_half_written_trial_is_named_and_read_when_it_is_whole(run: Path) -> None:
    path = run / "trials" / "total_decay=0" / "0-0" / "trial.json"
    whole, reader = path.read_text(encoding="utf-8"), RunReader(run)
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    state = reader.state()
    assert len(state["faults"]) == 1
    assert "JSONDecodeError" in state["faults"][0]
    assert path.parent.relative_to(run).as_posix() not in [row["place"] for row in state["rows"]]
    path.write_text(whole, encoding="utf-8")
    again = reader.state()
    assert again["faults"] == []
    assert again["finished"] == state["finished"] + 1


@pytest.mark.parametrize("name", ["verdict.json", "race.json", "environment.json", "data.json"])
def test_damage_of_any_file_is_told_and_the_rest_is_shown(name: str, run: Path) -> None:
    (run / name).write_text('{"half', encoding="utf-8")
    state = RunReader(run).state()
    assert any(name in fault for fault in state["faults"])
    assert state["finished"] > 0


def test_the_curve_of_a_running_training_comes_from_its_checkpoint(tmp_path: Path) -> None:
    import torch

    from segdecay.training.checkpoint import pack_tensors

    path = tmp_path / "state.safetensors"
    path.write_bytes(pack_tensors({"model.w": torch.ones(3)}, {"epoch": 2, "curve": [{"epoch": 1, "loss": 0.5}]}))
    assert read_progress(path) == {"epoch": 2, "curve": [{"epoch": 1, "loss": 0.5}]}
    path.write_bytes(path.read_bytes()[:40])
    assert read_progress(path) == {}


# --- the server -------------------------------------------------------------------------------------------------------


def test_only_fixed_paths_are_served_and_nothing_of_the_disk(run: Path) -> None:
    with served(run) as server:
        assert ask(server, "/")[0] == ask(server, "/watch.js?x=1")[0] == ask(server, "/report.html")[0] == 200
        for path in ("/run.yaml", "/../run.yaml", "/%2e%2e/run.yaml", "//etc/passwd", "/state.json/..", "/trials/"):
            assert ask(server, path)[0] == 404
        status, headers, body = ask(server, "/state.json")
    assert (status, json.loads(body)["name"]) == (200, "run")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_other_names_and_other_methods_are_refused(run: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    with served(run) as server:
        port = server.server_address[1]
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            assert ask(server, "/state.json", Host=host)[0] == 421
        for host in ("127.0.0.1", f"localhost:{port}", "localhost:1", f"[::1]:{port}"):
            assert ask(server, "/state.json", Host=host)[0] == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            status, headers, _ = ask(server, "/state.json", method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD")
        status, headers, body = ask(server, "/state.json", "HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 100
        assert server.server_address[0] == "127.0.0.1"
    assert before == sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))


def test_dead_ends_are_told(segdecay: Command, run: Path, tmp_path: Path) -> None:
    assert "is no folder" in segdecay("watch", tmp_path / "nowhere", code=2).err
    (tmp_path / "empty").mkdir()
    assert "holds no run.yaml" in segdecay("watch", tmp_path / "empty", code=2).err
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        said = segdecay("watch", run, "--port", taken, code=2).err
    assert f"--port {taken} cannot be had (Address already in use)" in said
    with pytest.raises(ConfigError, match="0 to 65535; saw 70000"):
        Watch(run, 70000)
    with pytest.raises(RunError, match="is no folder"):
        RunReader(run / "run.yaml")


def test_a_run_that_disappears_is_told(run: Path) -> None:
    with served(run) as server:
        shutil.rmtree(run)
        found: dict[str, Any] = json.loads(ask(server, "/state.json")[2])
    assert "run.yaml" in found["error"]
