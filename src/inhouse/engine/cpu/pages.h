// Where keys and values of a layer lie.
#pragma once

#include <cstdint>

namespace {

constexpr int NEAR = 2;  // where they are fetched to: the second cache waits for more lines at once than the first

// T: what the cache is in.
template <typename T>
struct Shape {
  int64_t num_kv_heads, group, dim, page_size, num_pages, window;
  int64_t skipped = 0;  // first places that hold nothing

  // a page holds the keys of its tokens, then their values, each head for itself
  int64_t place(const int64_t* pages, int64_t position, int64_t part, int64_t head) const {
    const int64_t page = (pages[position / page_size] * 2 + part) * num_kv_heads + head;
    return (page * page_size + position % page_size) * dim;
  }

  // the first token that the newest one sees
  int64_t first(int64_t position) const { return window && position >= window ? position + 1 - window : skipped; }
};

}  // namespace
