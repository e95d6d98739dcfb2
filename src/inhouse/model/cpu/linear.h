// Rows times a matrix that was laid out for it once: in bf16, or in 8 bits with a scale for every 64 inputs of an output.
//
// A panel is 32 outputs. It holds, one after the other, what is multiplied at once: in bf16 two inputs of all outputs
// (vdpbf16ps), in 8 bits four (vpdpbusd). So a few rows read the weights as one stream, at the speed of the memory, and
// many rows find a panel in the cache. 8-bit weights are kept plus 128, because the instruction wants one side unsigned;
// rows are rounded to 8 bits as they come, 64 numbers of a row by one scale (as Q8_0 of llama.cpp does with 32).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "numbers.h"

#if defined(HAS_BF16_PRODUCTS) && defined(__AVX512VNNI__)
#define HAS_DOT_PRODUCTS
#endif

namespace {

constexpr int64_t PANEL = 32;  // outputs
constexpr int64_t GROUP = 64;  // inputs that share a scale
constexpr int64_t GROUP_BYTES = PANEL * sizeof(float) + PANEL * GROUP;

inline int64_t up_to(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

struct Matrix {
  int64_t is_int8, outputs, inputs;
  const uint8_t* data;
  const float* bias;  // or nothing

  int64_t num_panels() const { return (outputs + PANEL - 1) / PANEL; }
  int64_t panel_bytes() const {
    return is_int8 ? up_to(inputs, GROUP) / GROUP * GROUP_BYTES : up_to(inputs, 2) * PANEL * 2;
  }
};

// Rows as a matrix of `inputs` wants them.
struct Rows {
  int64_t width = 0, groups = 0;
  const bf16* wide = nullptr;        // (rows, width)
  const int8_t* narrow = nullptr;    // (rows, width)
  const float* scale = nullptr;      // (rows, groups)
  const int32_t* offset = nullptr;   // (rows, groups): what the 128 of the weights add, negative
};

// The memory of `Rows`, which are filled row by row.
class Prepared {
 public:
  Rows rows;

  void resize(bool is_int8, int64_t num, int64_t inputs) {
    is_int8_ = is_int8, inputs_ = inputs;
    rows.width = up_to(inputs, is_int8 ? GROUP : 2), rows.groups = rows.width / GROUP;
    if (is_int8) {
      narrow_.resize(num * rows.width), scale_.resize(num * rows.groups), offset_.resize(num * rows.groups);
    } else {
      wide_.resize(num * rows.width);
    }
    rows.wide = wide_.data(), rows.narrow = narrow_.data(), rows.scale = scale_.data(), rows.offset = offset_.data();
  }

  // Numbers first..first+count of a row, `first` a multiple of GROUP; behind a row's end come zeros.
  template <typename T>
  void put_part(int64_t row, int64_t first, int64_t count, const T* x) {
    if (!is_int8_) {
      bf16* to = wide_.data() + row * rows.width;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) put(to + first + i, to_float(x[i]));
      for (int64_t i = inputs_; i < rows.width; ++i) to[i] = bf16{0};
      return;
    }
    for (int64_t start = 0; start < count; start += GROUP) {
      const int64_t num = std::min(GROUP, count - start), group = row * rows.groups + (first + start) / GROUP;
      float own[GROUP] = {}, most = 0.0f, zero = 0.0f;
      for (int64_t i = 0; i < num; ++i) own[i] = to_float(x[start + i]);
#pragma omp simd reduction(max : most) reduction(+ : zero)
      for (int64_t i = 0; i < GROUP; ++i) most = std::max(most, std::fabs(own[i])), zero += own[i] * 0.0f;
      const bool is_finite = zero == 0.0f;  // what is no number must not become one: it comes out as the scale
      const float inverse = is_finite && most > 1e-30f ? 127.0f / most : 0.0f;
      int8_t* to = narrow_.data() + row * rows.width + first + start;
      int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < GROUP; ++i) {
        const int32_t rounded = static_cast<int32_t>(std::nearbyint(is_finite ? own[i] * inverse : 0.0f));
        to[i] = static_cast<int8_t>(rounded), sum += rounded;
      }
      scale_[group] = is_finite ? most / 127.0f : NAN, offset_[group] = -128 * sum;
    }
  }

