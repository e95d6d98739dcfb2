// `attend` of a cache in bf16, by the processor's products of bf16 pairs (vdpbf16ps), whose sums are fp32.
//
// Queries and weights are rounded to bf16 for it, as FlashAttention rounds them; a weight is rounded before it enters the
// softmax's total, so that weights still sum to one. Keys are multiplied as they lie: 16 tokens' products with a query
// are kept lane by lane, then added up across. Values are taken as pairs of tokens, whose numbers are interleaved.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>

#include "../../model/cpu/numbers.h"
#include "pages.h"

namespace {

#ifdef HAS_BF16_PRODUCTS

constexpr int64_t TOKENS = 32;  // between two looks at the largest score
constexpr int64_t LANES = 16;
constexpr int64_t PAIRS = 32;  // numbers of a head at once
constexpr int MOST_HEADS = 4;  // at once: their sums stay in registers

// The sum of every vector, in their order.
inline __m512 sums_of(const __m512* x) {
  __m512 four[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 a = x[4 * i], b = x[4 * i + 1], c = x[4 * i + 2], d = x[4 * i + 3];
    const __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    const __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    four[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
  }
  const auto halves = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  };
  const __m512 low = halves(four[0], four[1]), high = halves(four[2], four[3]);
  return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xDD));
}

inline __m512bh pairs_at(const bf16* at) { return (__m512bh)_mm512_loadu_si512(at); }

// The scores (G, TOKENS) of G query heads of the tokens at `rows`; what lies at `later` is fetched meanwhile.
template <int G>
void score(const bf16* query, const bf16* const* rows, const bf16* const* later, int64_t count, int64_t dim, float scale,
           float* scores) {
  for (int64_t j = 0; j < count; j += LANES) {
    for (int g = 0; g < G; ++g) {
      __m512 sum[LANES];
#pragma GCC unroll 16
      for (int64_t lane = 0; lane < LANES; ++lane) sum[lane] = _mm512_setzero_ps();
      for (int64_t i = 0; i < dim; i += PAIRS) {
        const __m512bh own = pairs_at(query + g * dim + i);
#pragma GCC unroll 16
        for (int64_t lane = 0; lane < LANES; ++lane) {
          if (g == 0) __builtin_prefetch(later[j + lane] + i, 0, NEAR);
          sum[lane] = _mm512_dpbf16_ps(sum[lane], own, pairs_at(rows[j + lane] + i));
        }
      }
      _mm512_storeu_ps(scores + g * TOKENS + j, _mm512_mul_ps(sums_of(sum), _mm512_set1_ps(scale)));
    }
  }
}

// To `sum` (G, dim / 32, 2, 16) times `factor`: the values at `rows`, by `weights` (G, TOKENS). `later` as above.
template <int G>
void add_values(const bf16* weights, const float* factor, const bf16* const* rows, const bf16* const* later,
                int64_t count, int64_t dim, float* sum) {
  for (int64_t i = 0; i < dim; i += PAIRS) {
    __m512 own[G][2];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g)
      for (int half = 0; half < 2; ++half)
        own[g][half] = _mm512_mul_ps(_mm512_loadu_ps(sum + g * dim + i + half * LANES), _mm512_set1_ps(factor[g]));
    for (int64_t j = 0; j < count; j += 2) {
      __builtin_prefetch(later[j] + i, 0, NEAR), __builtin_prefetch(later[j + 1] + i, 0, NEAR);
      const __m512i a = _mm512_loadu_si512(rows[j] + i), b = _mm512_loadu_si512(rows[j + 1] + i);
      const __m512bh low = (__m512bh)_mm512_unpacklo_epi16(a, b), high = (__m512bh)_mm512_unpackhi_epi16(a, b);
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        int32_t pair;
        std::memcpy(&pair, weights + g * TOKENS + j, sizeof(pair));
        const __m512bh weight = (__m512bh)_mm512_set1_epi32(pair);
        own[g][0] = _mm512_dpbf16_ps(own[g][0], weight, low);
        own[g][1] = _mm512_dpbf16_ps(own[g][1], weight, high);
      }
    }
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g)
      for (int half = 0; half < 2; ++half) _mm512_storeu_ps(sum + g * dim + i + half * LANES, own[g][half]);
  }
}

