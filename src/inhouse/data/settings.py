"""What a recipe says about its text and its tokenizer."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from inhouse.common.settings import Settings
from inhouse.data.patterns import compile_patterns

STDLIB = "python:stdlib"  # the path that names the standard library of the Python that runs

PreTokenizerName = Literal["qwen2", "llama-bpe", "gpt-4o"]


class Source(Settings):
    """One place that text comes from."""

    beside_the_result = frozenset({"path", "name", "licence"})

    path: str = Field(min_length=1, description=f"a folder, an archive, a file, or {STDLIB}")
    name: str = Field(min_length=1, pattern=r"^[\w.-]+$", description="what reports call it")
    licence: str = "unknown"
    text_field: str | None = Field(
        default=None, description="where records (.jsonl, .json, .parquet) keep their text; default: text, else content"
    )
    include: tuple[str, ...] = Field(default=(), description="what is read, in gitignore's syntax, as *.md; empty: all")
    exclude: tuple[str, ...] = Field(default=(), description="what is left out, in gitignore's syntax")
    default_excludes: bool = Field(
        default=True, description="leave out dotfiles, runs/, node_modules/ and the like, virtual environments"
    )

    @field_validator("include", "exclude")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        compile_patterns(patterns)
        return patterns


class DataSettings(Settings):
    """The data stage: which sources, and what is held out of them."""

    beside_the_result = frozenset({"processes"})

    sources: tuple[Source, ...] = Field(default=(Source(path=STDLIB, name="stdlib", licence="PSF-2.0"),), min_length=1)
    holdout_one_in: int = Field(default=20, ge=2, description="of so many documents one is never trained on")
    holdout_by: Literal["content", "path"] = Field(
        default="content", description="what decides: the text itself, or the hash of its path"
    )
    split_at: tuple[str, ...] = Field(
        default=(), description="separators that texts carry, as <|endoftext|>; cut there"
    )
    max_document_bytes: int = Field(default=1 << 22, ge=64, le=1 << 30, description="longer files are cut at lines")
    max_expansion: PositiveInt = Field(default=200, description="bound on unpacked by packed size")
    on_bad_input: Literal["skip", "stop"] = Field(
        default="skip", description="what cannot be read is counted, named and told, or the first one ends the run"
    )
    processes: NonNegativeInt = Field(default=0, description="0: one a core")

    @field_validator("split_at", mode="before")
    @classmethod
    def _one_separator_needs_no_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("split_at")
    @classmethod
    def _separators_are_seen(cls, separators: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(str.strip, separators)):
            raise ValueError("an empty or blank separator would cut everywhere; give a text such as <|endoftext|>")
        return separators

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"data.sources: two sources have the same name ({', '.join(names)}); give each its own")
        return self


class TokenizerSettings(Settings):
    """The tokenizer stage: the vocabulary, and the shards that are written with it."""

    beside_the_result = frozenset({"processes"})

    vocab_size: int = Field(default=4096, ge=261, le=1 << 20, description="exact; special and byte tokens included")
    pre_tokenizer: PreTokenizerName = Field(default="qwen2", description="the split regex, by llama.cpp's name")
    sample_bytes: PositiveInt = Field(default=1 << 26, description="text that the vocabulary is learned from")
    tokens_per_shard: PositiveInt = Field(default=1 << 26, description="a shard closes when it holds so many")
    processes: NonNegativeInt = Field(default=0, description="0: one a core")