  template <typename T>
  void put_row(int64_t row, const T* x) { put_part(row, 0, inputs_, x); }

  void copy_row(int64_t row, const Rows& from, int64_t from_row) {
    if (is_int8_) {
      std::memcpy(narrow_.data() + row * rows.width, from.narrow + from_row * rows.width, rows.width);
      std::memcpy(scale_.data() + row * rows.groups, from.scale + from_row * rows.groups, rows.groups * sizeof(float));
      std::memcpy(offset_.data() + row * rows.groups, from.offset + from_row * rows.groups, rows.groups * 4);
    } else {
      std::memcpy(wide_.data() + row * rows.width, from.wide + from_row * rows.width, rows.width * sizeof(bf16));
    }
  }

 private:
  bool is_int8_ = false;
  int64_t inputs_ = 0;
  std::vector<bf16> wide_;
  std::vector<int8_t> narrow_;
  std::vector<float> scale_;
  std::vector<int32_t> offset_;
};

#ifdef HAS_DOT_PRODUCTS

constexpr int64_t MOST_ROWS = 8;  // at once: their sums fill the registers
constexpr int64_t MANY_ROWS[] = {8, 6};  // of more than that, in bf16 and in 8 bits

inline uint32_t word(const void* at) {
  uint32_t out;
  std::memcpy(&out, at, sizeof(out));
  return out;
}

// Every sum is computed in the same order whatever R: a sequence gets the same bits alone as among others.
template <int R>
void multiply_bf16(const uint8_t* panel, const Rows& rows, int64_t first, float* out) {
  const bf16* x = rows.wide + first * rows.width;
  __m512 sum[R][2];
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (int64_t i = 0; i < rows.width; i += 2, panel += 128) {
    const __m512bh low = (__m512bh)_mm512_loadu_si512(panel), high = (__m512bh)_mm512_loadu_si512(panel + 64);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32(word(x + r * rows.width + i));
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], low, pair);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], high, pair);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int half = 0; half < 2; ++half) _mm512_storeu_ps(out + r * PANEL + half * 16, sum[r][half]);
}

template <int R>
void multiply_int8(const uint8_t* panel, const Rows& rows, int64_t first, float* out) {
  const int8_t* x = rows.narrow + first * rows.width;
  __m512 sum[R][2];
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (int64_t g = 0; g < rows.groups; ++g, panel += GROUP_BYTES, x += GROUP) {
    __m512i part[R][2];
    for (int r = 0; r < R; ++r)
      part[r][0] = part[r][1] = _mm512_set1_epi32(rows.offset[(first + r) * rows.groups + g]);
    const uint8_t* weights = panel + PANEL * sizeof(float);
#pragma GCC unroll 4
    for (int i = 0; i < GROUP; i += 4, weights += 128) {
      const __m512i low = _mm512_loadu_si512(weights), high = _mm512_loadu_si512(weights + 64);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512i four = _mm512_set1_epi32(word(x + r * rows.width + i));
        part[r][0] = _mm512_dpbusd_epi32(part[r][0], low, four);
        part[r][1] = _mm512_dpbusd_epi32(part[r][1], high, four);
      }
    }
    const float* scales = reinterpret_cast<const float*>(panel);
    const __m512 low = _mm512_loadu_ps(scales), high = _mm512_loadu_ps(scales + 16);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 scale = _mm512_set1_ps(rows.scale[(first + r) * rows.groups + g]);
      sum[r][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[r][0]), _mm512_mul_ps(low, scale), sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[r][1]), _mm512_mul_ps(high, scale), sum[r][1]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int half = 0; half < 2; ++half) _mm512_storeu_ps(out + r * PANEL + half * 16, sum[r][half]);
}

