// The inner functions of the sum over neighbours and of its first and second derivatives.
//
// The formulas are those of message_pieces.py, from radial weights R: A = Σ T R h, the derivatives of
// ⟨B, A⟩, and those of ⟨B, dA⟩ for tangents of h, R and T. Every array is read and written once; the
// products of a slot stay in registers. Vectors run over channels, whose number is a multiple of LANES.

#include <algorithm>
#include <cstdint>

#include "vectors.h"

extern "C" {

// How paths lie in the arrays; integers and pointers alone, as in pieces.py.
struct Layout {
  int64_t channels, n_inputs, n_paths, n_couplings, n_rows;
  const int64_t *paths;  // (n_paths, 6): 2·l1+1, 2·l3+1, first component of the senders, first
                         // coupling, first of the rows of the messages and their distance
};

// Arrays of some atoms; results have the shapes of what they are derivatives of.
struct Arrays {
  int64_t n_atoms, n_neighbours;
  const REAL *cotangent;  // B, (n_atoms, n_rows, channels)
  const REAL *senders;    // h, (slots, n_inputs, channels)
  const REAL *weights;    // R, (slots, n_paths, channels)
  const REAL *couplings;  // T, (slots, n_couplings)
  const REAL *senders_moved, *weights_moved, *couplings_moved;  // tangents
  REAL *messages;         // A, or the derivative by B
  REAL *of_senders, *of_weights, *of_weights_moved, *of_couplings;
};
}

namespace {

// One path of the slots of one atom.
struct Place {
  const Layout &layout;
  const Arrays &arrays;
  const int64_t *p;
  int64_t path, atom;