// `count` scores become weights under the largest so far; what stands before them counts `factor` times.
inline void weigh(const float* scores, int64_t count, float* most, float* total, float* factor, bf16* weights) {
  float highest = *most, added = 0.0f;
#pragma omp simd reduction(max : highest)
  for (int64_t j = 0; j < count; ++j) highest = std::max(highest, scores[j]);
  float exponentials[TOKENS];
#pragma omp simd
  for (int64_t j = 0; j < TOKENS; ++j) exponentials[j] = exponential(scores[j] - highest);
#pragma omp simd
  for (int64_t j = 0; j < TOKENS; ++j) put(weights + j, j < count ? exponentials[j] : 0.0f);
#pragma omp simd reduction(+ : added)
  for (int64_t j = 0; j < TOKENS; ++j) added += to_float(weights[j]);
  *factor = exponential(*most - highest);
  *most = highest, *total = *total * *factor + added;
}

// Where the keys of TOKENS tokens lie, from `first` on; the newest's again beyond it. No division for each of them.
inline void find_keys(const Shape<bf16>& s, const bf16* cache, const int64_t* pages, int64_t first, int64_t newest,
                      int64_t head, const bf16** keys) {
  int64_t page = first / s.page_size, slot = first % s.page_size, j = 0;
  for (const int64_t count = std::min(TOKENS, newest + 1 - first); j < count; ++page, slot = 0) {
    const bf16* key = cache + (pages[page] * 2 * s.num_kv_heads + head) * s.page_size * s.dim;
    for (; slot < s.page_size && j < count; ++slot) keys[j++] = key + slot * s.dim;
  }
  std::fill(keys + j, keys + TOKENS, keys[j - 1]);
}

template <int G, typename Q>
void attend_heads(const Shape<bf16>& s, const Q* q, const bf16* cache, const int64_t* pages, int64_t position,
                  int64_t head, float scale, Q* out, float* memory) {
  const int64_t dim = s.dim;
  float* sum = memory;                                   // G * dim
  bf16* query = reinterpret_cast<bf16*>(sum + G * dim);  // G * dim
  alignas(64) float scores[G * TOKENS] = {};
  alignas(64) bf16 weights[G * TOKENS];
  const bf16 *rows[2][TOKENS], **keys = rows[0], **later = rows[1], *values[TOKENS];
  float most[G], total[G], factor[G];
  for (int64_t i = 0; i < G * dim; ++i) put(query + i, to_float(q[i]));
  std::fill(sum, sum + G * dim, 0.0f);
  std::fill(most, most + G, -std::numeric_limits<float>::infinity());
  std::fill(total, total + G, 0.0f);
  const int64_t to_values = s.num_kv_heads * s.page_size * dim, first = s.first(position);
  find_keys(s, cache, pages, first, position, head, keys);
  for (int64_t start = first; start <= position; start += TOKENS, std::swap(keys, later)) {
    const int64_t count = std::min(TOKENS, position + 1 - start);
    const bool is_last = start + TOKENS > position;  // who comes here next asks for the next head
    find_keys(s, cache, pages, is_last ? first : start + TOKENS, position, head + is_last, later);
    for (int64_t j = 0; j < TOKENS; ++j) values[j] = keys[j] + to_values;
    score<G>(query, keys, values, count, dim, scale, scores);
    for (int g = 0; g < G; ++g)
      weigh(scores + g * TOKENS, count, most + g, total + g, factor + g, weights + g * TOKENS);
    add_values<G>(weights, factor, values, later, count, dim, sum);
  }
  // interleaving left the numbers 8 l + 0..3 of 32 in the first half's lanes 4 l + 0..3, and 8 l + 4..7 in the second's
  for (int g = 0; g < G; ++g)
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t from = i / PAIRS * PAIRS + i / 4 % 2 * LANES + i % PAIRS / 8 * 4 + i % 4;
      put(out + g * dim + i, sum[g * dim + from] / total[g]);
    }
}

// As `attend`, of the first `group` query heads, most of them at once.
template <int G = MOST_HEADS, typename Q>
void attend_products(const Shape<bf16>& s, const Q* q, const bf16* cache, const int64_t* pages, int64_t position,
                     int64_t head, float scale, Q* out, float* memory, int64_t group) {
  if constexpr (G > 1)
    if (group < G) return attend_products<G - 1>(s, q, cache, pages, position, head, scale, out, memory, group);
  attend_heads<G>(s, q, cache, pages, position, head, scale, out, memory);
  if (group > G)
    attend_products(s, q + G * s.dim, cache, pages, position, head, scale, out + G * s.dim, memory, group - G);
}

#endif

}  // namespace
