"""The verbs, as an administrator uses them: on the store of a gateway, whether that runs or not."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from inhouse.cli.app import main
from inhouse.cli.gateway.app import gateway as gateway_verbs
from inhouse.common.files import write_json
from inhouse.gateway.administration import new_caller
from inhouse.gateway.config.read import read_config
from inhouse.gateway.settings import QuotaSettings
from inhouse.gateway.tables import drill_words
from inhouse.gateway.types import NANO, Caller

TEXT = """\
currency = "USD"
default = "big"
[[provider]]
name = "acme"
dialect = "openai"
url = "http://127.0.0.1:9/v1"
[[provider.model]]
name = "big"
price = [{ currency = "USD", input = 2.0, output = 8.0 }]
[[provider]]
name = "other"
dialect = "openai"
url = "http://127.0.0.1:9/v1"
key_env = "OTHER_KEY"
[provider.terms]
ends_on = "merger"
[[provider.model]]
name = "small"
price = [{ currency = "USD", input = 0.2, output = 0.8 }]
[[team]]
name = "docs"
groups = ["pilots"]
"""


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `inhouse gateway …` beside a configuration; what it printed, or what it said against it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").write_text(TEXT)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["inhouse", "gateway", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return said.err if end.value.code else said.out

    return run


def test_keys_are_made_listed_rotated_and_revoked(gateway: Callable[..., str], tmp_path: Path) -> None:
    key = gateway("keys", "create", "one", "--team", "docs", "--budget", "50/month", "--models", "auto,big").strip()
    assert key.startswith("ih-") and len(key) > 40
    assert key.encode() not in (tmp_path / "gateway.sqlite").read_bytes()
    table = gateway("keys", "list")
    assert (
        "one" in table and "docs" in table and "auto, big" in table and "50.00 a month" in table and "pilots" in table
    )
    assert "there is a key one already" in gateway("keys", "create", "one")
    assert gateway("keys", "rotate", "one").strip() not in ("", key)
    gateway("keys", "revoke", "one")
    assert "revoked" in gateway("keys", "list")
    said = gateway("audit")
    assert said.index("key created") < said.index("key rotated") < said.index("key revoked")
    assert "operator" in said
    assert gateway("audit", "--verify") == "the audit log is as it was written\n"


def test_a_key_has_only_rights_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(TEXT)
    config = read_config(tmp_path / "gateway.toml")
    with pytest.raises(ValueError, match='there is no model "bug"; there are auto, big, small'):
        new_caller(config, "one", models=("bug",))
    with pytest.raises(ValueError, match='there is no face "chats"'):
        new_caller(config, "one", faces=("chats",))
    with pytest.raises(ValueError, match=r"is more than \[content\] most_days = 30"):
        new_caller(config, "one", keep_content_days=31)
    for name in ("", "a|key b", "a\nb", "a\x1b[31m", "\udcff", "n" * 101):  # budgets count by it, terminals show it
        with pytest.raises(ValueError, match="no name of a"):
            new_caller(config, "one", team=name or " ")
        with pytest.raises(ValueError, match="no name of a"):
            new_caller(config, name, team="docs")
    made = new_caller(config, "one", team="docs", budget="2.50/day", quota=QuotaSettings(tokens_per_minute=7))
    assert made == Caller(
        "one", "docs", groups=("pilots",), budget=5 * NANO // 2, budget_period="day", tokens_per_minute=7
    )


def test_a_provider_is_cut_and_comes_back(gateway: Callable[..., str]) -> None:
    said = gateway("cut", "other", "--reason", "it was bought")
    assert said.startswith("other is cut from ") and "clear OTHER_KEY" in said
    assert "is cut already" in gateway("cut", "other")
    assert "OTHER_KEY" not in gateway("check")  # nothing is asked of who is cut
    assert gateway("cut", "other", "--lift").startswith("other may answer again")
    assert gateway("cut", "--event", "merger") == "other is cut: its contract ends on merger\n"
    assert 'no contract ends on "marriage"' in gateway("cut", "--event", "marriage")
    assert "there is no provider acm; there are acme, other" in gateway("cut", "acm")
    assert "name a provider" in gateway("cut")
    assert "it was bought" in gateway("audit")


def test_times_and_groups_are_said_to_be_wrong(gateway: Callable[..., str]) -> None:
    assert '--since "lately": needs a date, such as' in gateway("spend", "--since", "lately")
    assert 'spend by "colour"' in gateway("spend", "--by", "colour")
    assert "calls" in gateway("spend", "--by", "team,day")
    assert gateway("drill").startswith("drill")


def test_the_commands_of_the_page_run(gateway: Callable[..., str], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")
    commands = [re.split(r"\s{2,}#", line.strip())[0] for line in page.splitlines() if line.startswith("    inhouse ")]
    (tmp_path / "runs" / "preview").mkdir(parents=True)
    write_json(tmp_path / "runs" / "preview" / "config.json", {})
    (tmp_path / "gateway.toml").unlink()
    said = {command: gateway(*shlex.split(command)[2:]) for command in commands if "serve" not in command}
    init, check, keys, route, cut = said.values()
    assert "runs/preview: a model of one's own" in init
    assert "preview at preview" in check
    assert keys.startswith("ih-")
    assert "task: product/code" in route and "preview at preview" in route
    assert "there is no provider acme; there are preview" in cut  # the page's is an example
    assert "preview cut on" in gateway("cut", "preview", "--rehearse")


def test_the_page_has_every_verb_and_its_options() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")
    section = page.partition("## The verbs\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE)
    told = {verb: set(re.findall(r"(--[a-z-]+)", f"{name} {text}")) for name, text in rows for verb in _verbs(name)}
    command = typer.main.get_command(gateway_verbs)
    assert isinstance(command, TyperGroup)
    groups = {name: each for name, each in command.commands.items() if isinstance(each, TyperGroup)}
    options = {f"{name} {verb}": each for name, group in groups.items() for verb, each in group.commands.items()}
    options |= {name: each for name, each in command.commands.items() if name not in groups}
    assert told.keys() == options.keys()
    for verb, flags in told.items():
        known = {flag for option in options[verb].params for flag in option.opts}
        shared = {flag for other in told if other.startswith(f"{verb.split()[0]} ") for flag in told[other]}
        assert flags - known <= shared, verb


def _verbs(cell: str) -> list[str]:
    """Of the first cell of a row: without what a verb is given."""
    return [" ".join(re.findall(r"^[a-z ]+", verb)).strip() for verb in re.findall(r"`(.*?)`", cell)]


def test_a_store_that_does_not_answer_is_one_sentence(gateway: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(f'store = "postgresql://nobody@127.0.0.1:9/none"\n{TEXT}')
    said = gateway("keys", "list")
    assert said.startswith("inhouse: ") and said.count("\n") == 1
    assert "internal error" not in said


def test_without_a_file_one_sentence(gateway: Callable[..., str]) -> None:
    assert gateway("check", "none.toml") == "inhouse: none.toml: No such file or directory\n"


def test_a_choice_is_explained_and_one_that_cannot_be_made_is_a_sentence(gateway: Callable[..., str]) -> None:
    said = gateway("route", "Fix this Python traceback: KeyError", "--model", "auto:product/code")
    assert "task: product/code" in said and "declined to choose" in said and "where that fails: small at other" in said
    assert "There is no model 'bigg' here. Did you mean 'big'?" in gateway("route", "hello", "--model", "bigg")


def test_what_a_drill_costs_is_told_in_money() -> None:
    drill = {"at": 0.0, "provider": "acme", "cut_seconds": 0, "ended": 1.0, "result": {"calls": 3, "cost": 2_500_000}}
    assert drill_words(drill)[3] == "calls 3, cost 0.002500"
