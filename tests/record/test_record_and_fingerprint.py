"""What a record proves: the code, the machine, the files and the weights behind a number."""

import ast
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest
import torch

from lightning_sep import fingerprint as machine
from lightning_sep import record as records
from lightning_sep import sources
from lightning_sep.fingerprint import digest, fingerprint, software, weights_hash
from lightning_sep.record import misfits, read_record, supersede, write_record
from lightning_sep.settings import compose, groups
from lightning_sep.sources import reached

ROOT = Path(__file__).parents[2]
TANH = "lightning_sep.heads.tanh.Tanh"
SINE = "lightning_sep.heads.sine.Sine"


@pytest.fixture
def package(tmp_path):
    """A copy of the package whose files a test may edit; gives the hash of what tanh reaches."""
    shutil.copytree(
        ROOT / "lightning_sep",
        tmp_path / "lightning_sep",
        ignore=shutil.ignore_patterns("__pycache__"),
    )

    class Copy:
        folder = tmp_path / "lightning_sep"

        def hashes(self):
            script = (
                "from lightning_sep.sources import code_hash; "
                f"print(code_hash(['{TANH}']), code_hash(['{SINE}']))"
            )
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=tmp_path,
                env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout.split()

        def edit(self, name, old, new):
            path = self.folder / name
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new, 1))

    return Copy()


def test_fault_31_an_edited_head_is_other_code_and_undone_the_first_again(package):
    tanh, sine = package.hashes()
    package.edit("heads/tanh.py", "raw.squeeze(-1).tanh()", "0.01 * raw.squeeze(-1)")
    edited, other = package.hashes()
    assert edited != tanh
    assert other == sine
    package.edit("heads/tanh.py", "0.01 * raw.squeeze(-1)", "raw.squeeze(-1).tanh()")
    assert package.hashes() == [tanh, sine]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("heads/base.py", "class WaveformHead", "SURPRISE = 1\n\n\nclass WaveformHead"),
        ("training.py", "torch.manual_seed(self.seed)", "torch.manual_seed(self.seed + 1)"),
        ("callbacks/reweight.py", "pl_module.reweighting = self.rule", "pass"),
        ("callbacks/plan.py", 'group["lr"] = rate', 'group["lr"] = 2 * rate'),
    ],
)
def test_fault_31_what_every_run_of_it_goes_through_counts(package, name, old, new):
    before = package.hashes()
    package.edit(name, old, new)
    assert not set(before) & set(package.hashes())


@pytest.mark.parametrize("group", groups())
def test_fault_31_what_any_entry_of_settings_names_counts(group):
    if group in ("launcher", "tracking", "trainer"):  # they carry numbers around
        pytest.skip("decides no number")
    target = compose([]).tree[group]["_target_"]
    module = target.removeprefix("lightning_sep.").rpartition(".")[0]
    assert module in reached([target])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("heads/tanh.py", "from torch", "# a word about it\nfrom torch"),
        ("heads/sine.py", '"""', '"""Another text. '),
        ("record.py", "import json", "import json as json"),
    ],
)
def test_what_cannot_change_a_number_does_not_count(package, name, old, new):
    before = package.hashes()
    package.edit(name, old, new)
    assert package.hashes() == before


def test_the_rooms_that_decide_numbers_count_and_no_others():
    imported = {
        one: f"{one}.{min(path.stem for path in (sources.PACKAGE / one).glob('[a-z]*.py'))}"
        for one in ("nets", "heads", "losses", "reweighting", "functional", "tasks", "metrics")
    }
    for room, module in imported.items():
        assert module in reached([f"lightning_sep.{module}.Part"]), room
    for module in ("sweep.study", "leaderboard.board", "launchers.local", "tracking.settings"):
        assert module not in reached([f"lightning_sep.{module}.Part"])
    always = {
        "training",
        "callbacks.history",
        "callbacks.plan",
        "callbacks.reweight",
        "callbacks.watch",
    }
    assert always <= set(reached([]))


def test_imports_are_found_wherever_statements_stand():
    text = """
        import a
        class K:
            import b
            def f(x=lambda: 1):
                with x: import c
                async def g():
                    for _ in x: import d
                    else: import e
        while 1: import f
        else: import g
        try: import h
        except A: import i
        else: import j
        finally: import k
        match a:
            case 1:
                if a: import l
                elif b: import m
                else: import n
    """
    tree = ast.parse(textwrap.dedent(text))
    found = [one.names[0].name for one in sources._statements(tree) if isinstance(one, ast.Import)]
    assert "".join(found) == "abcdefghijklmn"


def test_what_a_loss_uses_is_reached_through_its_imports():
    found = sources.reached(["lightning_sep.losses.si_sdr.SiSdr"])
    assert {"losses.si_sdr", "losses.base", "functional.si_sdr", "training"} <= set(found)
    assert "heads.tanh" not in found
    assert sources.reached(["torch.nn.Linear", "somebody.else.Head"]) == sorted(sources.ALWAYS)


