"""Answers to random JSON schemas: how many are accepted, whether what ends is valid, and what the masks cost.

.venv/bin/python bench/structured.py --write [--suite FOLDER]

The schemas are drawn by code, the model's weights are random: nothing but the grammar makes its text JSON. FOLDER is
tests/draft2020-12 of the JSON-Schema-Test-Suite.
"""

import argparse
import json
import random
import re
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import torch

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.grammar import grammar, json_schema
from inhouse.engine.request import Completion, SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer

RESULTS = Path(__file__).parent / "results" / "structured.md"
NUM_SCHEMAS, SEEDS, ROUNDS = 400, 2, 11
PATTERNS = ["^[a-c]{2,5}$", "^(red|green|blue)$", "^[A-Z]{3}-[0-9]{4}$", "^\\d{1,3}$", "x"]
FORMATS = ["date", "date-time", "time", "uuid", "ipv4", "email", "uri", "hostname"]
ENDLESS = {"email", "uri", "hostname", "date-time", "time", "x"}  # formats, and the pattern, without a greatest length
TABLE = {  # long enough for a figure, and of what schemas mostly are
    "type": "array", "minItems": 40, "items": {
        "type": "object", "required": ["id", "name", "kind", "tags"], "additionalProperties": False, "properties": {
            "id": {"type": "integer", "minimum": 0, "maximum": 9999}, "name": {"type": "string", "maxLength": 30},
            "kind": {"enum": ["small", "middle", "large"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 4},
        },
    },
}  # fmt: skip


class Drawn(NamedTuple):
    """A schema, and whether every answer to it has an end."""

    schema: dict[str, Any]
    is_bounded: bool


class Draws:
    """One random schema; `is_bounded` falls as soon as something in it has no greatest length."""

    def __init__(self, seed: int) -> None:
        self.random, self.is_bounded, self.has_node = random.Random(seed), True, False

    def draw(self) -> Drawn:
        schema = self.schema(3)
        if self.has_node:
            link = {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
            node = {"value": self.schema(0), "next": link}
            schema["$defs"] = {"node": self.closed(node, ["value"])}
        return Drawn(schema, self.is_bounded)

    def schema(self, depth: int) -> dict[str, Any]:
        leaves = [self.constant, self.integer, self.number, self.string, self.string]
        kinds = [self.object, self.object, self.array, self.tuple, self.either, self.node, *leaves] if depth else leaves
        return self.random.choice(kinds)(depth - 1)

    def closed(self, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def object(self, depth: int) -> dict[str, Any]:
        names = self.random.sample(
            ["id", "name", "größe", "a b", "kind", "x-y", "items", 'quo"te'], self.random.randint(1, 5)
        )
        properties = {name: self.schema(depth) for name in names}
        schema = self.closed(properties, [name for name in names if self.random.random() < 0.6])
        if self.random.random() < 0.15:
            schema["additionalProperties"] = self.schema(0)
            self.is_bounded = False
        return schema

    def array(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.schema(depth)}
        if self.random.random() < 0.7:
            schema["minItems"] = self.random.randint(0, 2)
        if self.random.random() < 0.85:
            schema["maxItems"] = self.random.randint(2, 4)
        else:
            self.is_bounded = False
        return schema

    def tuple(self, depth: int) -> dict[str, Any]:
        parts = [self.schema(depth) for _ in range(self.random.randint(1, 3))]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": self.random.randint(0, len(parts))}

    def either(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self.schema(depth) for _ in range(self.random.randint(2, 3))]}

    def node(self, depth: int) -> dict[str, Any]:
        self.has_node, self.is_bounded = True, False
        return {"$ref": "#/$defs/node"}

    def constant(self, depth: int) -> dict[str, Any]:
        values = [None, True, 7, -1.5, "one", "zwölf", "", ["a", 1], {"k": None}]
        return self.random.choice(
            [
                {"const": self.random.choice(values)},
                {"enum": self.random.sample(values, 3)},
                {"type": ["boolean", "null"]},
            ]
        )

    def integer(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "integer"}
        if self.random.random() < 0.8:
            low = self.random.randint(-1000, 1000)
            lower, upper = self.random.choice([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")])
            schema |= {lower: low, upper: low + self.random.randint(2, 5000)}
        else:
            self.is_bounded = False
        if self.random.random() < 0.2:
            schema |= {"minimum": 0, "multipleOf": self.random.choice([2, 5, 12])}
            self.is_bounded = False
        return schema

    def number(self, depth: int) -> dict[str, Any]:
        self.is_bounded = False  # there is no last digit
        low = self.random.uniform(-50, 50)
        bounds = {"minimum": round(low, 2), "maximum": round(low + self.random.uniform(1, 99), 3)}
        return {"type": "number"} | (bounds if self.random.random() < 0.7 else {})

    def string(self, depth: int) -> dict[str, Any]:
        kind = self.random.choice(["length", "length", "pattern", "format", "enum", "free"])
        if kind == "length":
            least = self.random.randint(0, 3)
            return {"type": "string", "minLength": least, "maxLength": least + self.random.randint(0, 9)}
        if kind == "enum":
            return {"type": "string", "enum": self.random.sample(["a", "b c", "ä\n", "\\", "🙂"], 3)}
        said = {"pattern": self.random.choice(PATTERNS)} if kind == "pattern" else {}
        said = {"format": self.random.choice(FORMATS)} if kind == "format" else said
        self.is_bounded &= bool(said) and not ENDLESS & set(said.values())
        return {"type": "string"} | said


def new_engine(context: int, max_sequences: int, **shape: int) -> Engine:
    """Random weights, and a tokenizer learnt from the standard library's text."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(json.__file__).parents[1].glob("*.py"))[:80]]
    tokenizer = Tokenizer.train(texts, vocab_size=4096)
    config = ModelConfig(architecture="qwen3", vocab_size=tokenizer.vocab_size, max_position=context, **shape)
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2) if parameter.dim() > 1 else parameter.fill_(1.0)
    return Engine(model.eval(), tokenizer, EngineSettings(max_sequences=max_sequences))


def answers(engine: Engine, drawn: list[Drawn]) -> tuple[list[str | None], list[tuple[Drawn, Completion]]]:
    """Why each schema is refused (None: it is not), and the answers to the others, one for each seed."""
    reasons: list[str | None] = []
    params: list[SamplingParams] = []
    asked: list[Drawn] = []
    for each in drawn:
        try:
            text = grammar(json_schema(each.schema))
            engine.grammars.check(text)
        except ValueError as error:
            reasons.append(str(error))
            continue
        reasons.append(None)
        longest = 3500 if each.is_bounded else 400
        params += [SamplingParams(max_tokens=longest, grammar=text, seed=seed) for seed in range(SEEDS)]
        asked += [each] * SEEDS
    return reasons, list(zip(asked, engine.generate([[0]] * len(params), params), strict=True))


def verdict(schema: dict[str, Any], text: str) -> str:
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        print(f"invalid: {text} of {schema}")
        return "invalid"
    except re.error:  # Python's expressions have no \\p{…}
        return "not to be judged"
    return "valid"


def report(title: str, drawn: list[Drawn], engine: Engine) -> list[str]:
    reasons, done = answers(engine, drawn)
    ended = [(each, completion) for each, completion in done if completion.finish_reason == "stop"]
    verdicts = Counter(verdict(each.schema, completion.text) for each, completion in ended)
    bounded = [completion for each, completion in done if each.is_bounded]
    accepted = reasons.count(None)
    lines = [
        f"| {title}: accepted | {accepted} of {len(reasons)} ({accepted / len(reasons):.1%}) |",
        f"| {title}: answers that ended | {len(ended)} of {len(done)} |",
        f"| {title}: of these | {', '.join(f'{count} {said}' for said, count in verdicts.most_common())} |",
    ]
    if bounded:
        num = sum(completion.finish_reason == "stop" for completion in bounded)
        lines.append(f"| {title}: answers to schemas of bounded length that ended | {num} of {len(bounded)} |")
    refused = Counter(reason[:70] for reason in reasons if reason is not None).most_common(6)
    return lines + [f"| {title}: refused | {count} × {reason.replace('|', '/')} |" for reason, count in refused]


def suite(folder: Path) -> list[Drawn]:
    groups = [group for path in sorted(folder.glob("*.json")) for group in json.loads(path.read_text(encoding="utf-8"))]
    return [Drawn(group["schema"], False) for group in groups if isinstance(group["schema"], dict)]


def speed(num: int) -> str:
    """Tokens/s with the table's schema over tokens/s without, of as many answers as long, side by side."""
    engine = new_engine(
        1024, num, hidden_size=256, num_layers=6, num_heads=4, num_kv_heads=2, head_dim=64, intermediate_size=768
    )
    text, ratios = grammar(json_schema(TABLE)), []
    for round_ in range(ROUNDS):
        bound = [SamplingParams(max_tokens=256, grammar=text, seed=1000 * round_ + each) for each in range(num)]
        free = [SamplingParams(max_tokens=256, ignore_eos=True, seed=each) for each in range(num)]
        seconds = []
        for params in (bound, free) if round_ % 2 else (free, bound):
            start = time.perf_counter()
            completions = engine.generate([[0]] * num, params)
            seconds.append(time.perf_counter() - start)
            assert all(len(completion.token_ids) == 256 for completion in completions)
        ratios.append(seconds[0] / seconds[1] if not round_ % 2 else seconds[1] / seconds[0])
    ratios = ratios[1:]  # the first compiles
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{statistics.median(ratios):.2f} (quartiles {low:.2f} and {high:.2f} of {len(ratios)} rounds)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write results/{RESULTS.name}")
    parser.add_argument("--suite", type=Path, help="tests/draft2020-12 of the JSON-Schema-Test-Suite")
    arguments = parser.parse_args()
    engine = new_engine(
        4096, 64, hidden_size=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, intermediate_size=32
    )
    drawn = [Draws(seed).draw() for seed in range(NUM_SCHEMAS)]
    lines = report("random schemas", drawn, engine)
    if arguments.suite:
        lines += report("JSON-Schema-Test-Suite", suite(arguments.suite), engine)
    lines += [
        f"| tokens/s with a schema over without, {num} requests of 256 tokens | {speed(num)} |" for num in (1, 16)
    ]
    head = [
        "# Structured output",
        "",
        "`.venv/bin/python bench/structured.py --write --suite JSON-Schema-Test-Suite/tests/draft2020-12`",
        "",
        "| | |",
        "| --- | --- |",
    ]
    text = "\n".join([*head, *lines])
    print(text)
    if arguments.write:
        RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