  int64_t first() const { return atom * arrays.n_neighbours; }
  int64_t last() const { return first() + arrays.n_neighbours; }
  int64_t sender(int64_t slot) const {
    return (slot * layout.n_inputs + p[2]) * layout.channels;
  }
  int64_t weight(int64_t slot) const { return (slot * layout.n_paths + path) * layout.channels; }
  int64_t coupling(int64_t slot) const { return slot * layout.n_couplings + p[3]; }
  int64_t row(int o) const { return (atom * layout.n_rows + p[4] + o * p[5]) * layout.channels; }
};

inline void add(REAL *to, Vector x) { store(to, load(to) + x); }

template <int IN, int OUT> void value(const Place &at) {
  const int64_t channels = at.layout.channels;
  const Arrays &a = at.arrays;
  for (int64_t c = 0; c < channels; c += LANES) {
    Vector total[OUT] = {};
    for (int64_t slot = at.first(); slot < at.last(); ++slot) {
      const REAL *t = a.couplings + at.coupling(slot), *h = a.senders + at.sender(slot) + c;
      Vector r = load(a.weights + at.weight(slot) + c);
      for (int i = 0; i < IN; ++i) {
        Vector x = r * load(h + i * channels);
        for (int o = 0; o < OUT; ++o)
          total[o] += t[i * OUT + o] * x;
      }
    }
    for (int o = 0; o < OUT; ++o)
      store(a.messages + at.row(o) + c, total[o]);
  }
}

// Σ_o t[o] b[o]
template <int OUT> inline Vector spread(const REAL *t, const Vector *b) {
  Vector sum = t[0] * b[0];
  for (int o = 1; o < OUT; ++o)
    sum += t[o] * b[o];
  return sum;
}

// Sums over the lanes of IN·OUT vectors, to the couplings of a slot.
template <int N> inline void keep(const Vector *sums, REAL *to) {
  REAL totals[(N + LANES - 1) / LANES * LANES];
  sum_lanes<N>(sums, totals);
  std::memcpy(to, totals, sizeof(REAL) * N);
}

template <int IN, int OUT> void gradients(const Place &at) {
  const int64_t channels = at.layout.channels;
  const Arrays &a = at.arrays;
  for (int64_t slot = at.first(); slot < at.last(); ++slot) {
    const REAL *t = a.couplings + at.coupling(slot);
    Vector sums[IN * OUT] = {};
    for (int64_t c = 0; c < channels; c += LANES) {
      Vector r = load(a.weights + at.weight(slot) + c), b[OUT], along = {};
      for (int o = 0; o < OUT; ++o)
        b[o] = load(a.cotangent + at.row(o) + c);
      for (int i = 0; i < IN; ++i) {
        const int64_t here = at.sender(slot) + i * channels + c;
        Vector h = load(a.senders + here), s = spread<OUT>(t + i * OUT, b);
        add(a.of_senders + here, r * s);
        along += s * h;
        Vector x = r * h;
        for (int o = 0; o < OUT; ++o)
          sums[i * OUT + o] += x * b[o];
      }
      store(a.of_weights + at.weight(slot) + c, along);
    }
    keep<IN * OUT>(sums, a.of_couplings + at.coupling(slot));
  }
}

template <int IN, int OUT> void second(const Place &at) {
  const int64_t channels = at.layout.channels;
  const Arrays &a = at.arrays;
  for (int64_t slot = at.first(); slot < at.last(); ++slot) {
    const REAL *t = a.couplings + at.coupling(slot);
    const REAL *t_moved = a.couplings_moved + at.coupling(slot);
    Vector sums[IN * OUT] = {};
    for (int64_t c = 0; c < channels; c += LANES) {
      const int64_t own = at.weight(slot) + c;
      Vector r = load(a.weights + own), r_moved = load(a.weights_moved + own);
      Vector b[OUT], change[OUT] = {}, along = {}, along_moved = {};
      for (int o = 0; o < OUT; ++o)
        b[o] = load(a.cotangent + at.row(o) + c);
      for (int i = 0; i < IN; ++i) {
        const int64_t here = at.sender(slot) + i * channels + c;
        Vector h = load(a.senders + here), h_moved = load(a.senders_moved + here);
        Vector s = spread<OUT>(t + i * OUT, b), s_moved = spread<OUT>(t_moved + i * OUT, b);
        add(a.of_senders + here, r_moved * s + r * s_moved);
        along += s * h_moved + s_moved * h;
        along_moved += s * h;
        Vector x = r * h, x_moved = r * h_moved + r_moved * h;
        for (int o = 0; o < OUT; ++o) {
          change[o] += t[i * OUT + o] * x_moved + t_moved[i * OUT + o] * x;
          sums[i * OUT + o] += x_moved * b[o];
        }
      }
      store(a.of_weights + own, along);
      store(a.of_weights_moved + own, along_moved);
      for (int o = 0; o < OUT; ++o)
        add(a.messages + at.row(o) + c, change[o]);
    }
    keep<IN * OUT>(sums, a.of_couplings + at.coupling(slot));
  }
}

typedef void (*Work)(const Place &);

struct Path {
  int64_t in, out;
  Work order[3];
};

#define PATH(IN, OUT) {IN, OUT, {value<IN, OUT>, gradients<IN, OUT>, second<IN, OUT>}},
const Path PATHS[] = {ALL_PATHS(PATH)};
#undef PATH

Work find_work(const int64_t *p, int64_t order) {
  for (const Path &path : PATHS)
    if (path.in == p[0] && path.out == p[1])
      return path.order[order];
  return nullptr;
}

void run_atoms(const Layout &layout, const Arrays &arrays, int64_t order, int64_t first,
               int64_t last) {
  const int64_t of_atom = layout.n_rows * layout.channels;
  const int64_t of_slots = arrays.n_neighbours * layout.n_inputs * layout.channels;
  for (int64_t atom = first; atom < last; ++atom) {
    if (order > 0)
      std::fill_n(arrays.of_senders + atom * of_slots, of_slots, REAL(0));
    if (order == 2)
      std::fill_n(arrays.messages + atom * of_atom, of_atom, REAL(0));
    for (int64_t path = 0; path < layout.n_paths; ++path) {
      const int64_t *p = layout.paths + 6 * path;
      find_work(p, order)({layout, arrays, p, path, atom});
    }
  }
}

} // namespace

extern "C" {

int64_t has_piece(int64_t in, int64_t out) {
  const int64_t path[] = {in, out};
  return find_work(path, 0) != nullptr;
}

// order 0: A; 1: derivatives of ⟨B, A⟩; 2: those of ⟨B, dA⟩.
void run_pieces(const Layout *layout, const Arrays *arrays, int64_t order, int64_t n_threads) {
  const int64_t n_atoms = arrays->n_atoms;
  run_threads(n_threads, [=](int64_t thread) {
    run_atoms(*layout, *arrays, order, n_atoms * thread / n_threads,
              n_atoms * (thread + 1) / n_threads);
  });
}
}
