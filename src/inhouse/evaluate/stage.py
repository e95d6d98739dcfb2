"""The evaluate stage: scores, each with its standard error, count and method, and the answers behind them."""

import json
from pathlib import Path

from inhouse.common.files import write_atomic, write_json
from inhouse.data.documents import read_documents
from inhouse.data.tokenizer import Tokenizer
from inhouse.environments.registry import known_names
from inhouse.evaluate.bits_per_byte import bits_per_byte, xz_bits_per_byte
from inhouse.evaluate.harness import Sample, answer, heldout_questions, summarise
from inhouse.evaluate.own import TAUGHT_KIND, answers_bits_per_byte, ask, own_conversations
from inhouse.evaluate.score import Score
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.posttrain.conversations import trained_on
from inhouse.posttrain.opened_model import open_folder


def evaluate(settings: EvaluateSettings, data: Path, base: Path, model: Path, output: Path) -> None:
    """Write scores.json and samples.jsonl: bits per byte of base and fine-tuned model and of xz, and the answers."""
    model_scores, samples = evaluate_model(settings, model, data)
    scores = {"base/bits_per_byte": _bits_per_byte(settings, data, *open_folder(base, settings.dtype)[:2])}
    scores |= _xz_scores(settings, data)
    scores |= {f"model/{name}": score for name, score in model_scores.items()}
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / "samples.jsonl", "".join(json.dumps(sample._asdict()) + "\n" for sample in samples))
    write_json(output / "scores.json", {name: score._asdict() for name, score in scores.items()})


def evaluate_model(
    settings: EvaluateSettings, folder: Path, data: Path | None = None
) -> tuple[dict[str, Score], list[Sample]]:
    """Scores and answers of the model in `folder`, on the environments asked for or else those it was fine-tuned on.

    Without a data stage there are no bits per byte and no questions on documents. Raises ValueError where nothing is
    left to measure, so for a model of somebody else's whose environments nobody named.
    """
    names = trained_on(folder) if settings.environments is None else settings.environments
    questions = heldout_questions(settings, names, data)
    kind, own = own_conversations(folder) if settings.environments is None else ("", [])
    if not questions and not data and not own:
        raise ValueError(
            f"nothing to measure: {folder} has no held-out text beside it, and no problems to ask; name environments "
            f"with --env, of {known_names()} (library needs the text of a run)"
        )
    opened = open_folder(folder, settings.dtype)
    model, tokenizer, template = opened[:3]
    scores = {"bits_per_byte": _bits_per_byte(settings, data, model, tokenizer)} if data else {}
    engine = opened.engine()
    template = CHAT_TEMPLATE if template is None else template
    samples = answer(engine, tokenizer, questions, settings.max_answer_tokens, template)
    if own:
        if (foreseen := answers_bits_per_byte(model, tokenizer, own, template, kind)) is not None:
            scores[f"{kind}/bits_per_byte"] = foreseen
        samples = [*ask(engine, tokenizer, own, settings.max_answer_tokens, template, kind), *samples]
    return scores | summarise([sample for sample in samples if sample.kind != TAUGHT_KIND]), samples


def _bits_per_byte(settings: EvaluateSettings, data: Path, model: Transformer, tokenizer: Tokenizer) -> Score:
    context = settings.context_of(model.config.max_position)
    texts = [document.text for document in read_documents(data, "heldout")]
    return bits_per_byte(model, tokenizer, texts, context, settings.stride)


def _xz_scores(settings: EvaluateSettings, data: Path) -> dict[str, Score]:
    if not settings.xz_training_bytes:
        return {}
    heldout = [document.text.encode() for document in read_documents(data, "heldout")]
    train = (document.text.encode() for document in read_documents(data, "train"))
    scores = xz_bits_per_byte(heldout, train, settings.xz_training_bytes)
    return {f"{name}/bits_per_byte": score for name, score in scores.items()}
