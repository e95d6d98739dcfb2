"""Counters and histograms in Prometheus' text format (version 0.0.4)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Observations in seconds, counted by upper bound."""

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    @property
    def mean(self) -> float:
        return self.sum / max(sum(self.counts), 1)

    def lines(self, name: str, **labels: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*SECONDS, "+Inf"), self.counts, strict=True):
            total += count
            yield sample(f"{name}_bucket", total, **labels, le=str(bound))
        yield sample(f"{name}_sum", f"{self.sum:.6f}", **labels)
        yield sample(f"{name}_count", total, **labels)


class Responses:
    """What one server has answered since it started. Changed on the event loop only, so without locks."""

    def __init__(self) -> None:
        self.responses: Counter[tuple[str, int]] = Counter()

    def lines(self) -> Iterator[str]:
        yield head("requests_total", "counter", "HTTP requests answered, by path and status.")
        for (path, status), count in sorted(self.responses.items()):
            yield sample("requests_total", count, path=path, status=str(status))


class ServerMetrics(Responses):
    """Of a server that generates itself."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_tokens = 0
        self.cached_tokens = self.generated_tokens = 0
        self.aborted = 0
        self.latency = Histogram()
        self.first_token = Histogram()

    def render(self, gauges: dict[str, tuple[str, float]]) -> str:
        """The page; `gauges` are (help, value) of what is measured at this moment, by name (`…_total` only grows)."""
        lines = [*self.lines()]
        for name, text, value in (
            ("prompt_tokens_total", "Tokens of prompts admitted.", self.prompt_tokens),
            ("cached_tokens_total", "Tokens of prompts found in the prefix cache.", self.cached_tokens),
            ("generated_tokens_total", "Tokens generated.", self.generated_tokens),
            ("aborted_sequences_total", "Sequences whose client went away.", self.aborted),
        ):
            lines += [head(name, "counter", text), sample(name, value)]
        for name, (text, number) in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [head(name, kind, text), sample(name, number)]
        for name, text, histogram in (
            ("request_seconds", "From a request's admission to its last token.", self.latency),
            ("first_token_seconds", "From a request's admission to its first token.", self.first_token),
        ):
            lines += [head(name, "histogram", text), *histogram.lines(name)]
        return "\n".join(lines) + "\n"


def head(name: str, kind: str, text: str) -> str:
    """What stands above the samples of a metric; its name is without `inhouse_`."""
    return f"# HELP inhouse_{name} {text}\n# TYPE inhouse_{name} {kind}"


def sample(name: str, value: object, **labels: str) -> str:
    """One line. Whatever stands in a label's value stays within it."""
    if not labels:
        return f"inhouse_{name} {value}"
    said = ",".join(f'{label}="{text.translate(_ESCAPED)}"' for label, text in labels.items())
    return f"inhouse_{name}{{{said}}} {value}"
