"""A recipe's mistakes are sentences that name the place, the key and what was meant."""

import sys
from pathlib import Path

import pytest

from inhouse.recipe.derived import all_numbers
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
        ("[sft]\nepochs = 1\n[sft.generated]\nsums = 4\n", '"sums" has no level: sums:1 is the easiest'),
        ("seed = 'one'\n", 'line 1: seed = "one": needs a whole number'),
        ("\n[pretrain]\ntokens = -5\n", "line 3: [pretrain] tokens = -5: must be greater than 0"),
        ("[pretrain]\nprecision = 'fp4'\n", 'line 2: [pretrain] precision = "fp4": must be "bf16", "fp32", "fp8" or "fp8_reference"'),  # noqa: E501
        ("[model]\nnum_heads = 2\nhead_dim = 4\nnum_kv_heads = 1\n[pretrain]\nprecision = 'fp8'\n", "line 2: [model] num_heads × head_dim = 8 is no multiple of 16, as sides of matrices must be for [pretrain] precision = fp8; nearest: 16"),  # noqa: E501
        ("[sft]\nprecision = 'fp8'\nsequence_length = 24\nbatch_tokens = 48\n", "line 3: [sft] sequence_length / context = 24 is no multiple of 16"),  # noqa: E501
        ("[sft]\nlocal_checkpoints = 'disk'\n", 'line 2: [sft] local_checkpoints = "disk": disk is no absolute path'),
        ("[model]\nsize = 'huge'\n", "line 2: [model] size = 'huge' is not known"),
        ("[model]\nnum_heads = 3\nnum_kv_heads = 2\n", "[model] num_heads = 3 is not a multiple of num_kv_heads = 2"),
        ("[model]\ncontext = 64\n[pretrain]\nsequence_length = 512\n", "line 4: [pretrain] sequence_length = 512 is more than [model] context = 64"),  # noqa: E501
        ("[sft]\nbatch_tokens = 300\n", "[sft] batch_tokens = 300 is not a multiple of sequence_length = 512"),
        ("[model]\n[pretrain]\nbatch_tokens = 1000\n", "line 3: [pretrain] batch_tokens = 1000 is not a multiple"),
        ("[model]\ncontext = 64\n[sft]\nsequence_length = 4096\n", "line 4: [sft] sequence_length = 4096 is more than [model] context"),  # noqa: E501
        ("[sft]\nconversations = ['no.jsonl']\n", "no.jsonl does not exist; correct the path"),
        ("[parallel]\ncontext = 3\n", "line 2: [parallel] context = 3 does not divide sequence_length = 512; nearest: "),  # noqa: E501
        ("seed = true\n", "line 1: seed = true: needs a whole number"),
        ("[pretrain]\ntokens = '40960'\n", 'line 2: [pretrain] tokens = "40960": needs a whole number, without quotes'),
        ("[pretrain]\ntokens = 1e9\n", "line 2: [pretrain] tokens = 1000000000.0: needs a whole number: write 1_000_000_000"),  # noqa: E501
        ("[pretrain]\nmatrix_lr = inf\n", "line 2: [pretrain] matrix_lr = inf: needs a finite number"),
        ("[pretrain]\ncompile = 'yes'\n", 'line 2: [pretrain] compile = "yes": needs true or false'),
        ("[sft]\ngenerated = {addition = true}\n", "line 2: [sft.generated] addition = true: needs a whole number"),
        ("data = 3\n", "line 1: data = 3: needs a table: { … }"),
        ("[data]\nsources = 'x'\n", 'line 2: [data] sources = "x": needs a list: [ … ]'),
        ("name = 2025-01-02\n", "line 1: name = 2025-01-02: needs a text in quotes"),
        ("[data]\nsources = []\n", "line 2: [data.sources]: needs 1 or more entries"),
        ("[[data.sources]]\nname = 'x'\npath = 'no/such'\n", "line 3: "),
        ("[sft]\nsteps = 3\n", 'line 2: [sft] has no key "steps"; you mean epochs, which says how often'),
        ("[train]\nx = 1\n", 'line 1: the top of the recipe has no key "train"; you mean [pretrain]'),
        ("[pretrain]\nvocab_size = 1\n", 'line 2: [pretrain] has no key "vocab_size"; it stands in [tokenizer]'),
        ("lr = 1\n", 'line 1: the top of the recipe has no key "lr"; you mean [pretrain] lr_factor, which multiplies'),
        ("[model]\nbatch_size = 1\n", 'line 2: [model] has no key "batch_size"; you mean [pretrain] batch_tokens, which'),  # noqa: E501
        ("[[data.sources]]\nname = 'x'\nfolder = 'x'\n", 'line 3: [data.sources.0] has no key "folder"; you mean path'),
        ("[sft]\ngenerated = {}\n", "line 2: [sft] has no conversations to fine-tune on: give conversations"),
        ("[sft.generated]\nstrings = 0\n", "line 1: [sft] has no conversations to fine-tune on"),
        ("[evaluate]\nstride = 4096\n", "line 2: [evaluate] stride = 4096 is more than the context of 512 tokens"),
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
    assert "may hold letters, digits, . _ and - only" in str(error.value)


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
        ("pretrain.tokens=many", '--set pretrain.tokens=many: [pretrain] tokens = "many": needs a whole number'),
        ("pretrain", "--set pretrain: write it as section.key=value"),
        ("seed.x=3", "--set seed.x=3: seed.x is not a place in this recipe"),
        ("data.sources.7.path=x", "--set data.sources.7.path=x"),
        ("sft.generated.3=3", '--set sft.generated.3=3: [sft.generated]: there is no environment "3"'),
        ("tokenizer.3=3", '--set tokenizer.3=3: [tokenizer] has no key "3"; it has '),
        ("pretrain.lr=3", '--set pretrain.lr=3: [pretrain] has no key "lr"; you mean lr_factor, which multiplies all'),
    ],
)
def test_mistakes_in_overrides_name_the_override(recipe: Path, override: str, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        load_recipe(recipe, [override])
    assert str(error.value).startswith(sentence)


def test_overrides_are_toml_or_plain_text(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["pretrain.tokens=2_048", "model.architecture=qwen3", "export.gguf=['F16']"])
    assert (loaded.pretrain.tokens, loaded.model.architecture, loaded.export.gguf) == (2048, "qwen3", ("F16",))


def test_what_llama_cpp_must_quantize_is_refused_where_it_is_not_installed(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.write_text(recipe.read_text() + '\n[export]\ngguf = ["F16", "Q6_K", "Q4_K_M"]\n')
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(
        ValueError, match=r"line \d+: \[export\] gguf: llama\.cpp's quantizer, which writes Q6_K and Q4_K_M, is not"
    ) as error:
        load_recipe(recipe)
    assert "pip install 'inhouse[quantize]'" in str(error.value)
    assert load_recipe(recipe, ["export.gguf=['Q8_0']"]).export.gguf == ("Q8_0",)
    assert load_recipe(recipe, reads_here=False).export.gguf[1:] == ("Q6_K", "Q4_K_M")  # another machine may have it


def test_paths_are_relative_to_the_recipe_and_in_overrides_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = "[[data.sources]]\npath = 'text'\nname = 'x'\n[sft]\nconversations = ['a.jsonl']\n"
    path = write(tmp_path / "x.toml", text)
    (tmp_path / "text").mkdir()
    (tmp_path / "here" / "text").mkdir()
    write(tmp_path / "a.jsonl", "")
    write(tmp_path / "here" / "a.jsonl", "")
    loaded = load_recipe(path)
    assert loaded.data.sources[0].path == str(tmp_path / "text")
    assert [source.path for source in loaded.sft.conversations] == [tmp_path / "a.jsonl"]
    loaded = load_recipe(path, ["data.sources.0.path=text", "sft.conversations=['a.jsonl']"])
    assert loaded.data.sources[0].path == str(tmp_path / "here" / "text")
    assert [source.path for source in loaded.sft.conversations] == [tmp_path / "here" / "a.jsonl"]
    assert load_recipe(path, ["data.sources.0.path=python:stdlib"]).data.sources[0].path == "python:stdlib"


def test_a_file_may_begin_with_a_mark(recipe: Path) -> None:
    recipe.write_text("\ufeff" + recipe.read_text(), encoding="utf-8")
    assert load_recipe(recipe).pretrain.tokens == 40_960


def test_context_and_sequences_are_one_number(recipe: Path) -> None:
    def lengths(*overrides: str) -> tuple[int, int, int]:
        loaded = load_recipe(recipe, overrides)
        return loaded.model.context, loaded.pretrain.sequence_length, loaded.sft.sequence_length

    assert lengths() == (512, 512, 512)
    assert lengths("model.context=64") == (64, 64, 64)
    assert lengths("pretrain.sequence_length=1024") == (1024, 1024, 1024)
    assert lengths("sft.sequence_length=128") == (128, 128, 128)
    assert lengths("model.context=1024", "pretrain.sequence_length=256") == (1024, 256, 1024)


def test_mid_training_has_a_context_of_its_own_and_fine_tuning_may_have_it(recipe: Path) -> None:
    longer = ("midtrain.tokens=40960", "midtrain.sequence_length=2048", "sft.sequence_length=1024")
    loaded = load_recipe(recipe, longer)
    assert (loaded.model.context, loaded.pretrain.sequence_length, loaded.sft.sequence_length) == (512, 512, 1024)
    numbers = {(n.section, n.name): n.value for n in all_numbers(loaded)}
    assert (numbers["midtrain", "context"], numbers["midtrain", "steps"]) == (2048, 20)
    assert not [n for n in all_numbers(load_recipe(recipe)) if n.section == "midtrain"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sft.sequence_length=8192"], r"\[sft\] sequence_length = 8192 is more than"),
        (["midtrain.rope_scaling={factor=2.0, original_length=512}"], r"\[midtrain\] rope_scaling: .* nearest: .* = 8"),
        (
            ["midtrain.rope_scaling={factor=8.0,original_length=512,beta_fast=9.0}"],
            r"\[export\] gguf: .* only 32",
        ),
        (["midtrain.mixture={docs=1}"], r"\[midtrain\] mixture names docs, which is no source; they are "),
        (["midtrain.batch_tokens=1000"], r"\[midtrain\] batch_tokens = 1000 is not a multiple of .* nearest: 4096"),
    ],
)
def test_mid_training_that_cannot_be_carried_out_is_refused(recipe: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_recipe(recipe, ["midtrain.tokens=40960", "midtrain.sequence_length=4096", *overrides])


def test_a_batch_that_is_not_written_holds_whole_sequences(recipe: Path) -> None:
    def batches(context: int, *more: str) -> tuple[int, int]:
        loaded = load_recipe(recipe, [f"model.context={context}", "pretrain.batch_tokens=24_000", *more])
        return loaded.pretrain.batch_tokens, loaded.sft.batch_tokens

    assert batches(3000) == (24_000, 6000)  # a row of conversations and one of replayed text
    assert batches(3000, "sft.replay=0") == (24_000, 3000)
    assert batches(8000) == (24_000, 16_000)
    assert batches(1500) == (24_000, 3000)


def test_every_typo_of_many_sources_gets_its_line_and_what_follows_from_it_none(tmp_path: Path) -> None:
    text = "".join(f"[[data.sources]]\nnmae = 'x{i}'\nfolder = '.'\n" for i in range(300))
    with pytest.raises(ValueError) as error:
        load_recipe(write(tmp_path / "x.toml", text))
    expected = [
        line
        for i in range(300)
        for line in (
            f'{tmp_path}/x.toml, line {3 * i + 2}: [data.sources.{i}] has no key "nmae"; did you mean "name"?',
            f'{tmp_path}/x.toml, line {3 * i + 3}: [data.sources.{i}] has no key "folder"; you mean path',
        )
    ]
    assert str(error.value).splitlines() == expected


def test_where_another_machine_reads_nothing_must_be_here(recipe: Path) -> None:
    elsewhere = ["data.sources=[{name='x', path='/no/such'}]", "sft.conversations=['/no/such.jsonl']"]
    assert load_recipe(recipe, elsewhere, reads_here=False).data.sources[0].path == "/no/such"
    with pytest.raises(ValueError) as error:
        load_recipe(recipe, elsewhere)
    assert [line.split(": ")[1] for line in str(error.value).splitlines()] == [
        "/no/such does not exist; correct the path or put the file there",
        "/no/such.jsonl does not exist; correct the path or put the file there",
    ]


def test_a_layout_that_does_not_fit_names_the_override_that_asked_for_it(recipe: Path) -> None:
    with pytest.raises(ValueError) as error:
        load_recipe(recipe, ["parallel.shard=3"])
    assert str(error.value).startswith("--set parallel.shard=3: [parallel] a step of 2 sequences")