#else

constexpr int64_t MOST_ROWS = 4, MANY_ROWS[] = {4, 4};

template <int R>
void multiply_bf16(const uint8_t* panel, const Rows& rows, int64_t first, float* out) {
  const bf16* weights = reinterpret_cast<const bf16*>(panel);
  std::fill(out, out + R * PANEL, 0.0f);
  for (int64_t i = 0; i < rows.width; i += 2, weights += 2 * PANEL)
    for (int r = 0; r < R; ++r) {
      const bf16* x = rows.wide + (first + r) * rows.width + i;
      const float a = to_float(x[0]), b = to_float(x[1]);
#pragma omp simd
      for (int64_t o = 0; o < PANEL; ++o)
        out[r * PANEL + o] += a * to_float(weights[2 * o]) + b * to_float(weights[2 * o + 1]);
    }
}

template <int R>
void multiply_int8(const uint8_t* panel, const Rows& rows, int64_t first, float* out) {
  std::fill(out, out + R * PANEL, 0.0f);
  for (int64_t g = 0; g < rows.groups; ++g, panel += GROUP_BYTES) {
    const float* scales = reinterpret_cast<const float*>(panel);
    const uint8_t* weights = panel + PANEL * sizeof(float);
    for (int r = 0; r < R; ++r) {
      const int8_t* x = rows.narrow + (first + r) * rows.width + g * GROUP;
      const float scale = rows.scale[(first + r) * rows.groups + g];
      int32_t part[PANEL];
      std::fill(part, part + PANEL, rows.offset[(first + r) * rows.groups + g]);
      for (int64_t i = 0; i < GROUP; i += 4)
#pragma omp simd
        for (int64_t o = 0; o < PANEL; ++o)
          for (int64_t j = 0; j < 4; ++j) part[o] += weights[(i / 4 * PANEL + o) * 4 + j] * x[i + j];
#pragma omp simd
      for (int64_t o = 0; o < PANEL; ++o) out[r * PANEL + o] += static_cast<float>(part[o]) * (scales[o] * scale);
    }
  }
}

#endif

using Multiply = void (*)(const uint8_t*, const Rows&, int64_t, float*);

template <int R>
Multiply of_rows(bool is_int8, int64_t num) {
  if constexpr (R > 1)
    if (num < R) return of_rows<R - 1>(is_int8, num);
  return is_int8 ? multiply_int8<R> : multiply_bf16<R>;
}

// One panel of outputs of rows first..first+num, handed on as `take(row, first output, how many, values)`.
template <typename Take>
void multiply_panel(const Matrix& matrix, int64_t panel, const Rows& rows, int64_t first, int64_t num, Take take) {
  alignas(64) float out[MOST_ROWS * PANEL];
  const uint8_t* data = matrix.data + panel * matrix.panel_bytes();
  const int64_t start = panel * PANEL, usual = MANY_ROWS[matrix.is_int8];
  const int64_t blocks = num <= MOST_ROWS ? 1 : (num + usual - 1) / usual;
  const int64_t count = std::min(PANEL, matrix.outputs - start);
  if (num <= 0) return;
  for (int64_t block = 0, done = 0; block < blocks; ++block) {  // of nearly equal size
    const int64_t here = (num - done + blocks - block - 1) / (blocks - block);
    of_rows<MOST_ROWS>(matrix.is_int8, here)(data, rows, first + done, out);
    for (int64_t r = 0; r < here; ++r) {
      float* own = out + r * PANEL;
      if (matrix.bias != nullptr)
        for (int64_t o = 0; o < count; ++o) own[o] += matrix.bias[start + o];
      take(first + done + r, start, count, own);
    }
    done += here;
  }
}

}  // namespace
