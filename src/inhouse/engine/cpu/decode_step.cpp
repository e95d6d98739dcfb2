// A whole step of decoding: from new tokens, one a sequence or a few, to the logits of the next, by one team of threads.
//
// What a block computes is inhouse.model.transformer's; here it stands as parts between which the team waits. The
// residual stream, and all that no matrix or cache reads, is fp32.

#include "../../model/cpu/experts.h"
#include "attention.h"

namespace {

struct Layer {
  Matrix qkv, output, gate_up, down;
  const float *before_attention, *before_mlp;  // RMSNorm
  const float *q_norm, *k_norm;                // or nothing
  void* cache;
  int64_t window, skipped, has_rope;
  const float *router, *router_bias;  // (E, D) and (E), or nothing
  Stack experts_gate_up, experts_down;
};

struct Model {
  int64_t is_bf16, is_embedding_bf16, width, vocab_size, num_layers, num_heads, num_kv_heads, head_dim, rotary_dim, page_size, top_k;
  int64_t num_groups, groups_per_token;  // of experts
  double norm_eps, embedding_eps, routed_scale, rope_magnitude;  // embedding_eps 0: embeddings are not normed
  const void* embedding;                         // (V, D)
  const float* frequencies;                      // rotary_dim / 2
  const float* last_norm;
  Matrix head;
  const Layer* layers;
  const float *embedding_norm, *hidden_norm;  // of a layer that predicts further ahead, or nothing
  Matrix join;                                // what enters it: of both, side by side
};

struct Batch {
  int64_t num;
  const int64_t *tokens, *rows, *positions, *table;
  int64_t num_pages, num_wanted;
  const int64_t* wanted;  // tokens behind which logits are wanted
  const float* before;    // (N, D), of each token the hidden state before it, where that is joined with it
  float* hidden;          // (N, D), to where the last hidden states go, normed; or nothing
};

inline float sum_of_squares(const float* x, int64_t count) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

// To y, which may be x. Without a weight: by the RMS alone.
inline void norm(const float* x, const float* weight, int64_t count, double eps, float* y) {
  const float inverse = 1.0f / std::sqrt(sum_of_squares(x, count) / static_cast<float>(count) + static_cast<float>(eps));
  if (weight == nullptr)
    for (int64_t i = 0; i < count; ++i) y[i] = x[i] * inverse;
  else
    for (int64_t i = 0; i < count; ++i) y[i] = x[i] * inverse * weight[i];
}

inline float dot(const float* a, const float* b, int64_t count) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// The log of the sum of exponentials.
inline float log_total(const float* x, int64_t count) {
  float most = -std::numeric_limits<float>::infinity(), sum = 0.0f;
  bool is_number = true;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, x[i]), is_number &= !std::isnan(x[i]);
  if (!is_number || !std::isfinite(most)) return is_number ? most : NAN;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += exponential(x[i] - most);
  return most + std::log(sum);
}

// T: what the cache is in.
template <typename T>
class Step {
 public:
  void run(const Model& model, const Batch& batch, float* logits, float* totals, int64_t* chosen, int threads) {
    resize(model, batch.num);
    const int64_t parts = 2 + model.num_layers * (11 + 2 + Experts::PARTS) + 4;
    Team::gather(threads, parts, [&](Team::Member member) { walk(member, model, batch, logits, totals, chosen); });
  }

 private:
  void resize(const Model& m, int64_t num) {
    const Layer& layer = m.layers[0];
    const bool is_int8 = m.head.is_int8;
    const int64_t heads = m.num_heads * m.head_dim;
    int64_t inner = 0, experts = 0;
    for (int64_t i = 0; i < m.num_layers; ++i) {
      inner = std::max(inner, m.layers[i].down.inputs);
      if (m.layers[i].router == nullptr) continue;
      experts = m.layers[i].experts_down.num;
      routed_.resize(m.layers[i].experts_gate_up, m.layers[i].experts_down, num, m.top_k);
    }
    x_.resize(num * m.width), normed_.resize(num * m.width), qkv_.resize(num * layer.qkv.outputs);
    heads_.resize(num * heads), both_.resize(num * 2 * std::max(inner, m.width)), turn_.resize(num * m.rotary_dim);
    scores_.resize(num * experts), weights_.resize(num * m.top_k);
    wide_.resize(is_int8, num, m.width), attended_.resize(is_int8, num, heads);
    joined_.resize(is_int8, num, 2 * m.width);
  }

