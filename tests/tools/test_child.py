"""Tasks in processes of their own, and the file that keeps their records."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the tools import each other as tools.child


from tools.child import Child  # noqa: E402
from tools.records import append, read_lines  # noqa: E402
from tools.speed.cost import run_process  # noqa: E402

TASK = """
import json, os, subprocess, sys, time
task = json.loads(open(sys.argv[1]).read())
print("a word for the log")
if task["do"] == "crash":
    sys.exit(7)
if task["do"] == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(task["note"], "w").write(str(child.pid))
    time.sleep(60)
found = {"outcome": "ok", "threads": os.environ["OMP_NUM_THREADS"], "cwd": os.getcwd()}
open(sys.argv[2], "w").write(json.dumps(found))
"""


@pytest.fixture
def make(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a_task_of_a_test.py").write_text(TASK)
    (tmp_path / "scratch").mkdir()

    def child(limit: float) -> Child:
        return Child("a_task_of_a_test", [tmp_path / "code"], tmp_path / "logs", limit)

    return child


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody waited for has."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_task_gives_its_record_and_leaves_a_log(make, tmp_path):
    found = make(60).run({"do": "work"}, tmp_path / "scratch", "a/name")
    assert found == {"outcome": "ok", "threads": "1", "cwd": str(tmp_path / "scratch")}
    assert (tmp_path / "logs" / "a_name.log").read_text() == "a word for the log\n"


def test_a_task_that_ends_without_a_record_crashed(make, tmp_path):
    found = make(60).run({"do": "crash"}, tmp_path / "scratch", "name")
    assert (found["outcome"], found["error"]) == ("crashed", "process ended with 7")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_task_that_hangs_is_killed_with_its_children(make, tmp_path):
    note = tmp_path / "note"
    found = make(3).run({"do": "hang", "note": str(note)}, tmp_path / "scratch", "name")
    assert (found["outcome"], found["seconds"]) == ("hung", 3)
    assert gone(int(note.read_text()))


def test_a_line_that_was_cut_short_is_skipped_and_harms_no_later_one(tmp_path):
    path = tmp_path / "records.jsonl"
    assert read_lines(path) == []
    append(path, {"n": 1})
    with path.open("a") as lines:
        lines.write('{"n": 2, "half')
    append(path, {"n": 3})
    append(path, {"n": 4})
    assert [record["n"] for record in read_lines(path)] == [1, 3, 4]


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs wait4")
def test_a_measured_process_tells_its_memory(tmp_path):
    words = [sys.executable, "-c", "x = b'1' * (300 << 20)"]
    found = run_process(words, os.environ, tmp_path / "log", 60)
    assert found["outcome"] == "ok"
    assert 300 <= found["peak_mb"] < 600


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs wait4")
def test_the_memory_of_the_bench_itself_does_not_count(tmp_path):
    ballast = bytearray(b"1") * (300 << 20)
    found = run_process([sys.executable, "-c", ""], os.environ, tmp_path / "log", 60)
    assert found["peak_mb"] < len(ballast) >> 21


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs wait4")
@pytest.mark.parametrize(
    ("code", "limit", "outcome", "error"),
    [
        ("raise ValueError('why')", 60, "error", "ValueError: why"),
        ("import sys; sys.exit(3)", 60, "error", "it ended with 3"),
        ("import time; time.sleep(60)", 0.5, "hung", "no result after 0 s"),
    ],
)
def test_a_measured_process_that_fails_says_how(tmp_path, code, limit, outcome, error):
    found = run_process([sys.executable, "-c", code], os.environ, tmp_path / "log", limit)
    assert (found["outcome"], found["error"]) == (outcome, error)


def test_records_are_plain_lines(tmp_path):
    append(tmp_path / "r", {"a": [1, 2]})
    assert json.loads((tmp_path / "r").read_text()) == {"a": [1, 2]}