def test_a_fingerprint_says_what_changes_the_last_bits(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = fingerprint("cpu", True)
    assert seen["threads"] == torch.get_num_threads()
    assert seen["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert seen["env"] == {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert seen["device"] == "cpu"
    assert seen["torch"] == torch.__version__
    assert seen["versions"]["numpy"]
    build = hashlib.sha256(torch.__config__.show().encode()).hexdigest()
    assert build.startswith(seen["torch_build"])
    assert json.loads(json.dumps(seen)) == seen


def test_a_fingerprint_says_this_and_no_more(monkeypatch):
    seen = fingerprint("cpu", False)
    cpu = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    )
    cpu = {name.strip(): value.strip() for name, value in cpu.items()}
    flags = hashlib.sha256(cpu.get("flags", cpu.get("Features", "")).encode()).hexdigest()[:12]
    packages = {
        *("torch", "pytorch-lightning", "torchmetrics", "lhotse", "optuna", "wandb"),
        *("hydra-core", "numpy", "scipy", "soundfile", "soxr"),
    }
    expected = {
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu": cpu.get("model name", platform.processor()),
        "cpu_flags": flags,
        "deterministic": False,
        "device": "cpu",
    }
    assert {name: seen[name] for name in expected} == expected
    rest = {"torch", "torch_build", "threads", "cpu_capability", "env"}
    assert seen.keys() == expected.keys() | rest
    assert fingerprint("cpu", True) == {**seen, "deterministic": True}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    on_gpu = fingerprint("cuda", False)
    assert on_gpu["device"] == "a GPU"
    assert on_gpu["tf32"] is torch.backends.cuda.matmul.allow_tf32
    assert on_gpu.keys() == seen.keys() | {"cuda", "cudnn", "driver", "tf32"}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *[(name, True) for name in ("ATEN_CPU_CAPABILITY", "NVIDIA_TF32_OVERRIDE", "MKL_CBWR")],
        *[(name, True) for name in ("ONEDNN_X", "DNNL_X", "KMP_DETERMINISTIC_REDUCTION")],
        *[(name, False) for name in ("MKL_NUM_THREADS", "MKL_DYNAMIC", "OMP_NUM_THREADS")],
        *[(f"{name}_VERBOSE", False) for name in ("ONEDNN", "DNNL", "MKL")],
    ],
)
def test_variables_that_choose_kernels_are_part_of_a_fingerprint(monkeypatch, name, counts):
    monkeypatch.setenv(name, "1")
    assert (name in fingerprint("cpu", True)["env"]) is counts


def test_other_threads_are_another_fingerprint():
    before = torch.get_num_threads()
    one = digest(fingerprint("cpu", True))
    torch.set_num_threads(before + 1)
    try:
        assert digest(fingerprint("cpu", True)) != one
    finally:
        torch.set_num_threads(before)
    assert digest(fingerprint("cpu", True)) == one


def test_the_order_of_keys_does_not_change_a_digest():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_weights_are_told_by_name_type_shape_and_bits():
    state = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(2)}
    same = {"n": torch.tensor(2), "w": torch.arange(6.0).reshape(3, 2).T.reshape(2, 3)}
    first = weights_hash(state)
    assert weights_hash(dict(reversed(state.items()))) == first
    others = [
        {**state, "w": state["w"].reshape(3, 2)},
        {**state, "w": state["w"].double()},
        {**state, "w": state["w"] + torch.finfo(torch.float32).eps},
        {"v": state["w"], "n": state["n"]},
        {**state, "w": state["w"].bfloat16()},
        same,
        {"w": state["w"]},
    ]
    assert len({first, *(weights_hash(other) for other in others)}) == 8
    assert weights_hash({"w": state["w"].T.contiguous().T, "n": state["n"]}) == first


def test_the_software_is_that_of_the_checkout(monkeypatch):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    machine._code.cache_clear()
    seen = software()
    assert seen["code_revision"] == head.stdout.strip()
    lock = hashlib.sha256((ROOT / "constraints.txt").read_bytes()).hexdigest()
    assert seen["lock_hash"] == lock
    assert seen["installed_hash"]


def test_the_code_that_ran_counts_files_that_git_does_not_know(package, tmp_path):
    def seen():
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import json; from lightning_sep.fingerprint import software; "
                "print(json.dumps(software()))",
            ],
            env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    (tmp_path / "conf").mkdir()
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    subprocess.run(commit, cwd=tmp_path, check=True)
    clean = seen()
    assert clean["uncommitted_hash"] is None
    (package.folder / "heads" / "mine.py").write_text("A = 1\n")
    first = seen()
    (package.folder / "heads" / "mine.py").write_text("A = 2\n")
    second = seen()
    assert None not in (first["uncommitted_hash"], second["uncommitted_hash"])
    assert first["uncommitted_hash"] != second["uncommitted_hash"]
    assert len({one["code_hash"] for one in (clean, first, second)}) == 3


RECORD = {"run_id": "abc", "state": "finished", "metrics": {"test/r2": 0.5}, "note": "ü"}


