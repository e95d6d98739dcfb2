// Attention of one new token a sequence to keys and values in pages, which are read where they lie, once.
//
// Softmax is computed online (Milakov and Gimelshein 2018), block by block of tokens, all query heads of one key-value
// head together. Everything is summed in fp32. Plain C++: the compiler makes vectors of it for the machine it runs on.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int BLOCK = 32;  // tokens
constexpr int AHEAD = 16;    // how far to fetch: the pages lie anywhere
constexpr int SIDE = 4;    // tokens side by side: as many sums that do not wait for each other

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

template <typename T>
struct Shape {
  int64_t num_kv_heads, group, dim, page_size, num_pages, window;

  // a page holds the keys of its tokens, then their values, each head for itself
  int64_t place(const int64_t* pages, int64_t position, int64_t part, int64_t head) const {
    const int64_t page = (pages[position / page_size] * 2 + part) * num_kv_heads + head;
    return (page * page_size + position % page_size) * dim;
  }
};

// SIDE tokens' keys (part 0) or values (part 1) in fp32, from `first` on; the newest again beyond it.
template <typename T>
void read(const Shape<T>& s, const T* cache, const int64_t* pages, int64_t first, int64_t newest, int64_t part,
          int64_t head, float* tokens) {
  for (int64_t j = 0; j < SIDE; ++j) {
    const T* row = cache + s.place(pages, std::min(first + j, newest), part, head);
    float* own = tokens + j * s.dim;
    const char* later = reinterpret_cast<const char*>(cache + s.place(pages, std::min(first + j + AHEAD, newest), part, head));
    for (int64_t line = 0; line < s.dim * static_cast<int64_t>(sizeof(T)); line += 64) __builtin_prefetch(later + line);
#pragma omp simd
    for (int64_t i = 0; i < s.dim; ++i) own[i] = to_float(row[i]);
  }
}

template <typename T>
void attend(const Shape<T>& s, const T* q, const T* cache, const int64_t* pages, int64_t position, int64_t head,
            float scale, T* out, float* memory) {
  const int64_t dim = s.dim, group = s.group;
  float* query = memory;                  // group * dim
  float* sum = query + group * dim;       // group * dim
  float* scores = sum + group * dim;      // group * BLOCK
  float* most = scores + group * BLOCK;   // group
  float* total = most + group;            // group
  float* tokens = total + group;          // SIDE * dim
  for (int64_t i = 0; i < group * dim; ++i) query[i] = to_float(q[head * group * dim + i]) * scale;
  std::fill(sum, sum + group * dim, 0.0f);
  std::fill(most, most + group, -std::numeric_limits<float>::infinity());
  std::fill(total, total + group, 0.0f);
  const int64_t first = s.window ? std::max<int64_t>(position + 1 - s.window, 0) : 0;
  for (int64_t start = first; start <= position; start += BLOCK) {
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
    for (int64_t i = 0; i < dim; ++i) put(out + (head * group + g) * dim + i, sum[g * dim + i] / total[g]);
}

template <typename T>
void run(const T* q, const T* k, const T* v, T* cache, const int64_t* table, const int64_t* rows,
         const int64_t* positions, T* out, int64_t num, const Shape<T>& s) {
  const int64_t width = s.num_kv_heads * s.dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.dim));
  const int64_t num_tasks = num * s.num_kv_heads;
#pragma omp parallel if (num_tasks > 1)
  {
    std::vector<float> memory(s.group * (2 * s.dim + BLOCK + 2) + SIDE * s.dim);
#pragma omp for  // all before anybody reads: one may share the page that another fills
    for (int64_t task = 0; task < num_tasks; ++task) {
      const int64_t n = task / s.num_kv_heads, head = task % s.num_kv_heads, own = n * width + head * s.dim;
      const int64_t* pages = table + rows[n] * s.num_pages;
      std::memcpy(cache + s.place(pages, positions[n], 0, head), k + own, s.dim * sizeof(T));
      std::memcpy(cache + s.place(pages, positions[n], 1, head), v + own, s.dim * sizeof(T));
    }
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < num_tasks; ++task) {
      const int64_t n = task / s.num_kv_heads, head = task % s.num_kv_heads, own = n * width * s.group;
      const int64_t* pages = table + rows[n] * s.num_pages;
      attend(s, q + own, cache, pages, positions[n], head, scale, out + own, memory.data());
    }
  }
}

}  // namespace

// q and out (N, H, d), k and v (N, K, d), cache (pages, 2, K, slots, d), table (rows, P): all contiguous; window 0: none.
// Puts k and v to `positions`, then attends up to them.
extern "C" void paged_attention(int is_bf16, const void* q, const void* k, const void* v, void* cache,
                                const int64_t* table, const int64_t* rows, const int64_t* positions, void* out,
                                int64_t num, int64_t num_kv_heads, int64_t group, int64_t dim, int64_t page_size,
                                int64_t num_pages, int64_t window) {
  if (is_bf16)
    run(static_cast<const bf16*>(q), static_cast<const bf16*>(k), static_cast<const bf16*>(v),
        static_cast<bf16*>(cache), table, rows, positions, static_cast<bf16*>(out), num,
        Shape<bf16>{num_kv_heads, group, dim, page_size, num_pages, window});
  else
    run(static_cast<const float*>(q), static_cast<const float*>(k), static_cast<const float*>(v),
        static_cast<float*>(cache), table, rows, positions, static_cast<float*>(out), num,
        Shape<float>{num_kv_heads, group, dim, page_size, num_pages, window});
}
