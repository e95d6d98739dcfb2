// Attention alone, of queries, keys and values that were made elsewhere.

#include "attention.h"

namespace {

template <typename T>
void run(const T* q, const T* k, const T* v, T* cache, const int64_t* table, const int64_t* rows,
         const int64_t* positions, T* out, int64_t num, const Shape<T>& s) {
  const int64_t width = s.num_kv_heads * s.dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.dim));
  const int64_t num_tasks = num * s.num_kv_heads;
#pragma omp parallel if (num_tasks > 1)
  {
    std::vector<float> memory(memory_of(s));
#pragma omp for  // all before anybody reads: one may share the page that another fills
    for (int64_t task = 0; task < num_tasks; ++task) {
      const int64_t n = task / s.num_kv_heads, head = task % s.num_kv_heads, own = n * width + head * s.dim;
      const int64_t* pages = table + rows[n] * s.num_pages;
      std::memcpy(cache + s.place(pages, positions[n], 0, head), k + own, s.dim * sizeof(T));
      std::memcpy(cache + s.place(pages, positions[n], 1, head), v + own, s.dim * sizeof(T));
    }
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < num_tasks; ++task) {
      const int64_t n = task / s.num_kv_heads, head = task % s.num_kv_heads, own = (n * s.num_kv_heads + head) * s.group * s.dim;
      const int64_t* pages = table + rows[n] * s.num_pages;
      attend(s, q + own, cache, pages, positions[n], head, scale, out + own, memory.data());
    }
  }
}

}  // namespace

// q and out (N, H, d), k and v (N, K, d), cache (pages, 2, K, slots, d), table (rows, P): all contiguous; window 0: none.
// Puts k and v to `positions`, then attends up to them, without the first `skipped` (not with a window).
extern "C" void paged_attention(int is_bf16, const void* q, const void* k, const void* v, void* cache,
                                const int64_t* table, const int64_t* rows, const int64_t* positions, void* out,
                                int64_t num, int64_t num_kv_heads, int64_t group, int64_t dim, int64_t page_size,
                                int64_t num_pages, int64_t window, int64_t skipped) {
  if (is_bf16)
    run(static_cast<const bf16*>(q), static_cast<const bf16*>(k), static_cast<const bf16*>(v),
        static_cast<bf16*>(cache), table, rows, positions, static_cast<bf16*>(out), num,
        Shape<bf16>{num_kv_heads, group, dim, page_size, num_pages, window, skipped});
  else
    run(static_cast<const float*>(q), static_cast<const float*>(k), static_cast<const float*>(v),
        static_cast<float*>(cache), table, rows, positions, static_cast<float*>(out), num,
        Shape<float>{num_kv_heads, group, dim, page_size, num_pages, window, skipped});
}