  void walk(Team::Member& member, const Model& m, const Batch& b, float* logits, float* totals, int64_t* chosen) {
    member.each(b.num, [&](int64_t n) { begin(m, b, n); });
    if (b.before != nullptr) multiply<false>(member, m.join, joined_.rows, b.num, x_.data());
    for (int64_t i = 0; i < m.num_layers; ++i) {
      const Layer& layer = m.layers[i];
      enter(member, m, b.num, layer.before_attention);
      multiply<false>(member, layer.qkv, wide_.rows, b.num, qkv_.data());
      attention(member, m, b, layer);
      multiply<true>(member, layer.output, attended_.rows, b.num, x_.data());
      enter(member, m, b.num, layer.before_mlp);
      if (layer.router != nullptr) {
        route(member, m, b.num, layer, chosen);
        routed_.add(member, layer.experts_gate_up, layer.experts_down, wide_.rows, chosen, weights_.data(), x_.data());
        chosen += b.num * m.top_k;
      }
      multiply<false>(member, layer.gate_up, wide_.rows, b.num, both_.data());
      member.each(1, [&](int64_t) { inner_.resize(layer.down.is_int8, b.num, layer.down.inputs); });
      activate(member, both_.data(), b.num, layer.down.inputs, inner_);
      multiply<true>(member, layer.down, inner_.rows, b.num, x_.data());
    }
    if (b.hidden != nullptr)
      member.each(b.num, [&](int64_t n) {
        norm(x_.data() + n * m.width, m.last_norm, m.width, m.norm_eps, b.hidden + n * m.width);
      });
    member.each(b.num_wanted, [&](int64_t n) { enter_row(m, b.wanted[n], m.last_norm, n); });
    multiply<false>(member, m.head, wide_.rows, b.num_wanted, logits);
    member.each(b.num_wanted, [&](int64_t n) { totals[n] = log_total(logits + n * m.vocab_size, m.vocab_size); });
  }

  // A token's embedding, and the cosines and sines of its position.
  void begin(const Model& m, const Batch& b, int64_t n) {
    float* x = x_.data() + n * m.width;
    const int64_t first = b.tokens[n] * m.width;
    for (int64_t i = 0; i < m.width; ++i)
      x[i] = m.is_embedding_bf16 ? to_float(static_cast<const bf16*>(m.embedding)[first + i])
                                 : static_cast<const float*>(m.embedding)[first + i];
    if (m.embedding_eps > 0) norm(x, nullptr, m.width, m.embedding_eps, x);
    if (b.before != nullptr) {
      float* both = both_.data() + n * 2 * m.width;
      norm(x, m.embedding_norm, m.width, m.norm_eps, both);
      norm(b.before + n * m.width, m.hidden_norm, m.width, m.norm_eps, both + m.width);
      joined_.put_row(n, both);
    }
    float* turn = turn_.data() + n * m.rotary_dim;
    const float magnitude = static_cast<float>(m.rope_magnitude);
    for (int64_t i = 0; i < m.rotary_dim / 2; ++i) {
      const float angle = static_cast<float>(b.positions[n]) * m.frequencies[i];
      turn[i] = std::cos(angle) * magnitude, turn[m.rotary_dim / 2 + i] = std::sin(angle) * magnitude;
    }
  }

  void enter(Team::Member& member, const Model& m, int64_t num, const float* weight) {
    member.each(num, [&](int64_t n) { enter_row(m, n, weight, n); });
  }

  void enter_row(const Model& m, int64_t n, const float* weight, int64_t to) {
    float* normed = normed_.data() + n * m.width;
    norm(x_.data() + n * m.width, weight, m.width, m.norm_eps, normed);
    wide_.put_row(to, normed);
  }

  // A head's query or key, normed and turned where the layer does so.
  void finish(const Model& m, const Layer& layer, int64_t n, const float* weight, float* head) {
    if (weight != nullptr) norm(head, weight, m.head_dim, m.norm_eps, head);
    if (!layer.has_rope) return;
    const int64_t half = m.rotary_dim / 2;
    const float *cosine = turn_.data() + n * m.rotary_dim, *sine = cosine + half;
    for (int64_t i = 0; i < half; ++i) {
      const float a = head[i], c = head[half + i];
      head[i] = a * cosine[i] - c * sine[i], head[half + i] = c * cosine[i] + a * sine[i];
    }
  }

