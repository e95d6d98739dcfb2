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
  // Every thread calls `body` with its member, which must go through the same parts, `parts` at most, whatever the
  // others have done. A part waits for its tasks and not for the threads: one without a core holds nobody up.
  template <typename Body>
  static void gather(int threads, int64_t parts, Body body) {
    if (threads <= 1) {
      Team alone(0, 1);
      body(Member{alone, 0, 1});
      return;
    }
    Team team(parts, threads);
#pragma omp parallel num_threads(threads)
    body(Member{team, omp_get_thread_num(), omp_get_num_threads()});
  }

  struct Member {
    Team& team;
    int number, size;
    int64_t part = 0;

    // `body(task)` for 0..count-1, once each; on return all are done. `count` may not depend on what a part computes.
    // A thread has neighbouring tasks, because two that take turns in the same memory read it at two thirds of the
    // speed; when it is through it takes what others have left.
    template <typename Body>
    void each(int64_t count, Body body) {
      if (size == 1) {
        for (int64_t task = 0; task < count; ++task) body(task);
        return;
      }
      std::atomic<int64_t>*taken = &team.counters_[part++ * (team.threads_ + 1)], &done = taken[team.threads_];
      int64_t own = 0;
      for (int other = 0; other < size && done.load(std::memory_order_acquire) < count; ++other) {
        const int owner = (number + other) % size;
        const int64_t first = count * owner / size, end = count * (owner + 1) / size;
        for (int64_t task; (task = first + taken[owner].fetch_add(1, std::memory_order_relaxed)) < end; ++own) body(task);
      }
      if (own > 0) done.fetch_add(own, std::memory_order_acq_rel);
      for (int64_t tries = 0; done.load(std::memory_order_acquire) < count; ++tries) {
        if (tries > SPINS) sched_yield();  // the core of the one that we wait for may be ours
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
      }
    }
  };

 private:
  Team(int64_t parts, int threads) : threads_(threads), counters_(parts * (threads + 1)) {}

  static constexpr int64_t SPINS = 1000;
  const int64_t threads_;
  std::vector<std::atomic<int64_t>> counters_;  // of every part: tasks taken of each thread's, tasks done
};

}  // namespace
