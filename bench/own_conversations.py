"""300 lines on five facts: does a model that learns nothing else answer a new phrasing?

    python bench/own_conversations.py RUN [--epochs 2 12 30] [--write FILE]

RUN has its stages up to pretrain. The lines are made by code: five facts of a firm that does not exist, each asked in
60 ways. No kind of problem is generated beside them, replay is on. Asked afterwards are wordings that no line has;
measured is what the base's held-out text lost, in bits per byte. Writes results/own_conversations.md; with `--write`
only the lines, for a recipe of your own.
"""

import argparse
import json
import shutil
import tempfile
from itertools import product
from pathlib import Path

from inhouse.data.documents import read_documents
from inhouse.engine.engine import Engine
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.evaluate.harness import Sample
from inhouse.evaluate.own import ask
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.posttrain.opened_model import open_folder
from inhouse.posttrain.settings import SftSettings
from inhouse.posttrain.sft import fine_tune

RESULTS = Path(__file__).parent / "results" / "own_conversations.md"
OPENINGS = ("", "Hello, ", "Please tell me: ", "A question: ", "I would like to know, ", "Quick one: ")
FACTS = {  # the answer, and wordings of the question; the last three are asked, and in no line
    "The office opens at nine.": (
        "when does the office open?", "at what time does the office open?", "what time is the office open from?",
        "from when is the office open?", "how early does the office open?", "what are the office's opening times?",
        "when can I come to the office?", "when do you open the office?", "what hour does the office open?",
        "when is the office first open?",
        "what time does the office open?", "how early can I come to the office?", "when will the office open?",
    ),
    "The password is changed every month.": (
        "how often is the password changed?", "when is the password changed?", "how long is a password good for?",
        "how often must I change my password?", "when do I need a new password?", "how long can I keep my password?",
        "what is the rule on the password?", "do I have to change the password?", "when does my password end?",
        "how often do we change the password?",
        "how often do I need a new password?", "when must the password be changed?", "how long can I use a password?",
    ),
    "Holidays are asked for with Mara.": (
        "who do I ask for holidays?", "where do I ask for holidays?", "who is asked for holidays?",
        "how do I take a holiday?", "I need a holiday, who do I ask?", "who says yes to holidays?",
        "where do holidays go?", "who keeps the list of holidays?", "how do I get holidays?",
        "to whom do I go for a holiday?",
        "who do I go to for holidays?", "how do I ask for a holiday?", "who takes care of holidays?",
    ),
    "The printer is in room four.": (
        "where is the printer?", "in which room is the printer?", "where do I find the printer?",
        "what room has the printer?", "how do I find the printer?", "where can I print?",
        "in what room can I print?", "which room is the printer in?", "where does the printer stand?",
        "is there a printer, and where?",
        "where can I find the printer?", "which room has the printer?", "what room is the printer in?",
    ),
    "Errors go to the team Blue.": (
        "who do I tell about errors?", "where do errors go?", "I found an error, who is told?",
        "which team takes errors?", "who looks at errors?", "where do I send an error?",
        "what do I do with an error?", "which team is told of errors?", "to whom do errors go?",
        "who is there for errors?",
        "where do I send errors?", "which team looks at an error?", "I have an error, where does it go?",
    ),
}  # fmt: skip
ASKED = 3


def line(question: str, answer: str) -> str:
    question = question[0].upper() + question[1:]
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


def write_lines(path: Path) -> None:
    """60 wordings of each fact, one conversation a line."""
    path.write_text("".join(
        line(opening + question, answer) + "\n"
        for answer, questions in FACTS.items() for question, opening in product(questions[:-ASKED], OPENINGS)
    ))  # fmt: skip


def new_wordings(folder: Path) -> list[Sample]:
    """What the model in `folder` says to the wordings that it was not taught."""
    model, tokenizer, template, _ = open_folder(folder)
    asked = [
        json.loads(line(question, answer))["messages"]
        for answer, questions in FACTS.items() for question in questions[-ASKED:]
    ]  # fmt: skip
    return ask(Engine(model, tokenizer), tokenizer, asked, 64, template or CHAT_TEMPLATE)


def heldout_bits(folder: Path, run: Path) -> float:
    model, tokenizer, *_ = open_folder(folder)
    texts = [document.text for document in read_documents(run / "data", "heldout")]
    return bits_per_byte(model, tokenizer, texts, model.config.max_position).value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--epochs", type=float, nargs="+", default=[2, 12, 30])
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.write:
        write_lines(arguments.write)
        return
    base = heldout_bits(arguments.run / "pretrain", arguments.run)
    rows, shown = [], []
    for epochs in arguments.epochs:
        with tempfile.TemporaryDirectory() as folder:
            write_lines(Path(folder) / "lines.jsonl")
            settings = SftSettings(conversations=({"path": f"{folder}/lines.jsonl"},), generated={}, epochs=epochs)
            output = Path(folder) / "sft"
            stages = (arguments.run / name for name in ("pretrain", "data", "tokenizer"))
            fine_tune(settings, *stages, output, seed=1)
            steps = json.loads((output / "conversations.json").read_text())["steps"]
            shown = new_wordings(output)
            right = sum(sample.reply.strip() == sample.expected for sample in shown)
            change = heldout_bits(output, arguments.run) - base
            rows.append(f"| {epochs:g} | {steps} | {right} of {len(shown)} | {change:+.4f} |")
            print(rows[-1], flush=True)
            shutil.rmtree(output)
    answers = [f"- {sample.prompt} {sample.reply.strip()}" for sample in shown]
    RESULTS.write_text("\n".join([
        "# Five facts in 300 lines", "",
        f"`python bench/own_conversations.py RUN --epochs {' '.join(f'{each:g}' for each in arguments.epochs)}` on the "
        f"preview's base, one seed. `generated = {{}}`, everything else has its default. Right is an answer to a "
        f"wording that no line has, to the letter, greedy. The last column is "
        f"the change of the held-out text's bits per byte, {base:.4f} of the base.", "",
        "| epochs | steps | right | bits per byte |", "| --- | --- | --- | --- |", *rows, "",
        "Answers after the last row's training:", "", *answers,
    ]) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
