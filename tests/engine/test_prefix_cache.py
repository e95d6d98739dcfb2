"""What is shared is what was asked for, whole, and under the same salt; nothing that somebody holds goes."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inhouse.engine.cache.prefix_cache import PrefixCache, grown, salted
from inhouse.engine.request import SamplingParams
from inhouse.engine.scheduler import Origin

GREEDY = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)
NUM_PAGES = 9
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=9)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), TOKENS, st.sampled_from("ab")),
        st.tuples(st.just("grow"), st.integers(0, 9), st.integers(0, 1)),
        st.tuples(st.sampled_from(("end", "fail")), st.integers(0, 9)),
        st.tuples(st.sampled_from(("step", "forget"))),
    ),
    max_size=60,
)

LOST = [  # what hangs on a failure is given out before what can be found
    ("add", [1], "b"), ("end", 0), ("add", [0, 1], "a"), ("add", [0, 1, 0], "a"), ("end", 1), ("fail", 0),
    ("add", [1] * 8, "a"),
]  # fmt: skip


class Held:
    def __init__(self, salt: str, tokens: list[int]) -> None:
        self.salt, self.tokens, self.content = salt, list(tokens), grown(salted(salt), tokens)
        self.pages: list[int] = []


class Model:
    """The cache beside a dictionary of all prefixes that may be found: (salt, tokens) -> (page, step)."""

    def __init__(self, page_size: int) -> None:
        self.cache, self.size, self.step = PrefixCache(NUM_PAGES, page_size), page_size, 0
        self.known: dict[tuple[str, tuple[int, ...]], tuple[int, int]] = {}
        self.held: list[Held] = []

    def add(self, tokens: list[int], salt: str) -> None:
        new = Held(salt, tokens)
        found = self.cache.find(new.content, len(tokens) - 1)
        pages = [node.page for node in found.nodes]
        expected = []
        for end in range(self.size, len(tokens), self.size):
            if (salt, tuple(tokens[:end])) not in self.known:
                break
            expected.append(self.known[salt, tuple(tokens[:end])][0])
        assert pages == expected
        first = len(pages) * self.size
        assert found.num_more == max((self.alike(new, first, each) for each in self.known), default=0)
        if found.like is not None:
            (same,) = (prefix for (_, prefix), (page, _) in self.known.items() if page == found.like.page)
            assert same[: first + found.num_more] == tuple(tokens[: first + found.num_more])
        num_new = -(-len(tokens) // self.size) - len(pages)
        if num_new + sum(map(self.cache.is_free, pages)) > self.cache.num_free:
            return
        self.cache.share(pages)
        new.pages, new.node = pages, found.nodes[-1] if pages else self.cache.root
        new.num_found = len(pages)
        self.held.append(new)
        for _ in range(num_new):
            self.take(new)
        for number in range(len(pages) - num_new, len(tokens) // self.size):
            self.publish(new, number)

    def alike(self, new: Held, first: int, known: tuple[str, tuple[int, ...]]) -> int:
        """Tokens that can be copied of this page."""
        salt, prefix = known
        if salt != new.salt or not first < len(prefix) <= first + self.size or self.known[known][1] == self.step:
            return 0
        if list(prefix[:first]) != new.tokens[:first]:
            return 0
        pairs = list(zip(prefix[first:], new.tokens[first:-1], strict=False))
        return next((i for i, (one, other) in enumerate(pairs) if one != other), len(pairs))

    def take(self, new: Held) -> None:
        before, evicted = {page for each in self.held for page in each.pages}, self.cache.num_evicted
        is_found = {page for page, _ in self.known.values()}
        page = self.cache.take()
        assert page not in before, "somebody holds it"
        lost = [key for key, (known, _) in self.known.items() if known == page]
        assert self.cache.num_evicted - evicted == len(lost)
        assert not lost or is_found | before == set(range(NUM_PAGES)), "another could not be found by anybody"
        for salt, prefix in lost:
            del self.known[salt, prefix]
            assert not any(s == salt and p[: len(prefix)] == prefix for s, p in self.known), "others hang on it"
        new.pages.append(page)

    def publish(self, new: Held, number: int) -> None:
        """Up to its end, or to that of its tokens."""
        if new.node is not None:
            end = min((number + 1) * self.size, len(new.tokens))
            new.node = self.cache.publish(new.node, new.content, end, new.pages[number])
        if new.node is not None:
            key = new.salt, tuple(new.tokens[:end])
            assert key not in self.known
            self.known[key] = new.pages[number], self.step

    def grow(self, which: int, token: int) -> None:
        if not self.held:
            return
        one = self.held[which % len(self.held)]
        if len(one.tokens) % self.size == 0:
            if not self.cache.num_free:
                return
            self.take(one)
        one.tokens.append(token)
        one.content = grown(one.content, one.tokens)
        if len(one.tokens) % self.size == 0:
            self.publish(one, len(one.tokens) // self.size - 1)

    def end(self, which: int) -> None:
        if self.held:
            one = self.held.pop(which % len(self.held))
            if len(one.tokens) % self.size:
                self.publish(one, len(one.pages) - 1)
            self.cache.release(one.pages)

    def fail(self, which: int) -> None:
        """Nothing of what it has computed alone is found any more."""
        if not self.held:
            return
        one = self.held[which % len(self.held)]
        alone = self.cache.unpublish(one.pages[one.num_found :])
        others = {page for each in self.held if each is not one for page in each.pages}
        assert alone == [page for page in one.pages[one.num_found :] if page not in others]
        for salt, prefix in [key for key, (page, _) in self.known.items() if page in alone]:
            for each in [key for key in self.known if key[0] == salt and key[1][: len(prefix)] == prefix]:
                del self.known[each]
        one.node = None
        self.end(which)

    def forget(self) -> None:
        self.cache.forget()
        self.known = {}

    def check(self) -> None:
        assert self.cache.num_cached == len(self.known)
        for salt, prefix in self.known:
            before = prefix[: (len(prefix) - 1) // self.size * self.size]
            assert not before or (salt, before) in self.known, "it hangs on what is found"
        held = [page for one in self.held for page in one.pages]
        assert self.cache._references == [held.count(page) for page in range(NUM_PAGES)]
        assert self.cache.num_free == NUM_PAGES - len(set(held))


@settings(max_examples=200, deadline=None)
@given(page_size=st.integers(1, 3), actions=ACTIONS)
@example(1, LOST)
def test_what_is_found_is_what_a_dictionary_of_all_prefixes_has(page_size, actions):
    model = Model(page_size)
    for action, *rest in actions:
        if action == "step":
            model.cache.begin_step()
            model.step += 1
        else:
            getattr(model, action)(*rest)
        model.check()
    while model.held:
        model.end(0)
    assert model.cache.num_free == NUM_PAGES


def cached(engine, prompt, **origin):
    """How many tokens of it are found, once it has been answered."""
    engine.add(prompt, GREEDY, Origin(**origin))
    first = engine.step()[0]
    while engine.num_running:
        engine.step()
    return first.num_cached


def test_the_beginning_of_a_page_is_found_too(new_engine, naive):
    engine = new_engine(page_size=8)
    base = list(range(20, 60))
    assert cached(engine, base) == 0
    assert cached(engine, base) == 39, "all but the last token, which draws the next one"
    assert cached(engine, [*base[:21], 5, 6]) == 21
    assert engine.generate([[*base[:30], 7]], GREEDY)[0].token_ids == naive("dense", [*base[:30], 7], 6)


def test_what_one_salt_has_computed_no_other_finds(new_engine):
    engine = new_engine(page_size=4)
    prompt = list(range(40))
    assert [cached(engine, prompt, salt=salt) for salt in ("one", "two", "", "one")] == [0, 0, 0, 39]
    assert cached(engine, prompt, owner="whoever", salt="two") == 39
    engine.forget_prefixes()
    assert engine.pages_cached == cached(engine, prompt, salt="one") == 0


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_answers_and_experts_are_the_same_with_and_without_it(kind, new_engine):
    """Prompts that begin alike in every way, asked together and twice, on few pages, against each on its own."""
    base = [(7 * i) % 256 for i in range(40)]
    prompts = [[*base[:cut], cut, 3] for cut in (5, 8, 12, 24, 33, 40)] + [base, base[:16]]
    params = GREEDY.model_copy(update={"experts": True})
    engine = new_engine(kind, page_size=8, num_pages=20, max_sequences=4, max_prefill=16)
    shared = [done for _ in range(2) for done in engine.generate(prompts, params)]
    assert engine.pages_in_use == 0
    alone = []
    for prompt in prompts:
        engine.forget_prefixes()
        alone += engine.generate([prompt], params)
    for one, other in zip(shared, alone * 2, strict=True):
        assert one.token_ids == other.token_ids
        assert kind == "dense" or (one.experts == other.experts).all()


@pytest.mark.parametrize("page_size", [4, 16])
@pytest.mark.parametrize("is_aborted", [False, True])
def test_branches_of_a_context_wait_until_it_is_computed_once(is_aborted, page_size, new_engine, naive):
    """It takes several steps; where the first of them goes away, the next one computes the rest."""
    engine = new_engine(page_size=page_size, max_prefill=14)
    context = [(5 * i) % 256 for i in range(50)]
    branches = [[*context, i] for i in range(4)]
    counted = []
    run = engine._runner.run
    engine._runner.run = lambda scheduled: (counted.extend(item.num_tokens for item in scheduled), run(scheduled))[1]
    ids = [engine.add(branch, GREEDY) for branch in branches]
    engine.step()
    assert engine.num_running == 1 and counted == [14]
    if is_aborted:
        engine.abort(ids.pop(0))
        branches.pop(0)
    done, sharing = {}, 0
    while len(done) < len(ids):
        done |= {output.id: output.completion.token_ids for output in engine.step() if output.completion}
        sharing = max(sharing, engine.num_running)
    assert [done[each] for each in ids] == [naive("dense", branch, 6) for branch in branches]
    assert sharing == len(ids)
    assert sum(counted) <= 14 * is_aborted + len(context) + len(ids) * (page_size + 6)


def test_who_waits_for_another_prompt_keeps_nobody_from_their_turn(new_engine):
    engine = new_engine(page_size=4, max_prefill=16)
    context = [(5 * i) % 256 for i in range(60)]
    first, second = (engine.add([*context, i], GREEDY) for i in range(2))
    other = engine.add([1, 2, 3], GREEDY)
    ended = []
    engine.step()
    assert {each.id for each in engine._scheduler.running} == {first, other}
    while len(ended) < 3:
        ended += [output.id for output in engine.step() if output.completion]
    assert ended[0] == other and set(ended) == {first, second, other}


def test_owners_share_places_equally_then_the_requests_of_one(new_engine, prompts):
    engine = new_engine(max_sequences=4)
    ids = []
    for number in range(6):
        params = GREEDY.model_copy(update={"max_tokens": 3 + 3 * number})
        ids.append(engine.add(prompts[1], params, Origin("many", f"request {number // 5}")))
    engine.step()
    assert engine.num_running == 4, "an owner alone takes all places"
    late = [engine.add(prompts[1], GREEDY, Origin(owner)) for owner in ("one", "one", "two")]
    order: list[int] = []
    while engine._sequences:
        order += [each.id for each in engine._scheduler.running if each.id not in order]
        engine.step()
    assert order[:4] == [ids[0], ids[5], ids[1], ids[2]], (
        "the second request of the owner comes before more of its first"
    )
    assert order[4:6] == [late[0], late[2]], "those who have nothing come before who has"
