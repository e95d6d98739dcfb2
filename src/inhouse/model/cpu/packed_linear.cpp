// What uses packed matrices in a pass of any number of rows: a linear map, and the routed experts.

#include "experts.h"

namespace {

template <typename T>
Rows prepare(Team::Member& member, const T* x, int64_t num, const Matrix& matrix, Prepared& memory) {
  if (sizeof(T) == sizeof(bf16) && !matrix.is_int8 && matrix.inputs % 2 == 0) {
    Rows rows;
    rows.width = matrix.inputs, rows.wide = reinterpret_cast<const bf16*>(x);
    return rows;
  }
  member.each(1, [&](int64_t) { memory.resize(matrix.is_int8, num, matrix.inputs); });
  member.each(num, [&](int64_t n) { memory.put_row(n, x + n * matrix.inputs); });
  return memory.rows;
}

template <typename T, typename Out>
void multiply(const T* x, int64_t num, const Matrix& matrix, Out* out, int threads) {
  Prepared memory;
  Team::gather(threads, 3, [&](Team::Member member) {
    const Rows rows = prepare(member, x, num, matrix, memory);
    member.each(matrix.num_panels(), [&](int64_t panel) {
      multiply_panel(matrix, panel, rows, 0, num, [&](int64_t n, int64_t start, int64_t count, const float* values) {
        Out* to = out + n * matrix.outputs + start;
        for (int64_t o = 0; o < count; ++o) put(to + o, values[o]);
      });
    });
  });
}

template <typename T>
void go_through(const T* x, int64_t num, int64_t top_k, const Stack& gate_up, const Stack& down, const int64_t* chosen,
                const float* weights, float* out, int threads) {
  Prepared memory;
  Experts experts;
  experts.resize(gate_up, down, num, top_k);
  Team::gather(threads, 2 + Experts::PARTS, [&](Team::Member member) {
    const Rows rows = prepare(member, x, num, gate_up.first, memory);
    experts.add(member, gate_up, down, rows, chosen, weights, out);
  });
}

}  // namespace

// x (rows, inputs) in bf16 or fp32, out (rows, outputs) in either: contiguous.
extern "C" void packed_linear(int is_bf16, int is_out_bf16, const void* x, int64_t num, const Matrix* matrix, void* out,
                              int threads) {
  if (is_bf16 && is_out_bf16) multiply(static_cast<const bf16*>(x), num, *matrix, static_cast<bf16*>(out), threads);
  else if (is_bf16) multiply(static_cast<const bf16*>(x), num, *matrix, static_cast<float*>(out), threads);
  else multiply(static_cast<const float*>(x), num, *matrix, static_cast<float*>(out), threads);
}

// x (rows, D), chosen and weights (rows, top_k); added to out (rows, D).
extern "C" void packed_experts(int is_bf16, const void* x, int64_t num, int64_t top_k, const Stack* gate_up,
                               const Stack* down, const int64_t* chosen, const float* weights, float* out, int threads) {
  if (is_bf16) go_through(static_cast<const bf16*>(x), num, top_k, *gate_up, *down, chosen, weights, out, threads);
  else go_through(static_cast<const float*>(x), num, top_k, *gate_up, *down, chosen, weights, out, threads);
}
