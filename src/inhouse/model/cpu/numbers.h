// Numbers in fp32 and bf16, and an exponential that the compiler makes vectors of.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#if defined(__AVX512BF16__) && !defined(PLAIN)
#define HAS_BF16_PRODUCTS
#include <immintrin.h>
#endif

namespace {

struct bf16 { uint16_t bits; };

inline float to_float(float x) { return x; }

inline float to_float(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof(out));
  return out;
}

inline void put(float* out, float x) { *out = x; }

inline void put(bf16* out, float x) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  out->bits = static_cast<uint16_t>(std::isnan(x) ? 0x7FC0 : rounded);
}

// e to the x for x up to 0, after Cephes' expf, 1e-7 apart: the compiler makes vectors of it, not of std::exp.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  for (const float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f})
    y = y * r + coefficient;
  const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return (y * r * r + r + 1.0f) * power;
}

// x / (1 + e to the -x), from an exponential of numbers up to 0 alone.
inline float silu(float x) {
  const float e = exponential(-std::fabs(x));
  return x * (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

}  // namespace
