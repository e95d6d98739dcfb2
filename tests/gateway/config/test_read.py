"""What does not fit is one sentence with its file and line; what fits has absolute paths and all defaults filled in."""

from pathlib import Path

import pytest

from inhouse.common.files import write_json
from inhouse.gateway.config.read import open_config, read_config
from inhouse.gateway.settings import parse_amount
from inhouse.gateway.types import NANO, Caller, Target

HEAD = 'currency = "USD"\ndefault = "big"\n'
ACME = '[[provider]]\nname = "acme"\ndialect = "openai"\nurl = "http://127.0.0.1:9/v1"\n'
BIG = '[[provider.model]]\nname = "big"\nprice = [{ currency = "USD", input = 2.0, output = 8.0 }]\n'
WHOLE = HEAD + ACME + BIG
NOW = 1.8e9  # 2027-01-15


def refused(folder: Path, text: str) -> str:
    """The sentences, with the file's name alone."""
    path = folder / "gateway.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_config(path, lambda: NOW)
    return str(error.value).replace(f"{folder}/", "")


def test_a_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        WHOLE + '[[team]]\nname = "docs"\nrequests_per_minute = 60\n[[budget]]\nteam = "docs"\namount = "2.50/day"\n'
        '[evidence]\nscores = ["scores.jsonl"]\n'
    )
    config = read_config(tmp_path / "gateway.toml", lambda: NOW)
    assert config.targets() == (Target("acme", "big", "big"),)
    assert config.store == str(tmp_path / "gateway.sqlite")
    assert config.folder == tmp_path
    assert config.evidence.scores == (tmp_path / "scores.jsonl",)
    budgets, rates = config.limits().of(Caller("one", "docs"), "")
    assert [(budget.amount, budget.period) for budget in budgets] == [(5 * NANO // 2, "day")]
    assert [(rate.kind, rate.per_minute) for rate in rates] == [("requests", 60)]
    assert config.prices(NOW).at(config.targets()[0], NOW).currency == "USD"


def test_a_run_is_one_model_with_its_own_name_and_context(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine" / "sft").mkdir(parents=True)
    write_json(tmp_path / "runs" / "mine" / "sft" / "config.json", {"max_position_embeddings": 512})
    text = (
        'currency = "USD"\ndefault = "mine"\n[[provider]]\nname = "mine"\ndialect = "inhouse"\nrun = "runs/mine"\n'
        "cost_per_hour = 0.36\ntokens_per_second = 100.0\n"
    )
    (tmp_path / "gateway.toml").write_text(text)
    config = read_config(tmp_path / "gateway.toml")
    (target,) = config.targets()
    assert target == Target("mine", "mine", "mine")
    assert config.models()[target].context == 512
    assert config.provider[0].run == tmp_path / "runs" / "mine"
    assert config.prices(NOW).at(target, NOW).per_million() == 1


MISTAKES = {
    "an unknown key": (
        WHOLE + "contex = 5\n",
        'gateway.toml, line 10: [provider.0.model.0] has no key "contex"; did you mean "context"?',
    ),
    "an unknown table": (
        WHOLE + "[server]\nprot = 1\n",
        'gateway.toml, line 11: [server] has no key "prot"; did you mean "port"?',
    ),
    "an unknown dialect": (
        WHOLE.replace('"openai"', '"opena"'),
        'gateway.toml, line 5: [provider.0] dialect = "opena": there is no dialect "opena"; did you mean '
        "openai? there are openai, anthropic, gemini, inhouse and any-llm:NAME",
    ),
    "no address": (
        WHOLE.replace("http://127.0.0.1:9/v1", "127.0.0.1"),
        "gateway.toml, line 6: [provider.0] url = \"127.0.0.1\": '127.0.0.1' is no address of an endpoint: give one "
        "such as https://api.example.com/v1",
    ),
    "an unknown default": (
        WHOLE.replace('default = "big"', 'default = "bigger"'),
        'gateway.toml, line 2: default = "bigger": no provider has this model; there are big',
    ),
    "a model named auto": (
        WHOLE.replace('name = "big"', 'name = "auto"'),
        'gateway.toml, line 7: [provider.0.model.0]: no model may be named "auto": requests say that to leave the '
        "choice to the gateway",
    ),
    "a provider twice": (
        WHOLE + ACME + BIG,
        'gateway.toml, line 11: [provider] name: there is a provider "acme" already',
    ),
    "a price without a currency": (
        WHOLE.replace('currency = "USD", input', "input"),
        'gateway.toml, line 9: [provider.0.model.0.price.0] needs the key "currency"',
    ),
    "a price in another currency": (
        WHOLE.replace('{ currency = "USD"', '{ currency = "EUR"'),
        'gateway.toml, line 7: model "big" of provider "acme" has a price in EUR, and the gateway counts in USD: '
        "convert it",
    ),
    "no price": (
        WHOLE.replace("price =", "# price ="),
        'gateway.toml, line 7: model "big" of provider "acme" has no price, here or in the list of genai-prices: write '
        'price = [{ currency = "USD", input = …, output = … }], a million tokens',
    ),
    "overlapping budgets": (
        WHOLE + '[[budget]]\namount = "5/month"\n[[budget]]\namount = "6/month"\n',
        "gateway.toml, line 12: [budget] 6/month overlaps an earlier budget of 5/month for the same calls; keep one of "
        "them",
    ),
    "no budget": (
        WHOLE + '[[budget]]\namount = "5 a month"\n',
        'gateway.toml, line 11: [budget.0] amount = "5 a month": "5 a month" is no budget: write how much, and in '
        "which time, such as 500/month or 2.50/day",
    ),
    "an unknown team": (
        WHOLE + '[[budget]]\nteam = "docs"\namount = "5/month"\n',
        'gateway.toml, line 11: [budget] team = "docs": there is no [[team]] of this name; write [[team]] with '
        'name = "…"',
    ),
    "two exclusives": (
        WHOLE.replace(BIG, '[[provider.terms.exclusive]]\ntasks = ["code"]\n' + BIG)
        + ACME.replace('"acme"', '"other"')
        + '[[provider.terms.exclusive]]\ntasks = ["code"]\n'
        + BIG,
        'gateway.toml, line 16: [provider.terms] "code" is exclusive to other and to acme',
    ),
    "a fallback that is not there": (
        WHOLE + '[routing.fallbacks]\nbig = ["small"]\n',
        'gateway.toml, line 11: [routing] fallbacks: no provider has a model "small"; there are big',
    ),
    "a password": (
        HEAD + 'store = "postgresql://me:secret@host/db"\n' + ACME + BIG,
        "gateway.toml, line 3: store: a password stands in the address; leave it out and set PGPASSWORD (or use "
        "~/.pgpass)",
    ),
    "an inhouse provider without a run": (
        WHOLE.replace('dialect = "openai"\nurl = "http://127.0.0.1:9/v1"', 'dialect = "inhouse"'),
        "gateway.toml, line 3: [provider.0]: an inhouse provider needs run, and neither url nor key_env: the gateway "
        "starts it itself",
    ),
    "more answer than context": (
        WHOLE + "context = 100\nmax_output = 200\n",
        "gateway.toml, line 7: [provider.0.model.0]: max_output = 200 is more than context = 100; lower it",
    ),
    "a part that no request has": (
        WHOLE + 'cannot = ["tool"]\n',
        'gateway.toml, line 7: [provider.0.model.0]: "tool" is no part of a request: did you mean tools?',
    ),
    "a region of nobody": (
        WHOLE + '[routing]\nregions = ["eu"]\n',
        'gateway.toml, line 11: [routing] regions: no provider computes in "eu"; no provider has a region',
    ),
    "a drill of nobody": (
        WHOLE + '[[drill]]\nprovider = "acm"\n',
        'gateway.toml, line 11: [drill] provider = "acm": there is none; there are acme',
    ),
    "a roll-out to no model": (
        WHOLE + '[[rollout]]\ntask = "code"\nmodel = "new"\n',
        'gateway.toml, line 12: [rollout] no provider has a model "new"; there are big',
    ),
    "no provider": (HEAD, 'gateway.toml: the top of the configuration needs the key "provider"'),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_file_and_line(mistake: str, tmp_path: Path) -> None:
    text, sentence = MISTAKES[mistake]
    assert refused(tmp_path, text) == sentence


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace('default = "big"', 'default = "x"') + '[[budget]]\nteam = "a"\namount = "5/month"\n'
    assert len(refused(tmp_path, text).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "nano", "period"), [("50/month", 50 * NANO, "month"), ("0.000000001/day", 1, "day"), ("0/day", 0, "day")]
)
def test_a_budget_is_exact(text: str, nano: int, period: str) -> None:
    assert parse_amount(text) == (nano, period)


@pytest.mark.parametrize(
    "text", ["", "5", "5/year", "-5/month", "1e3/month", "5.0000000001/day", "٥/month", " 5/month"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no budget"):
        parse_amount(text)


def test_places_are_known_later_too(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(WHOLE)
    file = open_config(tmp_path / "gateway.toml", lambda: NOW)
    assert file.lines([(("provider", 0, "url"), "no")]) == [f"{tmp_path}/gateway.toml, line 6: no"]
