"""The command as a user meets it: what it prints, and how it ends."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from tests.evaluate.compare.other_programs import scored, write_lm_eval
from tests.fabricated_run import change_record, fabricate

from inhouse.api.settings import ServeSettings
from inhouse.cli.app import app, main
from inhouse.cli.chat import opening
from inhouse.common.files import write_json
from inhouse.common.lineage import OUTDATED
from inhouse.engine.settings import ServingSettings


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def inhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command in this process (a new one takes seconds to import torch), in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["inhouse", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return Done(end.value.code or 0, *capsys.readouterr())  # type: ignore[arg-type]

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "text").mkdir()
    for i in range(40):
        (tmp_path / "text" / f"{i}.md").write_text(f"# Page {i}\n" + f"The number {i} follows {i - 1}. " * 20)
    path = tmp_path / "mine.toml"
    path.write_text("[[data.sources]]\npath = 'text'\nname = 'mine'\n[tokenizer]\nvocab_size = 270\n")
    return path


def test_help_names_the_verbs(inhouse: Callable[..., Done]) -> None:
    done = inhouse("--help")
    assert done.status == 0
    assert all(verb in done.out for verb in ("make", "chat", "serve", "eval", "compare", "plan", "trace"))


def test_two_results_are_compared(inhouse: Callable[..., Done], tmp_path: Path) -> None:
    for name, scores in (("a", [1.0] * 20), ("b", [0.0] * 8 + [1.0] * 12)):
        write_lm_eval(tmp_path / name, {"letters": scored(scores)})
    done = inhouse("compare", "a", "b", "--html", "page.html")
    assert (done.status, done.err) == (0, "")
    assert "A is a, B is b\nA is better on letters.\n" in done.out
    assert "A scores higher on 8" in (tmp_path / "page.html").read_text()
    assert json.loads(inhouse("compare", "a", "b", "--json").out)["tasks"][0]["a_higher"] == 8
    done = inhouse("compare", "a", "http://localhost/v1")
    assert (done.status, done.err.count("\n")) == (2, 1)


def test_conversations_are_shown_before_anything_is_trained(inhouse: Callable[..., Done], recipe: Path) -> None:
    own = recipe.with_name("own.jsonl")
    own.write_text('{"prompt": "q", "completion": "a\\u001b[31m"}\n{"instruction": "q", "output": "b"}\n')
    with recipe.open("a") as file:
        file.write('[sft]\nconversations = ["own.jsonl"]\n')
    done = inhouse("sft", "show", recipe, "--number", "1")
    assert (done.status, done.out.count("── ")) == (0, 6)
    assert f"{own}, line 1: prompt/completion; " in done.out
    assert "<|im_start|>assistant↵\n⟦a␛[31m<|im_end|>⟧↵" in done.out
    assert "each byte counts as a token" in done.err
    assert inhouse("make", recipe, "--until", "tokenizer").status == 0
    done = inhouse("sft", "show", recipe, "--file", own)
    assert (done.status, done.err, done.out.count("── ")) == (0, "", 2)
    own.write_text("{}")
    done = inhouse("sft", "show", recipe)
    assert done.status == 2
    assert "own.jsonl, line 1: no known layout: it has no keys" in done.err


def test_emit_prints_a_job_or_writes_it(inhouse: Callable[..., Done], tmp_path: Path) -> None:
    done = inhouse("make", "preview", "--emit", "slurm", "--set", "cluster.queue=big")
    assert (done.status, done.out.count("--partition=big"), list(tmp_path.iterdir())) == (0, 1, [])
    arguments = ["make", "preview", "--emit", "kubernetes", "--set", "cluster.image=x", "--set", "cluster.volume=y"]
    assert inhouse(*arguments, "--output", "job.json").status == 0
    assert json.loads((tmp_path / "job.json").read_text())["kind"] == "List"


def test_a_job_carries_every_option_of_the_command_or_refuses_it(inhouse: Callable[..., Done]) -> None:
    """Whatever options `make` has: a value for each is taken into the job's own command, or a sentence says why not."""
    values = {"until": "pretrain", "output": "job.sh", "runs": "elsewhere", "anew": "sft", "overrides": "seed=3"}
    values |= {"profile": "step=100:105"}
    command = typer.main.get_command(app).commands["make"]  # type: ignore[attr-defined]
    for option in command.params:
        if option.name in ("recipe", "emit", "output"):
            continue
        flag = max(option.opts, key=len)
        given = [flag] if option.is_flag else [flag, values[option.name]]
        done = inhouse("make", "preview", "--emit", "slurm", *given)
        if done.status == 0:
            job = shlex.split(next(line for line in done.out.splitlines() if " -m inhouse make " in line))
            at = job.index(flag, job.index("make"))
            assert option.is_flag or job[at + 1].endswith(given[1]) or given[1] in job, flag
        else:
            assert done.err.startswith("inhouse: "), flag
            assert flag in done.err
    assert " --debug " in inhouse("make", "preview", "--emit", "slurm", "--debug").out


