"""The kernels of decoding and of a prompt's chunks say what torch's attention over a mask says."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from inhouse.engine.cpu import paged_attention as cpu
from inhouse.engine.cpu.chunk_attention import chunk_attention
from inhouse.engine.paged_attention import Places, paged_attention, reference
from inhouse.model.cpu import native

PAGE = 4
NEAR = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def case(num_kv_heads: int, group: int, dim: int, dtype: torch.dtype) -> tuple[list[torch.Tensor], Places]:
    """Sequences whose newest tokens lie at ends and beginnings of pages; the first page of two is shared."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.tensor([0, 3, 4, 30, 70, 129, 5])
    table = torch.randperm(400, generator=generator)[: 9 * 40].view(9, 40)
    rows = torch.tensor([8, 1, 2, 0, 4, 5, 6])
    table[6, 0] = table[2, 0]

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    num = len(positions)
    q, k, v = normal(num, num_kv_heads * group, dim), normal(num, num_kv_heads, dim), normal(num, num_kv_heads, dim)
    return [q, k, v, normal(400, 2, num_kv_heads, PAGE, dim)], Places(table, rows, positions)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(
    ("num_kv_heads", "group", "dim"), [(1, 1, 8), (2, 3, 16), (8, 2, 128), (2, 1, 6), (1, 9, 64), (2, 3, 96)]
)
@pytest.mark.parametrize("window", [None, 1, 6, 1000])
def test_the_kernel_says_what_the_reference_says(dtype, num_kv_heads, group, dim, window):
    (q, k, v, cache), places = case(num_kv_heads, group, dim, dtype)
    if not cpu.is_there(cache):
        pytest.skip("no C++ compiler")
    own, other = cache.clone(), cache.clone()
    out = paged_attention(q, k, v, own, places, window)
    expected = reference(q, k, v, other, *places, window or 0)
    torch.testing.assert_close(out, expected, rtol=NEAR[dtype], atol=NEAR[dtype])
    assert torch.equal(own, other), "the newest keys and values are where the table says"


@pytest.mark.parametrize("dtype", NEAR)
def test_first_positions_that_are_skipped_change_nothing(dtype):
    (q, k, v, cache), places = case(2, 2, 32, dtype)
    places = places._replace(positions_N=places.positions_N + 1)
    attends = [reference] + [cpu.paged_attention] * cpu.is_there(cache)
    for attend in attends:
        outs = []
        for filling in (0.0, 9.0):
            own = cache.clone()
            own[places.table_RP[:, 0], :, :, 0] = filling
            outs.append(attend(q, k, v, own, *places, 0, 1))
        assert torch.equal(*outs)
        torch.testing.assert_close(
            outs[0], reference(q, k, v, cache.clone(), *places, 0, 1), rtol=NEAR[dtype], atol=NEAR[dtype]
        )


@pytest.mark.parametrize("dtype", NEAR)
def test_a_sequence_gets_the_same_bits_alone_as_among_others(dtype):
    (q, k, v, cache), places = case(2, 2, 32, dtype)
    if not cpu.is_there(cache):
        pytest.skip("no C++ compiler")
    together = paged_attention(q, k, v, cache.clone(), places, None)
    for i in range(len(q)):
        alone = Places(places.table_RP, places.rows_N[i : i + 1], places.positions_N[i : i + 1])
        one = paged_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], cache.clone(), alone, None)
        assert torch.equal(one[0], together[i])


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "num_tokens", "past"), [(4, 2, 5, 3), (4, 4, 1, 7), (6, 2, 40, 17)]
)
def test_a_chunk_sees_what_is_before_it_and_itself_causally(dtype, num_heads, num_kv_heads, num_tokens, past):
    torch.manual_seed(0)
    q = torch.randn(num_tokens, num_heads, 16).to(dtype)
    k, v = (torch.randn(num_kv_heads, past + num_tokens, 16).to(dtype) for _ in range(2))
    mask = torch.ones(num_tokens, past + num_tokens, dtype=torch.bool).tril(past)
    expected = F.scaled_dot_product_attention(
        q.float()[None].transpose(1, 2), k.float()[None], v.float()[None], attn_mask=mask, enable_gqa=True
    )[0].transpose(0, 1)
    torch.testing.assert_close(chunk_attention(q, k, v).float(), expected, rtol=NEAR[dtype], atol=NEAR[dtype])


def test_without_a_compiler_or_with_a_broken_one_there_is_no_library(tmp_path, monkeypatch, caplog):
    source = tmp_path / "kernel.cpp"
    source.write_text('extern "C" int three() { return 3; }')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if native.find_compiler() is not None:
        library = native.load.__wrapped__(source)
        assert library is not None and library.three() == 3
        source.write_text("this is no C++")
        assert native.load.__wrapped__(source) is None and "cannot be compiled" in caplog.text
    monkeypatch.setenv("PATH", "/nowhere")
    assert native.load.__wrapped__(source) is None and "no C++ compiler" in caplog.text


def test_where_nothing_can_be_kept_a_library_is_made_for_this_process(tmp_path, monkeypatch):
    if native.find_compiler() is None:
        pytest.skip("no C++ compiler")
    source = tmp_path / "kernel.cpp"
    source.write_text('extern "C" int four() { return 4; }')
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", Path("/proc/nowhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        library = native.load.__wrapped__(source)
        assert library is not None and library.four() == 4
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert native.load.__wrapped__(source) is not None


def test_libraries_are_not_taken_from_a_folder_that_others_can_write_into(tmp_path, monkeypatch):
    folder = tmp_path / "inhouse" / "native"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder not in native._folders()


def test_a_library_is_made_anew_when_what_it_includes_has_changed(tmp_path, monkeypatch):
    if native.find_compiler() is None:
        pytest.skip("no C++ compiler")
    source, header = tmp_path / "kernel.cpp", tmp_path / "number.h"
    source.write_text('#include "number.h"\nextern "C" int number() { return NUMBER; }')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in (5, 6):
        header.write_text(f"#define NUMBER {number}\n")
        assert native.load.__wrapped__(source).number() == number
