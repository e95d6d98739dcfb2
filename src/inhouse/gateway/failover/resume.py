"""Text goes to the client at once; where its stream breaks, another goes on so that what was delivered stays a prefix.

A target that is declared able to take one gets the delivered text as a prefill. Any other generates the answer again:
what is identical to what was delivered is dropped, and with the first letter that differs the attempt is given up.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import ChatMessage
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Sealed
from inhouse.gateway.failover.running import tokens_of
from inhouse.gateway.settings import ModelSettings
from inhouse.gateway.types import Target
from inhouse.providers.answers import Begun, Ended, Event, Logprobs
from inhouse.providers.errors import ProviderError


class Diverged(ProviderError):
    """The answer that was generated again is not the one of which the client has the beginning."""

    kind = "abandoned"


@dataclass
class _Run:
    """Delivered pieces of one kind, joined; a call of a tool has its number and name."""

    kind: type[Piece]
    number: int
    name: str
    text: str = ""

    def fits(self, piece: Piece) -> bool:
        if isinstance(piece, CallPiece):
            return (self.kind, self.number) == (CallPiece, piece.number) and piece.name in (None, self.name)
        return self.kind is type(piece)


class Resumed:
    """Of one call without log-probabilities (they could not be cut where the text is)."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._begun: Begun | None = None
        self._runs: list[_Run] = []
        self._space = ""  # behind the text: not sent yet, because no prefill may end in it
        self._again: _Again | None = None
        self._is_prefilled = False
        self._refused_prefill: set[Target] = set()
        self._first: Target | None = None  # whose text the client has

    @property
    def has_delivered(self) -> bool:
        return bool(self._runs)

    def preference(self, target: Target, model: ModelSettings) -> tuple[bool, ...]:
        """A prefill goes on for certain; the same model may say the same again; another hardly will."""
        if self._first is None:
            return ()
        return (not self._takes_prefill(target, model), target.model != self._first.model)

    def request_for(self, target: Target, model: ModelSettings) -> ChatRequest:
        self._again, self._is_prefilled = None, False
        if not self._runs:
            self._first = target
            return self._request
        if self._takes_prefill(target, model):
            self._is_prefilled = True
            return self._prefilled()
        self._again = _Again(self._runs)
        return self._request

    def _takes_prefill(self, target: Target, model: ModelSettings) -> bool:
        """Only text goes on; a form or a stop string could begin before the seam and end behind it."""
        request = self._request
        return (
            model.can_prefill
            and target not in self._refused_prefill
            and [run.kind for run in self._runs] == [Content]
            and request.messages[-1].role != "assistant"
            and request.response_format.type == "text"
            and not (request.stop or request.structured_outputs or request.stop_token_ids)
        )

    def _prefilled(self) -> ChatRequest:
        text = self._runs[0].text
        said = tokens_of(len(text.encode()))
        most = {
            name: max(limit - said, 1)
            for name in ("max_tokens", "max_completion_tokens")
            if (limit := getattr(self._request, name)) is not None
        }
        messages = [*self._request.messages, ChatMessage(role="assistant", content=text)]
        return self._request.model_copy(update={"messages": messages} | most)

    def takes_back_prefill(self, target: Target) -> bool:
        if self._is_prefilled:
            self._refused_prefill.add(target)
        return self._is_prefilled

    def take(self, event: Event) -> Iterable[Event]:
        if isinstance(event, Begun):
            self._begun = event
            return []
        if isinstance(event, Ended):
            is_refusal = event.reason == "content_filter"  # an answer, wherever it ends
            if self._again is not None and not (self._again.is_done or is_refusal):
                raise Diverged("the answer that was generated again is shorter than what was delivered")
            return [*self._begin(), *self._flushed(), event]
        if isinstance(event, Logprobs):
            return []  # they were not asked for
        if isinstance(event, Sealed):  # of thinking that was delivered by another the signature would be a wrong one
            return [*self._begin(), *self._flushed(), event] if self._again is None else []
        piece = self._again.rest(event) if self._again is not None else event
        return [] if piece is None else self._sent(piece)

    def _begin(self) -> list[Event]:
        """Who answers, or who goes on: said with the first thing that it adds."""
        begun, self._begun = self._begun, None
        return [] if begun is None else [begun]

    def _flushed(self) -> list[Event]:
        space, self._space = self._space, ""
        return [self._noted(Content(space))] if space else []

    def _sent(self, piece: Piece) -> list[Event]:
        if not isinstance(piece, Content):
            return [*self._begin(), *self._flushed(), self._noted(piece)]
        text = self._space + piece.text
        ready = text.rstrip()
        self._space = text[len(ready) :]
        return [*self._begin(), self._noted(Content(ready))] if ready else []

    def _noted(self, piece: Piece) -> Piece:
        text = piece.arguments if isinstance(piece, CallPiece) else piece.text
        if not (self._runs and self._runs[-1].fits(piece)):
            number, name = (piece.number, piece.name or "") if isinstance(piece, CallPiece) else (0, "")
            self._runs.append(_Run(type(piece), number, name))
        self._runs[-1].text += text
        return piece

    def broke(self, error: ProviderError) -> None:
        self._begun, self._space = None, ""


class _Again:
    """Walks along what was delivered while the answer is generated again."""

    def __init__(self, runs: list[_Run]) -> None:
        self._runs = [_Run(run.kind, run.number, run.name, run.text) for run in runs]  # they grow behind the seam
        self._place, self._offset = -1, 0  # before the first: that of a call may have no text yet

    @property
    def is_done(self) -> bool:
        return self._place == len(self._runs) - 1 and self._left == 0

    @property
    def _left(self) -> int:
        """Letters of the run that it is in."""
        return len(self._runs[self._place].text) - self._offset if self._place >= 0 else 0

    def rest(self, piece: Piece) -> Piece | None:
        """What of the piece is new, if anything is. Raises `Diverged` where it is not what was delivered."""
        text = piece.arguments if isinstance(piece, CallPiece) else piece.text
        if self.is_done and not self._is_said_already(piece):
            return piece
        run = self._run_of(piece)
        old, here = run.text[self._offset :], min(len(text), len(run.text) - self._offset)
        if text[:here] != old[:here]:
            raise Diverged("what was generated again is not what was delivered")
        self._offset += here
        if here == len(text):
            return None
        if not self.is_done:
            raise Diverged("what was generated again is longer where another part began")
        new = text[here:]
        return CallPiece(piece.number, None, None, new) if isinstance(piece, CallPiece) else type(piece)(new)

    def _is_said_already(self, piece: Piece) -> bool:
        """The beginning of the call that the client has the beginning of."""
        return isinstance(piece, CallPiece) and piece.name is not None and self._runs[-1].fits(piece)

    def _run_of(self, piece: Piece) -> _Run:
        is_here = self._place >= 0 and self._runs[self._place].fits(piece)
        if not is_here and self._left == 0 and self._place + 1 < len(self._runs):
            self._place, self._offset = self._place + 1, 0
        run = self._runs[self._place]
        if not run.fits(piece):
            raise Diverged("what was generated again is of another kind than what was delivered")
        return run
