"""Who holds which page, and a tree of pages, by which a prompt finds what others have computed of it.

A radix tree whose letters are pages of tokens (after RadixAttention, Zheng et al. 2024, section 3): a node is a page
that hangs on the one before it, an edge the tokens in it. Edges are not joined to longer ones, because pages come and
go one by one. Tokens are compared, not hashes of them, and the edges of first pages begin with a salt: what has another
salt is never found. The last page of a sequence that has ended may be one that is not full: nobody shares it.

Whoever holds a page of the tree holds all before it. So of the pages that nobody holds, those behind a page were always
given back before it, and in the order of giving back a page never goes before what hangs on it.
"""

import hashlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SALT_BYTES, _TOKEN_BYTES = 32, 4


def salted(salt: str) -> bytes:
    """The beginning of a sequence's `content` (one of fixed length, so that a salt cannot go on as tokens)."""
    return hashlib.blake2b(salt.encode(), digest_size=_SALT_BYTES).digest()


def grown(content: bytes, tokens: Sequence[int]) -> bytes:
    """`content` with all of `tokens`, of which it has the first ones."""
    missing = tokens[(len(content) - _SALT_BYTES) // _TOKEN_BYTES :]
    return content + np.array(missing, dtype=np.int32).tobytes() if missing else content


class Node:
    """A page in the tree. `edges` are those of its `children`, in order: what begins alike stands side by side."""

    __slots__ = ("born", "children", "edge", "edges", "page", "parent")

    def __init__(self, page: int, parent: "Node | None", edge: bytes, born: int) -> None:
        self.page, self.parent, self.edge, self.born = page, parent, edge, born
        self.children: dict[bytes, Node] = {}
        self.edges: list[bytes] = []


class Found(NamedTuple):
    """What is known of a sequence's beginning: full pages, and a page of which `num_more` tokens fit behind them."""

    nodes: list[Node]
    like: Node | None = None
    num_more: int = 0


class PrefixCache:
    """Reference counts, free pages, and the tree. A free page keeps what is in it until it is given out again: first
    those that nobody can find, then the longest unused."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.page_size = page_size
        self.num_cached = 0  # pages in the tree
        self.num_evicted = 0  # pages that have left it for want of free ones
        self.num_ahead = np.zeros(num_pages, dtype=np.int64)  # of each page, the first tokens that `PredictionHead` has
        self._references = [0] * num_pages
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_pages))
        self._step = 0
        self.forget()

    def forget(self) -> None:
        """No page is found any more: the weights changed, or contents are in doubt."""
        self.root = Node(-1, None, b"", 0)
        self._nodes: list[Node | None] = [None] * len(self._references)
        self.num_cached = 0

    @property
    def num_free(self) -> int:
        return len(self._free)

    def begin_step(self) -> None:
        """Pages that are published from now on are computed in the coming step."""
        self._step += 1

    def find(self, content: bytes, num_tokens: int) -> Found:
        """The longest known beginning among the first `num_tokens` of `content`; nothing is taken yet.

        `like` is computed already, so that its tokens can be copied before the step.
        """
        node, nodes = self.root, []
        for page in range(num_tokens // self.page_size):
            child = node.children.get(self._edge(content, page, num_tokens))
            if child is None:
                break
            nodes.append(node := child)
        return Found(nodes, *self._alike(node, content, len(nodes), num_tokens))

    def _alike(self, node: Node, content: bytes, page: int, num_tokens: int) -> tuple[Node | None, int]:
        """The child of `node` that begins with the most tokens of a page of `content`, and how many they are.

        Of a first page at least half: nearly all prompts begin with one token, and a copy of it, and attention that
        begins in the middle, cost more than it does.
        """
        start = 0 if page else _SALT_BYTES
        wanted = self._edge(content, page, num_tokens)
        place = bisect_left(node.edges, wanted)
        best: tuple[Node | None, int] = None, 0 if page else self.page_size // 2 - 1
        for edge in node.edges[max(place - 1, 0) : place + 1]:
            num_alike = (_num_alike(edge, wanted) - start) // _TOKEN_BYTES
            if num_alike > best[1] and node.children[edge].born < self._step:
                best = node.children[edge], num_alike
        return best if best[0] is not None else (None, 0)

    def begin_alike(self, one: bytes, other: bytes, num_pages: int) -> bool:
        """Whether two contents have the same first pages, so many of them and full ones."""
        end = _SALT_BYTES + num_pages * self.page_size * _TOKEN_BYTES
        last = slice(end - self.page_size * _TOKEN_BYTES, end)  # differs first, and is compared in no time
        return end <= len(one) and one[last] == other[last] and other.startswith(one[:end])

    def is_free(self, page: int) -> bool:
        return self._references[page] == 0

    def share(self, pages: Sequence[int]) -> None:
        """Take a reference to pages that `find` gave."""
        for page in pages:
            if self._references[page] == 0:
                del self._free[page]
            self._references[page] += 1

    def take(self) -> int:
        """A page for oneself. There must be a free one."""
        page, _ = self._free.popitem(last=False)
        assert self._references[page] == 0
        self._references[page], self.num_ahead[page] = 1, 0
        if (node := self._nodes[page]) is not None:
            assert not node.children
            self._cut(node)
            self.num_evicted += 1
        return page

    def publish(self, parent: Node, content: bytes, end: int, page: int) -> Node | None:
        """From now on `page` is found behind `parent`, which the caller holds; in it end the first `end` tokens of
        `content`. One that is not full is nothing to hang others on.

        None where it is not: where one that begins so is known that one stays, and what hangs on nothing is not found.
        """
        edge = self._edge(content, (end - 1) // self.page_size, end)
        is_lost = parent is not self.root and self._nodes[parent.page] is not parent
        place = bisect_left(parent.edges, edge)
        if is_lost or (place < len(parent.edges) and parent.edges[place].startswith(edge)):
            return None
        node = parent.children[edge] = self._nodes[page] = Node(page, parent, edge, self._step)
        parent.edges.insert(place, edge)
        self.num_cached += 1
        return node

    def unpublish(self, pages: Sequence[int]) -> list[int]:
        """Those that nobody else holds, and that nobody finds any more from now on, nor what hangs on them."""
        alone = [page for page in pages if self._references[page] == 1]
        for page in alone:
            if (node := self._nodes[page]) is not None:
                self._cut(node)
        return alone

    def release(self, pages: Sequence[int]) -> None:
        """Give references back, those of a sequence's later pages first."""
        for page in reversed(pages):
            self._references[page] -= 1
            assert self._references[page] >= 0
            if self._references[page] == 0:
                self._free[page] = None
                self._free.move_to_end(page, last=self._nodes[page] is not None)

    def _cut(self, node: Node) -> None:
        """Take a node and all behind it out of the tree."""
        assert node.parent is not None
        del node.parent.children[node.edge]
        del node.parent.edges[bisect_left(node.parent.edges, node.edge)]
        lost = [node]
        while lost:
            node = lost.pop()
            lost += node.children.values()
            self._nodes[node.page] = None
            self.num_cached -= 1
            if node.page in self._free:
                self._free.move_to_end(node.page, last=False)

    def _edge(self, content: bytes, page: int, end: int) -> bytes:
        """The tokens of a page, of the first `end` ones; of the first page, behind the salt."""
        start, stop = page * self.page_size, min((page + 1) * self.page_size, end)
        first = _SALT_BYTES + start * _TOKEN_BYTES if page else 0
        return content[first : _SALT_BYTES + stop * _TOKEN_BYTES]


def _num_alike(one: bytes, other: bytes) -> int:
    """How many first bytes are the same."""
    length = min(len(one), len(other))
    differ = int.from_bytes(one[:length]) ^ int.from_bytes(other[:length])
    return length - (differ.bit_length() + 7) // 8
