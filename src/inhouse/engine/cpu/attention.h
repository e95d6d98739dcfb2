// Attention of one new token a sequence to keys and values in pages, which are read where they lie, once.
//
// Softmax is computed online (Milakov and Gimelshein 2018), block by block of tokens, all query heads of one key-value
// head together. Everything is summed in fp32. Plain C++: the compiler makes vectors of it for the machine it runs on;
// for a cache in bf16 see attention_bf16.h too.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "../../model/cpu/numbers.h"
#include "attention_bf16.h"
#include "pages.h"

namespace {

constexpr int BLOCK = 32;  // tokens
constexpr int AHEAD = 16;  // how far to fetch: the pages lie anywhere
constexpr int SIDE = 4;    // tokens side by side: as many sums that do not wait for each other

// SIDE tokens' keys (part 0) or values (part 1) in fp32, from `first` on; the newest again beyond it.
template <typename T>
void read(const Shape<T>& s, const T* cache, const int64_t* pages, int64_t first, int64_t newest, int64_t part,
          int64_t head, float* tokens) {
  for (int64_t j = 0; j < SIDE; ++j) {
    const T* row = cache + s.place(pages, std::min(first + j, newest), part, head);
    float* own = tokens + j * s.dim;
    const char* later = reinterpret_cast<const char*>(cache + s.place(pages, std::min(first + j + AHEAD, newest), part, head));
    for (int64_t line = 0; line < s.dim * static_cast<int64_t>(sizeof(T)); line += 64) __builtin_prefetch(later + line, 0, NEAR);
#pragma omp simd
    for (int64_t i = 0; i < s.dim; ++i) own[i] = to_float(row[i]);
  }
}

// Numbers of the working memory of `attend`.
template <typename T>
int64_t memory_of(const Shape<T>& s) { return s.group * (2 * s.dim + BLOCK + 2) + SIDE * s.dim; }

// The queries `q` (group, d) of one key-value head, and what they get.
template <typename T, typename Q>
void attend(const Shape<T>& s, const Q* q, const T* cache, const int64_t* pages, int64_t position, int64_t head,
            float scale, Q* out, float* memory) {
#ifdef HAS_BF16_PRODUCTS
  if constexpr (sizeof(T) == sizeof(bf16))
    if (s.dim % PAIRS == 0) return attend_products(s, q, cache, pages, position, head, scale, out, memory, s.group);
#endif
  const int64_t dim = s.dim, group = s.group;
  float* query = memory;                  // group * dim
  float* sum = query + group * dim;       // group * dim
  float* scores = sum + group * dim;      // group * BLOCK
  float* most = scores + group * BLOCK;   // group
  float* total = most + group;            // group
  float* tokens = total + group;          // SIDE * dim
  for (int64_t i = 0; i < group * dim; ++i) query[i] = to_float(q[i]) * scale;
  std::fill(sum, sum + group * dim, 0.0f);
  std::fill(most, most + group, -std::numeric_limits<float>::infinity());
  std::fill(total, total + group, 0.0f);
  for (int64_t start = s.first(position); start <= position; start += BLOCK) {
    const int64_t count = std::min<int64_t>(BLOCK, position + 1 - start);
    for (int64_t j = 0; j < count; j += SIDE) {
      read(s, cache, pages, start + j, position, 0, head, tokens);
      for (int64_t g = 0; g < group; ++g) {
        const float *own = query + g * dim, *t = tokens;
        float a = 0.0f, b = 0.0f, c = 0.0f, e = 0.0f;
#pragma omp simd reduction(+ : a, b, c, e)
        for (int64_t i = 0; i < dim; ++i) {
          a += own[i] * t[i];
          b += own[i] * t[dim + i];
          c += own[i] * t[2 * dim + i];
          e += own[i] * t[3 * dim + i];
        }
        float* to = scores + g * BLOCK + j;
        to[0] = a, to[1] = b, to[2] = c, to[3] = e;
      }
    }
    for (int64_t g = 0; g < group; ++g) {
      float* own = scores + g * BLOCK;
      float highest = most[g];
      for (int64_t j = 0; j < count; ++j) highest = std::max(highest, own[j]);
      const float factor = exponential(most[g] - highest);
      float added = 0.0f;
      std::fill(own + count, own + BLOCK, -std::numeric_limits<float>::infinity());  // beyond the newest: no weight
      for (int64_t j = 0; j < BLOCK; ++j) own[j] = exponential(own[j] - highest);
      for (int64_t j = 0; j < count; ++j) added += own[j];
      most[g] = highest;
      total[g] = total[g] * factor + added;
      if (factor != 1.0f)
        for (int64_t i = 0; i < dim; ++i) sum[g * dim + i] *= factor;
    }
    for (int64_t j = 0; j < count; j += SIDE) {
      read(s, cache, pages, start + j, position, 1, head, tokens);
      for (int64_t g = 0; g < group; ++g) {
        const float *weight = scores + g * BLOCK + j, *t = tokens;
        float* own = sum + g * dim;
#pragma omp simd
        for (int64_t i = 0; i < dim; ++i)
          own[i] += weight[0] * t[i] + weight[1] * t[dim + i] + weight[2] * t[2 * dim + i] + weight[3] * t[3 * dim + i];
      }
    }
  }
  for (int64_t g = 0; g < group; ++g)
    for (int64_t i = 0; i < dim; ++i) put(out + g * dim + i, sum[g * dim + i] / total[g]);
}

}  // namespace