def test_a_job_for_another_machine_may_name_text_that_is_only_there(inhouse: Callable[..., Done]) -> None:
    there = ["--set", "data.sources.0.path=not-here"]
    assert inhouse("make", "preview", "--emit", "slurm", *there).status == 0
    assert "not-here does not exist" in inhouse("make", "preview", *there).err


def test_a_rehearsal_prints_what_a_process_holds_and_sends(inhouse: Callable[..., Done], tmp_path: Path) -> None:
    layout = ["--set", "parallel.shard=2", "--set", "model.size=tiny", "--set", "tokenizer.vocab_size=300"]
    done = inhouse("plan", "preview-moe", "--dry-run", "--world", "2", *layout)
    assert done.status == 0, done.err
    for name in ("One process of 2", "padding", "optimizer state", "all-gather", "reduce-scatter", "all processes"):
        assert name in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_every_number_and_writes_nothing(inhouse: Callable[..., Done], tmp_path: Path) -> None:
    done = inhouse("make", "preview", "--dry-run")
    assert done.status == 0, done.err
    for name in ("vocab_size", "hidden_size", "active parameters", "64 × depth", "steps × batch_tokens"):
        assert name in done.out
    assert list(tmp_path.iterdir()) == []


def test_documents_are_shown_before_anything_is_made(
    inhouse: Callable[..., Done], recipe: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = inhouse("data", "show", recipe, "--number", "2", "--source", "mine", "--set", "data.holdout_one_in=2")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("  mine, ") == 2 and done.out.splitlines()[-1].startswith("2 of 2 documents read are shown")
    heldout = inhouse("data", "show", recipe, "--heldout", "--number", "1", "--set", "data.holdout_one_in=2").out
    assert "held out" in heldout.splitlines()[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_source_is_named_with_its_line_before_anything_is_written(
    inhouse: Callable[..., Done], recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("'text'", "'no-such-text'"))
    for option in (["--dry-run"], []):
        done = inhouse("make", recipe, *option)
        where = tmp_path / "no-such-text"
        assert (
            done.err == f"inhouse: {recipe}, line 2: {where} does not exist; correct the path or put the file there\n"
        )
        assert done.status == 2
        assert not (tmp_path / "runs").exists()


def test_a_setting_that_does_nothing_and_too_many_passes_are_noted(inhouse: Callable[..., Done], recipe: Path) -> None:
    done = inhouse("make", recipe, "--dry-run", "--set", "model.architecture=qwen3", "--set", "model.num_experts=4")
    assert done.status == 0
    first, second = done.err.splitlines()
    assert first.startswith("note: [model] num_experts has no effect")
    assert second.startswith("note: ") and "passes over the text" in second
    assert "tokens of text" in done.out


def test_the_version_is_that_of_the_package(inhouse: Callable[..., Done]) -> None:
    assert inhouse("--version")[:2] == (0, f"inhouse {metadata.version('inhouse')}\n")


@pytest.mark.parametrize(
    "arguments",
    ["make nothing", "make preview --until x", "make preview --set seed=x", 
     "make preview --set model.context=64 --set pretrain.sequence_length=128",
     "make preview --emit pbs", "make preview --emit slurm --dry-run", "make preview --emit slurm --until x",
     "make preview --emit kubernetes", "make preview --profile 100:105", "make preview --profile step=105:100",
     "make preview --profile step=100:100000 --dry-run",
     "make preview --output x", "plan preview", "plan preview --dry-run --world 3",
     "data show nothing", "data show preview --source x", "data show preview --set data.split_at=",
     "chat nothing", "serve .", "trace .", "eval ."],
)  # fmt: skip
def test_mistakes_are_one_line_on_stderr(inhouse: Callable[..., Done], arguments: str) -> None:
    done = inhouse(*arguments.split())
    assert done.status == 2
    assert done.err.startswith("inhouse: ")
    assert len(done.err.splitlines()) == 1


def test_arguments_that_do_not_parse_show_the_usage(inhouse: Callable[..., Done]) -> None:
    assert inhouse("make").status == 2
    done = inhouse("mkae", "preview")
    assert done.status == 2
    assert "mkae" in done.err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["inhouse", "make", "nothing", "--debug"])
    with pytest.raises(ValueError, match="no such recipe"):
        main()


def test_what_goes_wrong_in_inhouse_itself_says_so(
    inhouse: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise KeyError("x")

    monkeypatch.setattr("inhouse.recipe.ready.find_recipe", broken)
    done = inhouse("make", "preview")
    assert (done.status, done.err) == (1, "inhouse: internal error (KeyError: 'x'); --debug shows where\n")


def test_an_api_key_must_be_where_its_variable_says(inhouse: Callable[..., Done]) -> None:
    done = inhouse("serve", ".", "--api-key-env", "NO_SUCH_VARIABLE")
    assert (done.status, "NO_SUCH_VARIABLE: this environment variable is not set" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("is_chat", "generated", "said"),
    [
        (False, {}, "mine is a base model: it goes on from your text, and answers no questions. Ctrl-D leaves."),
        (True, {"addition": 5, "strings": 0, "brackets": 1}, "mine was taught to answer addition, brackets; "),
        (True, {}, "mine answers what its conversations taught it. Ctrl-D leaves."),
    ],
)
def test_chat_opens_with_what_the_model_knows_and_how_to_leave(
    is_chat: bool, generated: dict[str, int], said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "conversations.json").write_text(json.dumps({"generated": generated}))
    said_first = opening(folder, is_chat)
    assert said_first.startswith(said)
    assert said_first.endswith("Ctrl-D leaves.")


def test_runs_are_listed_and_what_lies_aside_goes_only_when_told(inhouse: Callable[..., Done], tmp_path: Path) -> None:
    run = fabricate(tmp_path / "runs" / "mine")
    write_json(run / OUTDATED, {"evaluate": "more [problems]"})
    (run / ".aside" / "sft-1").mkdir(parents=True)
    (run / ".aside" / "sft-1" / "weights").write_bytes(b"0" * 1_500)
    listed = inhouse("runs")
    assert listed.status == 0
    for what in ("mine", "finished", "1.5 kB", "evaluate: more [problems]"):
        assert what in listed.out
    refused = inhouse("runs", "prune", "mine")
    assert (refused.status, refused.err) == (
        2,
        "inhouse: nothing was deleted; add --yes to delete without a question\n",
    )
    assert "1.5 kB  runs/mine/.aside/sft-1" in refused.out
    assert (run / ".aside" / "sft-1").exists()
    assert inhouse("runs", "prune", "mine", "--yes").status == 0
    assert not (run / ".aside" / "sft-1").exists()
    assert inhouse("runs", "prune", "mine").out == "runs/mine: nothing lies aside\n"
    assert inhouse("runs", "prune", "theirs").status == 2


def test_hours_of_work_are_not_repeated_without_a_terminal(
    inhouse: Callable[..., Done], recipe: Path, tmp_path: Path
) -> None:
    assert inhouse("make", recipe, "--until", "data").status == 0
    run = tmp_path / "runs" / "mine"
    change_record(run, "data", seconds=7200.0)
    before = (run / "data" / "stage.json").read_bytes()
    (tmp_path / "text" / "0.md").write_text("# Another page\n" + "Other words stand here. " * 20)
    refused = inhouse("make", recipe, "--until", "data")
    assert refused.status == 2
    assert "text of source mine changed; this would make anew data (2 h 00 min), 2 h 00 min of work" in refused.err
    assert refused.err.endswith("or add --anew data\n")
    assert (run / "data" / "stage.json").read_bytes() == before
    assert inhouse("make", recipe, "--until", "data", "--anew", "data").status == 0


@pytest.mark.parametrize("verb", [("chat", "--prompt", "x"), ("serve",), ("eval",)])
def test_a_stale_model_is_told_before_it_is_opened(
    inhouse: Callable[..., Done], tmp_path: Path, verb: tuple[str, ...]
) -> None:
    run = fabricate(tmp_path / "runs" / "mine", until="sft")
    (run / "sft" / "config.json").write_text("{}")
    write_json(run / OUTDATED, {"sft": "sft.epochs: 1 → 2"})
    assert "runs/mine/sft is stale (sft.epochs: 1 → 2)" in inhouse(verb[0], "runs/mine", *verb[1:]).err


def test_make_until_a_stage_then_again_then_trace(inhouse: Callable[..., Done], recipe: Path, tmp_path: Path) -> None:
    first = inhouse("make", recipe, "--until", "tokenizer")
    assert first.status == 0, first.err
    run = tmp_path / "runs" / "mine"
    assert sorted(path.name for path in run.iterdir()) == [".lock", "data", "report.html", "tokenizer"]
    assert inhouse("make", recipe, "--until", "tokenizer").out.count("done before") == 2
    traced = inhouse("trace", "runs/mine", "--verify")
    assert traced.status == 0
    assert "mine (" in traced.out
    assert "verified" in traced.out
    (tmp_path / "text" / "0.md").write_text("# Another page\n" + "Other words stand here. " * 20)
    assert "data: text of source mine changed: made anew" in inhouse("make", recipe, "--until", "data").out
    broken = inhouse("trace", "runs/mine", "--verify")
    assert broken.status == 2
    assert "was made from another data" in broken.err


def test_the_report_is_of_what_is_there_and_says_what_is_stale(inhouse: Callable[..., Done], recipe: Path) -> None:
    """Also where the run ended, or the machine died, after a stage and before the report."""
    assert inhouse("make", recipe, "--until", "tokenizer").status == 0
    report = Path("runs/mine/report.html")
    os.utime(report, (1, 1))
    assert inhouse("make", recipe, "--until", "tokenizer").status == 0
    assert report.stat().st_mtime > 1
    assert "stale" not in report.read_text()
    changed = ("--set", "tokenizer.vocab_size=280")
    assert inhouse("make", recipe, *changed, "--until", "data").status == 0
    assert "vocab_size: 270 → 280" in report.read_text()
    assert inhouse("make", recipe, "--until", "data").status == 0
    assert "vocab_size: 270 → 280" not in report.read_text()


def test_a_stage_that_would_not_be_made_cannot_be_made_anew(inhouse: Callable[..., Done], recipe: Path) -> None:
    done = inhouse("make", recipe, "--until", "data", "--anew", "pretrain")
    assert done.status == 2
    assert done.err.endswith("inhouse: --anew pretrain comes after --until data: it would not be made\n")


def test_a_run_is_not_its_own_base(inhouse: Callable[..., Done], recipe: Path, tmp_path: Path) -> None:
    fabricate(tmp_path / "runs" / "mine")
    done = inhouse("make", recipe, "--set", "model.base=runs/mine", "--dry-run")
    assert done.status == 2


def test_patterns_are_shown_as_they_are(inhouse: Callable[..., Done], recipe: Path) -> None:
    changed = ("--set", 'data.sources.0.include=["[a-z]*.md"]', "--set", "data.split_at=[/INST]")
    done = inhouse("make", recipe, *changed, "--dry-run")
    assert done.status == 0, done.err
    assert "[a-z]*.md" in done.out and "[/INST]" in done.out


def test_a_terminal_that_knows_few_letters_stops_nothing(recipe: Path, tmp_path: Path) -> None:
    """Nor does the name of a folder that is no UTF-8."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.move(recipe.parent / "text", folder / "text")
    shutil.move(recipe, folder / "mine.toml")
    command = [sys.executable, "-m", "inhouse", "make", "mine.toml", "--until", "tokenizer"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    for changed in ([], ["--set", "tokenizer.vocab_size=280"]):
        done = subprocess.run(command + changed, cwd=folder, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
    assert b"270 \\u2192 280" in done.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_one_sentence(recipe: Path, tmp_path: Path, number: int, status: int) -> None:
    arguments = ["make", recipe, "--set", "model.size=tiny", "--set", "pretrain.tokens=100000000",
                 "--set", "pretrain.compile=false", "--set", "pretrain.batch_tokens=1024",
                 "--set", "pretrain.sequence_length=128"]  # fmt: skip
    command = [sys.executable, "-m", "inhouse", *map(str, arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        metrics = tmp_path / "runs" / "mine" / ".pretrain.partial" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait(180) == status
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith(
        "inhouse: stopped in pretrain; its checkpoints and every finished stage are kept in runs/mine"
    )
    assert (tmp_path / "runs" / "mine" / "tokenizer" / "stage.json").exists()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], tuple[ServeSettings, ServingSettings]]:
    """The settings that `serve` was called with."""
    given: list[tuple[ServeSettings, ServingSettings]] = []
    monkeypatch.setattr("inhouse.common.model_paths.find_model", lambda path: path)
    monkeypatch.setattr("inhouse.serve.server.serve", lambda *args, engine, **options: given.append((args[4], engine)))
    return lambda: given[-1]


def test_every_setting_of_the_server_is_an_option_a_variable_and_a_key(
    inhouse: Callable[..., Done], served: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order of precedence; what is not given has its default."""
    (tmp_path / "serve.toml").write_text(
        'max_queue = 1\nmax_choices = 2\nread_timeout = 3\ncors_origins = ["http://a"]\n'
    )
    monkeypatch.setenv("INHOUSE_MAX_QUEUE", "5")
    monkeypatch.setenv("INHOUSE_MAX_CHOICES", "6")
    monkeypatch.setenv("INHOUSE_MAX_SEQUENCES", "7")
    done = inhouse("serve", ".", "--settings", "serve.toml", "--max-queue", "9", "--compile", "--allowed-hosts", "b")
    assert done.status == 0, done.err
    limits, engine = served()
    assert (limits.max_queue, limits.max_choices, limits.read_timeout) == (9, 6, 3.0)
    assert (limits.cors_origins, limits.allowed_hosts) == (("http://a",), ("b",))
    assert (engine.max_sequences, engine.compile, engine.page_size) == (7, True, 16)
    monkeypatch.setenv("COLUMNS", "200")
    help = inhouse("serve", "--help").out
    for name in (*ServeSettings.model_fields, *ServingSettings.model_fields):
        assert f"--{name.replace('_', '-')}" in help


@pytest.mark.parametrize(
    ("arguments", "content", "sentence"),
    [
        ("--max-queue -1", "", "--max-queue (in --settings max_queue, else INHOUSE_MAX_QUEUE): -1 must be at least 0"),
        (
            "",
            "max_queue = true",
            "--max-queue (in --settings max_queue, else INHOUSE_MAX_QUEUE): True needs a whole number",
        ),
        ("", "max_que = 1", "serve.toml: there is no setting max_que; there are max_body_bytes, "),
        ("", "max_queue = ", "serve.toml: not valid TOML"),
    ],
)
def test_a_setting_that_does_not_fit_is_a_sentence(
    inhouse: Callable[..., Done], served: object, tmp_path: Path, arguments: str, content: str, sentence: str
) -> None:
    (tmp_path / "serve.toml").write_text(content)
    done = inhouse("serve", ".", "--settings", "serve.toml", *arguments.split())
    assert (done.status, done.err[: len(sentence) + 9]) == (2, f"inhouse: {sentence}")