  void attention(Team::Member& member, const Model& m, const Batch& b, const Layer& layer) {
    const int64_t group = m.num_heads / m.num_kv_heads, dim = m.head_dim, width = layer.qkv.outputs;
    const Shape<T> shape{m.num_kv_heads, group, dim, m.page_size, b.num_pages, layer.window, layer.skipped};
    T* cache = static_cast<T*>(layer.cache);
    member.each(b.num * m.num_kv_heads, [&](int64_t task) {  // all before anybody reads: pages may be shared
      const int64_t n = task / m.num_kv_heads, head = task % m.num_kv_heads;
      const int64_t* pages = b.table + b.rows[n] * b.num_pages;
      float *key = qkv_.data() + n * width + (m.num_heads + head) * dim, *value = key + m.num_kv_heads * dim;
      finish(m, layer, n, layer.k_norm, key);
      T* to_key = cache + shape.place(pages, b.positions[n], 0, head);
      T* to_value = cache + shape.place(pages, b.positions[n], 1, head);
      for (int64_t i = 0; i < dim; ++i) put(to_key + i, key[i]), put(to_value + i, value[i]);
    });
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    member.each(b.num * m.num_kv_heads, [&](int64_t task) {
      static thread_local std::vector<float> memory;
      memory.resize(memory_of(shape));
      const int64_t n = task / m.num_kv_heads, head = task % m.num_kv_heads;
      float* queries = qkv_.data() + n * width + head * group * dim;
      for (int64_t g = 0; g < group; ++g) finish(m, layer, n, layer.q_norm, queries + g * dim);
      attend(shape, queries, cache, b.table + b.rows[n] * b.num_pages, b.positions[n], head, scale,
             heads_.data() + (n * m.num_kv_heads + head) * group * dim, memory.data());
    });
    const int64_t heads = m.num_heads * dim;
    member.each(b.num, [&](int64_t n) { attended_.put_row(n, heads_.data() + n * heads); });
  }

  // Scores, the best `top_k` by score and bias, and their weights (DeepSeek-V3, section 2.1.2).
  void route(Team::Member& member, const Model& m, int64_t num, const Layer& layer, int64_t* chosen) {
    const int64_t experts = layer.experts_down.num;
    member.each(num * experts, [&](int64_t task) {
      const float logit = dot(normed_.data() + task / experts * m.width, layer.router + task % experts * m.width, m.width);
      scores_[task] = 1.0f / (1.0f + std::exp(-logit));
    });
    member.each(num, [&](int64_t n) {
      const float* scores = scores_.data() + n * experts;
      const auto is_better = [&](int64_t a, int64_t b) {
        return scores[a] + layer.router_bias[a] > scores[b] + layer.router_bias[b];
      };
      std::vector<int64_t> order = eligible(m, scores, layer.router_bias, experts);
      std::partial_sort(order.begin(), order.begin() + m.top_k, order.end(), is_better);
      float total = 1e-20f;
      for (int64_t k = 0; k < m.top_k; ++k) total += scores[order[k]];
      for (int64_t k = 0; k < m.top_k; ++k) {
        chosen[n * m.top_k + k] = order[k];
        weights_[n * m.top_k + k] = scores[order[k]] / total * static_cast<float>(m.routed_scale);
      }
    });
  }

  // The experts that a token may choose: of its best groups, by the sum of the two highest in each, or all.
  static std::vector<int64_t> eligible(const Model& m, const float* scores, const float* bias, int64_t experts) {
    std::vector<int64_t> groups(m.num_groups), chosen;
    std::vector<float> totals(m.num_groups);
    const int64_t size = experts / m.num_groups;
    for (int64_t g = 0; g < m.num_groups; ++g) {
      float best = -std::numeric_limits<float>::infinity(), second = best;
      for (int64_t e = g * size; e < (g + 1) * size; ++e) {
        const float score = scores[e] + bias[e];
        second = std::max(second, std::min(best, score)), best = std::max(best, score);
      }
      groups[g] = g, totals[g] = best + second;
    }
    if (m.groups_per_token < m.num_groups)
      std::partial_sort(groups.begin(), groups.begin() + m.groups_per_token, groups.end(),
                        [&](int64_t a, int64_t b) { return totals[a] > totals[b]; });
    for (int64_t g = 0; g < m.groups_per_token; ++g)
      for (int64_t e = groups[g] * size; e < (groups[g] + 1) * size; ++e) chosen.push_back(e);
    return chosen;
  }

  std::vector<float> x_, normed_, qkv_, heads_, both_, turn_, scores_, weights_;
  Prepared wide_, attended_, inner_, joined_;
  Experts routed_;
};

}  // namespace

// logits (wanted, V) and their log-sum-exp (wanted), in fp32; chosen (MoE layers, N, top_k).
extern "C" void decode_step(const Model* model, const Batch* batch, float* logits, float* totals, int64_t* chosen,
                            int threads) {
  static thread_local Step<bf16> in_bf16;
  static thread_local Step<float> in_fp32;
  if (model->is_bf16) in_bf16.run(*model, *batch, logits, totals, chosen, threads);
  else in_fp32.run(*model, *batch, logits, totals, chosen, threads);
}
