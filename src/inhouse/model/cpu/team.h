// Threads that compute one thing after another together, and wait for each other by spinning: a step of decoding has
// some hundred short parts, and a fork and a join of OpenMP for each would take longer than many of them.
#pragma once

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <vector>

namespace {

class Team {
 public:
  // Inside a parallel region every thread calls `work` of the same team, in the same order.
  template <typename Body>
  static void gather(int threads, Body body) {
    if (threads <= 1) {
      Team alone(1);
      body(Member{alone, 0, 1});
      return;
    }
    Team team(threads);
#pragma omp parallel num_threads(threads)
    body(Member{team, omp_get_thread_num(), omp_get_num_threads()});
  }

  struct Member {
    Team& team;
    int number, size;
    int64_t phase = 0;

    // `body(task)` for 0..count-1; nobody goes on before all is done. A thread has neighbouring tasks, because two that
    // take turns in the same memory read it at two thirds of the speed; when it is through it takes what others have left.
    template <typename Body>
    void each(int64_t count, Body body) {
      if (size == 1) {
        for (int64_t task = 0; task < count; ++task) body(task);
        return;
      }
      // three sets of counters: one in use, one that somebody may still be looking at, one that is made ready
      team.counter(phase + 1, number).store(0, std::memory_order_relaxed);
      for (int other = 0; other < size; ++other) {
        const int owner = (number + other) % size;
        const int64_t first = count * owner / size, end = count * (owner + 1) / size;
        std::atomic<int64_t>& taken = team.counter(phase, owner);
        for (int64_t task; (task = first + taken.fetch_add(1, std::memory_order_relaxed)) < end;) body(task);
      }
      ++phase;
      wait();
    }

   private:
    void wait() {
      const int64_t turn = team.turn_.load(std::memory_order_acquire);
      if (team.arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
        team.arrived_.store(0, std::memory_order_relaxed);
        team.turn_.store(turn + 1, std::memory_order_release);
        return;
      }
      for (int64_t tries = 0; team.turn_.load(std::memory_order_acquire) == turn; ++tries) {
        if (tries > SPINS) sched_yield();  // the core of the one that we wait for may be ours
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
      }
    }
  };

 private:
  struct alignas(64) Counter { std::atomic<int64_t> taken{0}; };

  explicit Team(int threads) : threads_(threads), counters_(3 * threads) {}

  std::atomic<int64_t>& counter(int64_t phase, int64_t thread) { return counters_[phase % 3 * threads_ + thread].taken; }

  static constexpr int64_t SPINS = 1000;
  const int64_t threads_;
  std::vector<Counter> counters_;
  alignas(64) std::atomic<int64_t> arrived_{0};
  alignas(64) std::atomic<int64_t> turn_{0};
};

}  // namespace
