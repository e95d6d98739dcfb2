// Threads that compute one thing after another together, and wait for each other by spinning: a step of decoding has
// some hundred short parts, and a fork and a join of OpenMP for each would take longer than many of them.
#pragma once

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <cstdint>

namespace {

class Team {
 public:
  // Inside a parallel region every thread calls `work` of the same team, in the same order.
  template <typename Body>
  static void gather(int threads, Body body) {
    if (threads <= 1) {
      Team alone;
      body(Member{alone, 0, 1});
      return;
    }
    Team team;
#pragma omp parallel num_threads(threads)
    body(Member{team, omp_get_thread_num(), omp_get_num_threads()});
  }

  struct Member {
    Team& team;
    int number, size;
    int64_t phase = 0;

    // `body(task)` for 0..count-1, by whoever is free; nobody goes on before all is done.
    template <typename Body>
    void each(int64_t count, Body body) {
      if (size == 1) {
        for (int64_t task = 0; task < count; ++task) body(task);
        return;
      }
      // three counters: one in use, one that somebody may still be looking at, one that is made ready
      if (number == 0) team.next_[(phase + 1) % 3].store(0, std::memory_order_relaxed);
      std::atomic<int64_t>& next = team.next_[phase++ % 3];
      for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(task);
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
  static constexpr int64_t SPINS = 1000;
  alignas(64) std::atomic<int64_t> next_[3] = {};
  alignas(64) std::atomic<int64_t> arrived_{0};
  alignas(64) std::atomic<int64_t> turn_{0};
};

}  // namespace
