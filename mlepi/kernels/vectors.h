// Vectors of the processor, sums over their lanes, and threads. REAL is given by the compiler's command line.

#pragma once

#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
constexpr int LANES = BYTES / sizeof(REAL);

typedef REAL Vector __attribute__((vector_size(BYTES)));

inline Vector load(const REAL *from) {
  Vector x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

inline void store(REAL *to, Vector x) { std::memcpy(to, &x, sizeof x); }

// Lane of a sum over pairs of blocks: blocks of `size` lanes of both vectors alternate.
constexpr int place(int lane, int size, int half) {
  int block = lane / (2 * size), rest = lane % (2 * size);
  bool second = rest >= size;
  return (second ? LANES : 0) + block * 2 * size + (second ? rest - size : rest) + half * size;
}

template <int SIZE, int HALF, int... I>
inline Vector half(Vector a, Vector b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, place(I, SIZE, HALF)...);
}

// Sums of pairs of blocks of both vectors.
template <int SIZE> inline Vector fold(Vector a, Vector b) {
  constexpr auto lanes = std::make_integer_sequence<int, LANES>();
  return half<SIZE, 0>(a, b, lanes) + half<SIZE, 1>(a, b, lanes);
}

// Lanes k·SIZE … of the result: sums of SIZE'th parts of the vectors FIRST + k·SIZE, as far as N.
template <int SIZE, int FIRST, int N> inline Vector reduce(const Vector *x) {
  if constexpr (FIRST >= N)
    return Vector{};
  else if constexpr (SIZE == LANES)
    return x[FIRST];
  else
    return fold<SIZE>(reduce<2 * SIZE, FIRST, N>(x), reduce<2 * SIZE, FIRST + SIZE, N>(x));
}

// Sums over the lanes of N vectors, in blocks of LANES.
template <int N> inline void sum_lanes(const Vector *x, REAL *to) {
  store(to, reduce<1, 0, N>(x));
  if constexpr (N > LANES)
    sum_lanes<N - LANES>(x + LANES, to + LANES);
}

// Call work(0) … work(n_threads − 1) at the same time.
template <class Work> inline void run_threads(int64_t n_threads, Work work) {
  std::vector<std::thread> threads;
  for (int64_t thread = 1; thread < n_threads; ++thread)
    threads.emplace_back(work, thread);
  work(0);
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace

// 2·l1+1 and 2·l3+1 of all paths that kernels are made for.
#define ALL_PATHS(PATH)                                                                            \
  PATH(1, 1) PATH(1, 3) PATH(1, 5) PATH(1, 7) PATH(1, 9)                                           \
  PATH(3, 1) PATH(3, 3) PATH(3, 5) PATH(3, 7) PATH(3, 9)                                           \
  PATH(5, 1) PATH(5, 3) PATH(5, 5) PATH(5, 7) PATH(5, 9)                                           \
  PATH(7, 1) PATH(7, 3) PATH(7, 5) PATH(7, 7)
