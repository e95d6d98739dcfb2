"""The task classifier: on requests that it never saw, with users' labels, kept on disk."""

from pathlib import Path

import numpy as np
import pytest

from inhouse.gateway.routing import classifier as routing_classifier
from inhouse.gateway.routing.classifier import TaskClassifier, open_classifier, train
from inhouse.gateway.routing.prompts import Example, own_examples

UNSEEN = {
    "product/chat": [
        "I said Tuesday, not Wednesday. What is the plan now?",
        "What was my budget again?",
        "Scratch that, we are seven people after all. What do I have to bring?",
        "Which of the two cities that I named earlier fits better?",
    ],
    "product/code": [
        "Fix this Python traceback …",
        "can you debug this: for i in range(10) print(i)",
        "why do I get ModuleNotFoundError: No module named 'requests'",
        "What is printed by: x = [1]; y = x; y.append(2); print(x)",
        "My Go program deadlocks: fatal error: all goroutines are asleep",
        "Explain what this awk one-liner does: awk '{s+=$1} END {print s}'",
        "Is there a memory leak in this C function? void f() { char *b = malloc(10); }",
    ],
    "product/programs": [
        "write me a python function to merge two sorted lists",
        "Implement Dijkstra's algorithm in Java.",
        "Write a script that backs up a folder every night.",
        "Create a function that checks whether a string has balanced brackets.",
        "Code a tic-tac-toe game in JavaScript",
        "write a stored procedure that archives old rows",
    ],
    "product/maths": [
        "what's 15% tip on 86 dollars",
        "if a car goes 60 mph for 2.5 hours how far",
        "Solve for y: 4y - 7 = 21",
        "How many three-digit numbers are divisible by 7?",
        "Integrate x^2 e^x dx",
        "The sum of two numbers is 20 and their product is 96. What are they?",
    ],
    "product/sheets": [
        "excel: how to count blanks in column B",
        "Formula that sums column D if column B says 'paid'",
        "XLOOKUP gives #N/A although the value is there",
        "google sheets average ignoring zeros",
        "How do I freeze the first row of my spreadsheet?",
    ],
    "product/slides": [
        "make me a powerpoint about dogs",
        "Outline a pitch deck for a coffee start-up",
        "Turn my notes into eight slides with bullets",
        "Draft a title slide and an agenda for Monday's presentation",
    ],
    "product/summaries": [
        "Summarise this:\n\nThe committee met on Monday and discussed the budget.",
        "tldr of the thread below",
        "Give me the gist of this article in two lines",
        "Recap the discussion above for someone who missed it",
        "Condense the following paragraphs into 40 words.",
    ],
    "product/extraction": [
        "Extract the phone numbers from this text as JSON",
        "Which companies are named in this article? Give a list.",
        "Pull the invoice number, date and total out of this mail",
        "Put the ingredients of this recipe into a JSON array",
        "Get all dates from the contract",
    ],
    "product/tool_use": [
        "email John that I'll be late",
        "What's the weather in Madrid right now?",
        "Remind me tomorrow at 8 to water the plants",
        "Reserve a meeting room for Thursday afternoon",
        "Look up how many lamps the store in Turin has",
        "Turn the heating down to 19 degrees",
    ],
    "general": [
        "hello",
        "what is the capital of France",
        "translate this into Spanish: I like you",
        "Write a limerick about a cat",
        "How do plants make oxygen?",
        "Tips for a good night's sleep?",
        "Who painted the Mona Lisa?",
        "Draft a letter of complaint to my landlord",
        "Was ist der Sinn des Lebens?",
    ],
}


@pytest.fixture(scope="module")
def classifier() -> TaskClassifier:
    return train(list(own_examples()))


def test_it_tells_the_task_of_requests_that_it_never_saw(classifier: TaskClassifier) -> None:
    guesses = [(classifier.guess(text), task) for task, texts in UNSEEN.items() for text in texts]
    right = np.array([guess.task == task for guess, task in guesses])
    sure = np.array([guess.confidence >= 0.5 for guess, _ in guesses])
    assert right.mean() >= 0.9 and sure.mean() >= 0.8 and right[sure].mean() >= 0.95


@pytest.mark.parametrize("text", ["", "   ", "asdf qwer zxcv", "\ud800", "?" * 10_000, "ありがとう"])
def test_what_says_nothing_is_no_product_task(classifier: TaskClassifier, text: str) -> None:
    guess = classifier.guess(text)
    assert guess.task == "general" or guess.confidence < 0.5


def test_the_same_examples_give_the_same_weights(classifier: TaskClassifier) -> None:
    few = list(own_examples())[::9]
    one, two = train(few), train(few)
    for text in ("write a loop", "sum up"):
        assert one.guess(text) == two.guess(text)
    assert set(classifier.tasks) >= {"general", "product/code", "product/maths"}


def test_a_long_request_takes_no_longer_than_its_ends(classifier: TaskClassifier) -> None:
    start = "Write a Python function that sorts a list. "
    assert (
        classifier.guess(start + "lorem ipsum " * 100_000).task == classifier.guess(start + "lorem ipsum " * 1_000).task
    )


def test_labels_teach_a_task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = list(own_examples())[::6]
    monkeypatch.setattr(routing_classifier, "own_examples", lambda: few)
    labels = tmp_path / "labels.jsonl"
    said = [
        "claim of a broken window",
        "my car was hit, who pays?",
        "policy 4711 covers hail?",
        "insurance for my bike",
    ]
    labels.write_text("".join(f'{{"text": "{text}", "task": "insurance"}}\n' for text in said))
    kept = tmp_path / "folder"
    taught = open_classifier(kept, labels)
    assert taught.guess("does my policy cover a broken window of the car?").task == "insurance"
    (file,) = kept.iterdir()
    made = file.stat().st_mtime_ns
    assert open_classifier(kept, labels).guess("insurance claim") == taught.guess("insurance claim")
    assert [file] == list(kept.iterdir()) and file.stat().st_mtime_ns == made  # read, not made again
    file.write_bytes(b"half")
    assert open_classifier(kept, labels).guess("insurance claim") == taught.guess("insurance claim")


def test_every_task_counts_alike() -> None:
    many = [Example(f"sort list number {number} in python", "code") for number in range(200)]
    few = [Example("poem of a rose", "verse"), Example("poem of the sea", "verse")]
    assert train([*many, *few]).guess("a poem").task == "verse"
