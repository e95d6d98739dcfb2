"""A recipe's mistakes are sentences that name the place, the key and what was meant."""

from pathlib import Path

import pytest

from inhouse.recipe.recipe import load_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(
        '# my model\nseed = 3\n\n[pretrain]\ntokens = 40_960\nbatch_tokens = 1024\n\n[model]\nsize = "tiny"\n'
    )
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_recipe_is_named_after_its_file_unless_it_says_otherwise(recipe: Path) -> None:
    assert load_recipe(recipe).name == "mine"
    assert load_recipe(recipe, ["name=other"]).name == "other"
    assert load_recipe(recipe).seed == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed = 1\n[pretrain]\nzzz = 3\n", 'line 3: [pretrain] has no key "zzz"; it has '),
        ("seed = 1\n[pretrain]\ntokns = 3\n", 'line 3: [pretrain] has no key "tokns"; did you mean "tokens"?'),
        ("[pretrian]\n", 'line 1: the top of the recipe has no key "pretrian"; did you mean "pretrain"?'),
        ("[[data.sources]]\npath = 'x'\nname = 'x'\nlicense = 'MIT'\n", 'line 4: [data.sources.0] has no key "license"; did you mean "licence"?'),  # noqa: E501
        ("[[data.sources]]\npath = 'x'\n", 'line 1: [data.sources.0] needs the key "name"'),
        ("[sft]\nepochs = 1\n[sft.generated]\nsums = 4\n", 'there is no environment "sums"; there are addition, '),
        ("seed = 'one'\n", 'line 1: seed = "one": input should be a valid integer'),
        ("\n[pretrain]\ntokens = -5\n", "line 3: [pretrain] tokens = -5: input should be greater than 0"),
        ("[pretrain]\nprecision = 'fp8'\n", "line 2: [pretrain] precision = \"fp8\": input should be 'bf16' or 'fp32'"),
        ("[model]\nsize = 'huge'\n", "line 2: [model] size = 'huge' is not known"),
        ("[model]\nnum_heads = 3\nnum_kv_heads = 2\n", "[model] num_heads = 3 is not a multiple of num_kv_heads = 2"),
        ("[model]\ncontext = 64\n", "[pretrain] sequence_length = 512 is more than [model] context = 64"),
        ("[sft]\nbatch_tokens = 300\n", "[sft] batch_tokens = 300 is not a multiple of sequence_length = 512"),
        ("[model]\n[pretrain]\nbatch_tokens = 1000\n", "line 2: [pretrain] batch_tokens = 1000 is not a multiple"),
        ("[sft]\nsequence_length = 4096\n", "line 2: [sft] sequence_length = 4096 is more than [model] context"),
        ("[sft]\nconversations = ['no.jsonl']\n", "no.jsonl does not exist; correct the path"),
        ("[sft]\ngenerated = {}\n", "line 2: [sft] has no conversations to fine-tune on: give conversations"),
        ("[sft.generated]\nstrings = 0\n", "line 1: [sft] has no conversations to fine-tune on"),
        ("[evaluate]\nstride = 4096\n", "line 2: [evaluate] stride = 4096 is more than the context of 2048 tokens"),
        ("[evaluate]\ncontext = 64\nstride = 65\n", "line 3: [evaluate] stride = 65 is more than the context of 64"),
        ("[model\n", "not valid TOML"),
        ("a = 1\na = 2\n", "(at line 2"),
    ],
)  # fmt: skip
def test_mistakes_name_their_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path / "x.toml", text)
    with pytest.raises(ValueError) as error:
        load_recipe(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert sentence in message


def test_a_value_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    text = '[data]\nholdout_one_in = 20\nsources = [\n  # mine\n  {path = "a",\n   name = "a b"},\n]\n'
    with pytest.raises(ValueError, match=r'x\.toml, line 3: \[data\.sources\.0\] name = "a b"') as error:
        load_recipe(write(tmp_path / "x.toml", text.replace(",\n   name", ", name")))
    assert "should match pattern" in str(error.value)


def test_every_mistake_gets_its_own_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        load_recipe(write(tmp_path / "x.toml", "sed = 1\n[sft]\nepoch = 1\n"))
    second, first = str(error.value).splitlines()
    assert 'line 1: the top of the recipe has no key "sed"; did you mean "seed"?' in first
    assert 'line 3: [sft] has no key "epoch"; did you mean "epochs"?' in second


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("pretrain.tokns=3", '--set pretrain.tokns=3: [pretrain] has no key "tokns"; did you mean "tokens"?'),
        ("pretrain.tokens=many", '--set pretrain.tokens=many: [pretrain] tokens = "many": input should be a valid'),
        ("pretrain", "--set pretrain: write it as section.key=value"),
        ("seed.x=3", "--set seed.x=3: seed.x is not a place in this recipe"),
        ("data.sources.7.path=x", "--set data.sources.7.path=x"),
    ],
)
def test_mistakes_in_overrides_name_the_override(recipe: Path, override: str, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        load_recipe(recipe, [override])
    assert str(error.value).startswith(sentence)


def test_overrides_are_toml_or_plain_text(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["pretrain.tokens=2_048", "model.architecture=qwen3", "export.gguf=['F16']"])
    assert (loaded.pretrain.tokens, loaded.model.architecture, loaded.export.gguf) == (2048, "qwen3", ("F16",))


def test_paths_are_relative_to_the_recipe_and_in_overrides_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = "[[data.sources]]\npath = 'text'\nname = 'x'\n[sft]\nconversations = ['a.jsonl']\n"
    path = write(tmp_path / "x.toml", text)
    write(tmp_path / "a.jsonl", "")
    write(tmp_path / "here" / "a.jsonl", "")
    loaded = load_recipe(path)
    assert loaded.data.sources[0].path == str(tmp_path / "text")
    assert loaded.sft.conversations == (tmp_path / "a.jsonl",)
    loaded = load_recipe(path, ["data.sources.0.path=text", "sft.conversations=['a.jsonl']"])
    assert loaded.data.sources[0].path == str(tmp_path / "here" / "text")
    assert loaded.sft.conversations == (tmp_path / "here" / "a.jsonl",)
    assert load_recipe(path, ["data.sources.0.path=python:stdlib"]).data.sources[0].path == "python:stdlib"
