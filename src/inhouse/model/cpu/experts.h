// SwiGLU, and many of it of which every row goes through those that it chose.
#pragma once

#include "linear.h"
#include "team.h"

namespace {

constexpr int64_t PART = 512;  // numbers of a row in a task, a multiple of GROUP

// What lies between two matrices: silu of the first half of every row, times its second half.
inline void activate_part(const float* both, int64_t inner, int64_t row, int64_t part, Prepared& out) {
  float own[PART];
  const int64_t first = part * PART, count = std::min(PART, inner - first);
  const float *gate = both + row * 2 * inner + first, *up = gate + inner;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) own[i] = silu(gate[i]) * up[i];
  out.put_part(row, first, count, own);
}

inline void activate(Team::Member& member, const float* both, int64_t num, int64_t inner, Prepared& out) {
  const int64_t parts = (inner + PART - 1) / PART;
  member.each(num * parts, [&](int64_t task) { activate_part(both, inner, task / parts, task % parts, out); });
}

// y (rows, outputs) = rows times the matrix, or added to y.
template <bool ADDS>
void multiply(Team::Member& member, const Matrix& matrix, const Rows& rows, int64_t num, float* y) {
  member.each(matrix.num_panels(), [&](int64_t panel) {
    multiply_panel(matrix, panel, rows, 0, num, [&](int64_t row, int64_t start, int64_t count, const float* values) {
      float* to = y + row * matrix.outputs + start;
      if (ADDS)
        for (int64_t o = 0; o < count; ++o) to[o] += values[o];
      else
        std::memcpy(to, values, count * sizeof(float));
    });
  });
}

// Matrices of the same shape, one behind the other.
struct Stack {
  int64_t num;
  Matrix first;

  Matrix of(int64_t number) const {
    Matrix out = first;
    out.data += number * first.num_panels() * first.panel_bytes();
    return out;
  }
};

class Experts {
 public:
  static constexpr int64_t PARTS = 5;  // of a team, in `add`

  // For `num` rows of `top_k` choices each, before the team is gathered.
  void resize(const Stack& gate_up, const Stack& down, int64_t num, int64_t top_k) {
    num_ = num, top_k_ = top_k;
    place_.resize(num * top_k), starts_.resize(gate_up.num + 1);
    both_.resize(num * top_k * gate_up.first.outputs);
    gathered_.resize(gate_up.first.is_int8, num * top_k, gate_up.first.inputs);
    inner_.resize(down.first.is_int8, num * top_k, down.first.inputs);
  }

  // Adds to y (rows, D) what the chosen experts make of `x`, times their weights; both (rows, top_k).
  void add(Team::Member& member, const Stack& gate_up, const Stack& down, const Rows& x, const int64_t* chosen,
           const float* weights, float* y) {
    member.each(1, [&](int64_t) { sort(chosen, gate_up.num); });
    member.each(num_ * top_k_, [&](int64_t m) { gathered_.copy_row(m, x, place_[m] / top_k_); });
    const int64_t panels = gate_up.first.num_panels(), width = gate_up.first.outputs;
    member.each(gate_up.num * panels, [&](int64_t task) {
      const int64_t expert = task / panels, first = starts_[expert], chosen_by = starts_[expert + 1] - first;
      if (chosen_by == 0) return;
      multiply_panel(gate_up.of(expert), task % panels, gathered_.rows, first, chosen_by,
                     [&](int64_t m, int64_t start, int64_t count, const float* values) {
                       std::memcpy(both_.data() + m * width + start, values, count * sizeof(float));
                     });
    });
    activate(member, both_.data(), num_ * top_k_, width / 2, inner_);
    member.each(down.first.num_panels(), [&](int64_t panel) {  // all experts of a panel: their sums are of the same rows
      for (const int64_t expert : active_) {
        const int64_t first = starts_[expert];
        multiply_panel(down.of(expert), panel, inner_.rows, first, starts_[expert + 1] - first,
                       [&](int64_t m, int64_t start, int64_t count, const float* values) {
                         const float weight = weights[place_[m]];
                         float* to = y + place_[m] / top_k_ * down.first.outputs + start;
                         for (int64_t o = 0; o < count; ++o) to[o] += weight * values[o];
                       });
      }
    });
  }

 private:
  // Choices in the order of their experts.
  void sort(const int64_t* chosen, int64_t num_experts) {
    std::fill(starts_.begin(), starts_.end(), 0);
    for (int64_t m = 0; m < num_ * top_k_; ++m) ++starts_[chosen[m] + 1];
    active_.clear();
    for (int64_t e = 0; e < num_experts; ++e) {
      if (starts_[e + 1] > 0) active_.push_back(e);
      starts_[e + 1] += starts_[e];
    }
    std::vector<int64_t> next(starts_.begin(), starts_.end() - 1);
    for (int64_t m = 0; m < num_ * top_k_; ++m) place_[next[chosen[m]]++] = m;
  }

  int64_t num_ = 0, top_k_ = 0;
  std::vector<int64_t> place_, starts_, active_;
  std::vector<float> both_;
  Prepared gathered_, inner_;
};

}  // namespace