def test_a_record_is_written_once_and_the_first_stands(tmp_path):
    first = write_record(tmp_path, RECORD)
    again = write_record(tmp_path, {**RECORD, "metrics": {"test/r2": 0.9}})
    assert again == first == read_record(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_result_replaces_a_failure_and_never_the_other_way(tmp_path):
    write_record(tmp_path, {**RECORD, "state": "failed"})
    write_record(tmp_path, {**RECORD, "state": "pruned"})
    assert read_record(tmp_path)["state"] == "pruned"
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path)["state"] == "finished"
    for state in ("failed", "pruned"):
        assert write_record(tmp_path, {**RECORD, "state": state})["state"] == "finished"


def test_a_finished_record_is_never_put_aside(tmp_path):
    write_record(tmp_path, RECORD)
    number = tmp_path.stat().st_mtime_ns
    supersede(tmp_path)
    assert read_record(tmp_path)["state"] == "finished"
    assert tmp_path.stat().st_mtime_ns == number, "not for a moment"


@pytest.mark.parametrize("text", ['{"format": 3, "state": "finished"}', "[1]", "{}", "2"])
def test_what_is_no_record_of_a_known_format_is_not_read(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    assert read_record(tmp_path) is None


def test_a_torn_record_is_put_aside_and_gives_way(tmp_path):
    (tmp_path / "record.json").write_text('{"format": 2, "state": "fin')
    supersede(tmp_path)
    [kept] = tmp_path.iterdir()
    assert kept.name.startswith("record.json.damaged-")
    assert kept.read_text() == '{"format": 2, "state": "fin'
    assert read_record(tmp_path) is None
    assert write_record(tmp_path, RECORD) == read_record(tmp_path)


def test_a_record_that_is_finished_meanwhile_is_put_back(tmp_path, monkeypatch):
    """As by a copy that was frozen after it had read that the run had failed."""
    write_record(tmp_path, RECORD)
    before = read_record(tmp_path)
    monkeypatch.setattr(records, "read_record", lambda folder: {"state": "failed"})
    supersede(tmp_path)
    monkeypatch.undo()
    assert read_record(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def run_folder(tmp_path):
    folder = tmp_path / "abc"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "test_examples.1.json").write_text("{}")
    (folder / "checkpoints" / "best.1.ckpt").write_bytes(b"weights")
    known = {
        "examples_file": "test_examples.1.json",
        "checkpoints": {"best.1.ckpt": hashlib.sha256(b"weights").hexdigest()},
        "hashes": {"examples": hashlib.sha256(b"{}").hexdigest()},
    }
    return folder, write_record(folder, RECORD | known)


def test_a_record_fits_its_files(tmp_path):
    folder, record = run_folder(tmp_path)
    assert misfits(folder, record, checkpoint=True) == []
    assert misfits(folder, read_record(folder), checkpoint=True) == []


def test_an_edited_number_is_named(tmp_path):
    folder, record = run_folder(tmp_path)
    record["metrics"]["test/r2"] = 0.9
    (said,) = misfits(folder, record)
    assert "record.json was changed" in said


def test_a_record_of_another_run_is_named(tmp_path):
    folder, record = run_folder(tmp_path)
    moved = folder.rename(tmp_path / "def")
    (said,) = misfits(moved, record)
    assert "is the record of run abc" in said


@pytest.mark.parametrize("name", ["../abc/test_examples.1.json", 7])
def test_a_record_vouches_for_files_of_its_own_folder_alone(tmp_path, name):
    folder, record = run_folder(tmp_path)
    (folder / "record.json").unlink()
    (said,) = misfits(folder, write_record(folder, record | {"examples_file": name}))
    assert f"names {name!r}, which is no file of its folder" in said


@pytest.mark.parametrize("name", ["test_examples.1.json", "checkpoints/best.1.ckpt"])
def test_a_file_that_is_not_as_it_was_is_named(tmp_path, name):
    folder, record = run_folder(tmp_path)
    (folder / name).write_text("other")
    (said,) = misfits(folder, record, checkpoint=True)
    assert f"{name} was changed" in said
    (folder / name).unlink()
    (said,) = misfits(folder, record, checkpoint=True)
    assert f"{name} is not there" in said


@pytest.mark.parametrize("hashes", [None, [], {}])
def test_a_record_without_its_hashes_is_no_proof(tmp_path, hashes):
    folder, record = run_folder(tmp_path)
    assert misfits(folder, {**record, "hashes": hashes})


def test_a_record_of_format_1_is_read(tmp_path):
    old = {"format": 1, "run_id": "abc", "state": "finished", "metrics": {"test/r2": 0.5}}
    (tmp_path / "record.json").write_text(json.dumps(old))
    assert read_record(tmp_path) == old
    assert misfits(tmp_path, old) == []


def test_a_record_of_a_state_that_nobody_knows_gives_way(tmp_path):
    (tmp_path / "record.json").write_text('{"format": 2, "state": "asleep", "hashes": {}}')
    assert write_record(tmp_path, dict(RECORD))["state"] == RECORD["state"]
