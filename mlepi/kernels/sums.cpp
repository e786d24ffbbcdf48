// Sums over neighbours of MACE with first derivatives, for processors.
//
// The formulas are those of messages.py. Nothing of the size edges × paths ×
// channels exists: geometry, harmonics and values of splines are made for the edges of a few atoms,
// radial weights for one vector of channels, and consumed at once. Vectors run over channels, whose
// number is a multiple of LANES. REAL is given by the compiler's command line.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#include "vectors.h"

namespace {

constexpr int SUPPORT = 6;            // splines that are not zero in an interval
constexpr int64_t CACHED_EDGES = 256; // whose geometry is held at once

} // namespace

extern "C" {

// What a sum over neighbours is made of; integers and pointers alone, as in sums.py.
struct Plan {
  int64_t channels, n_inputs, n_paths, l_max, n_couplings, n_padded, n_triples;
  int64_t n_table_rows, n_intervals;
  const int64_t *paths;    // (n_paths, 5): 2·l1+1, size of the result, first component of the
                           // senders, first coupling, first of the rows
  const int64_t *rows;     // (Σ size, 3), of each component of the results: rows of an atom in lower
                           // degrees, in its own, and before it there
  const REAL *couplings;   // ((l_max+1)², n_couplings)
  const REAL *transposed;  // (n_couplings, n_padded)
  const int64_t *triples;  // (n_triples, 3): Y_a += factor · Y_b · Y_1c
  const REAL *factors;     // (n_triples)
  const REAL *table;       // (n_paths, n_table_rows, channels)
  const REAL *pieces;      // (6, 6), power by power
  const double *spacing;   // (n_curves), Å
  double shortest;         // where the tables begin, Å
};

// The edges of a structure, by receivers.
struct Graph {
  int64_t n_atoms, n_senders, n_kinds;
  const int64_t *start;    // (n_atoms + 1)
  const int64_t *edge;     // (n_edges), edges in the order of the receivers
  const int64_t *source;   // of an edge
  const int64_t *kind;     // of a sender; results of the kinds are adjacent; or null
  const int64_t *curve;    // of an edge
  const REAL *vectors;     // (n_edges, 3), in the order of the harmonics of l = 1
};
}

namespace {

// Geometry of the edges of some atoms, those beyond the cutoff left out.
struct Block {
  const Plan &plan;
  const Graph &graph;
  int64_t n_harmonics, capacity = 0, count = 0;
  std::vector<int64_t> edge, source, atom, kind, row;
  std::vector<REAL> harmonics;  // groups of LANES edges: (n_harmonics, LANES)
  std::vector<REAL> couplings;  // (edge, n_couplings)
  std::vector<REAL> weights;    // (edge, 2·SUPPORT): values of splines, and their slopes per Å
  std::vector<REAL> direction;  // (edge, 4): unit vector, 1 / length
  std::vector<REAL> of_couplings, of_length;

  Block(const Plan &plan, const Graph &graph) : plan(plan), graph(graph) {
    n_harmonics = (plan.l_max + 1) * (plan.l_max + 1);
  }

  void reserve(int64_t wanted, bool backward) {
    wanted = (wanted + LANES - 1) / LANES * LANES;
    if (wanted <= capacity)
      return;
    capacity = wanted;
    edge.resize(capacity);
    source.resize(capacity);
    atom.resize(capacity);
    kind.resize(capacity);
    row.resize(capacity);
    harmonics.resize(capacity * n_harmonics);
    couplings.resize(capacity * plan.n_couplings);
    weights.resize(capacity * 2 * SUPPORT);
    direction.resize(capacity * 4);
    if (backward) {
      of_couplings.resize(capacity * plan.n_couplings);
      of_length.resize(capacity);
    }
  }

  // Describe the edges of the atoms first … last − 1.
  void describe(int64_t first, int64_t last, bool backward) {
    reserve(graph.start[last] - graph.start[first], backward);
    count = 0;
    for (int64_t receiver = first; receiver < last; ++receiver)
      for (int64_t k = graph.start[receiver]; k < graph.start[receiver + 1]; ++k)
        add(graph.edge[k], receiver);
    for (int64_t group = 0; group < count; group += LANES) {
      expand(group);
      for (int64_t e = group; e < std::min(count, group + LANES); ++e)
        couple(e);
    }
    if (backward) {
      std::fill_n(of_couplings.begin(), count * plan.n_couplings, REAL(0));
      std::fill_n(of_length.begin(), count, REAL(0));
    }
  }

  void add(int64_t number, int64_t receiver) {
    const REAL *r = graph.vectors + 3 * number;
    REAL length = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    int64_t curve = graph.curve[number];
    REAL spacing = REAL(plan.spacing[curve]);
    REAL where = (length - REAL(plan.shortest)) / spacing;
    int64_t interval = std::max(int64_t(0), int64_t(where));
    if (interval >= plan.n_intervals)
      return;
    edge[count] = number;
    source[count] = graph.source[number];
    atom[count] = receiver;
    kind[count] = graph.kind ? graph.kind[source[count]] : 0;
    row[count] = interval + curve * (plan.n_intervals + SUPPORT - 1);
    REAL *d = &direction[4 * count], *w = &weights[2 * SUPPORT * count];
    d[3] = 1 / length;
    for (int i = 0; i < 3; ++i)
      d[i] = r[i] * d[3];
    REAL u = where - REAL(interval), inverse = 1 / spacing;
    for (int k = 0; k < SUPPORT; ++k)
      w[k] = w[SUPPORT + k] = 0;
    for (int power = SUPPORT - 1; power >= 0; --power)
      for (int k = 0; k < SUPPORT; ++k) {
        w[SUPPORT + k] = w[SUPPORT + k] * u + w[k];
        w[k] = w[k] * u + plan.pieces[power * SUPPORT + k];
      }
    for (int k = 0; k < SUPPORT; ++k)
      w[SUPPORT + k] *= inverse;
    ++count;
  }

  // Harmonics of LANES edges.
  void expand(int64_t group) {
    REAL *y = &harmonics[group * n_harmonics];
    std::fill_n(y, n_harmonics * LANES, REAL(0));
    for (int lane = 0; lane < LANES; ++lane) {
      int64_t e = std::min(group + lane, count - 1);
      y[lane] = 1;
      for (int i = 0; i < 3 && plan.l_max > 0; ++i)
        y[(1 + i) * LANES + lane] = std::sqrt(REAL(3)) * direction[4 * e + i];
    }
    for (int64_t k = 0; k < plan.n_triples; ++k) {
      const int64_t *t = plan.triples + 3 * k;
      REAL *to = y + t[0] * LANES;
      store(to, load(to) + plan.factors[k] * load(y + t[1] * LANES) * load(y + t[2] * LANES));
    }
  }

  // Where the N components of a path's results are, for the receiver of an edge and its sender's kind.
  template <int N> void find_rows(int64_t path, int64_t e, int64_t *offsets) const {
    const int64_t *r = plan.rows + 3 * plan.paths[5 * path + 4];
    for (int o = 0; o < N; ++o, r += 3) {
      int64_t row = graph.n_atoms * r[0] + atom[e] * r[1] + r[2];
      offsets[o] = (row * graph.n_kinds + kind[e]) * plan.channels;
    }
  }

  bool alike(int64_t e, int64_t other) const {
    return atom[e] == atom[other] && kind[e] == kind[other];
  }

  void couple(int64_t e) {
    const REAL *y = &harmonics[e / LANES * LANES * n_harmonics] + e % LANES;
    REAL *to = &couplings[e * plan.n_couplings];
    for (int64_t k = 0; k < plan.n_couplings; k += LANES) {
      Vector sum = {};
      for (int64_t m = 0; m < n_harmonics; ++m)
        sum += y[m * LANES] * load(plan.couplings + m * plan.n_couplings + k);
      store(to + k, sum);
    }
  }

  // Turn derivatives by couplings and lengths into those by the vectors.
  void pull_back(REAL *of_vectors) {
    std::vector<REAL> slopes(n_harmonics * LANES), own(plan.n_padded);
    for (int64_t group = 0; group < count; group += LANES) {
      const REAL *y = &harmonics[group * n_harmonics];
      int64_t filled = std::min(int64_t(LANES), count - group);
      for (int64_t lane = 0; lane < filled; ++lane) {
        const REAL *given = &of_couplings[(group + lane) * plan.n_couplings];
        for (int64_t m = 0; m < plan.n_padded; m += LANES) {
          Vector sum[4] = {};  // sums that do not wait for each other
          const REAL *row = plan.transposed + m;
          for (int64_t k = 0; k < plan.n_couplings; k += 4, row += 4 * plan.n_padded)
            for (int i = 0; i < 4; ++i)
              sum[i] += given[k + i] * load(row + i * plan.n_padded);
          store(&own[m], sum[0] + sum[1] + (sum[2] + sum[3]));
        }
        for (int64_t m = 0; m < n_harmonics; ++m)
          slopes[m * LANES + lane] = own[m];
      }
      for (int64_t k = plan.n_triples - 1; k >= 0; --k) {
        const int64_t *t = plan.triples + 3 * k;
        Vector given = plan.factors[k] * load(&slopes[t[0] * LANES]);
        REAL *one = &slopes[t[1] * LANES], *other = &slopes[t[2] * LANES];
        store(one, load(one) + given * load(y + t[2] * LANES));
        store(other, load(other) + given * load(y + t[1] * LANES));
      }
      for (int64_t lane = 0; lane < filled; ++lane) {
        int64_t e = group + lane;
        const REAL *n = &direction[4 * e];
        REAL turned[3] = {}, along = 0;
        for (int i = 0; i < 3 && plan.l_max > 0; ++i) {
          turned[i] = std::sqrt(REAL(3)) * slopes[(1 + i) * LANES + lane];
          along += turned[i] * n[i];
        }
        for (int i = 0; i < 3; ++i)
          of_vectors[3 * edge[e] + i] = (turned[i] - along * n[i]) * n[3] + of_length[e] * n[i];
      }
    }
  }
};

inline Vector spline(const REAL *weights, const REAL *rows, int64_t channels) {
  Vector sum = weights[0] * load(rows);
  for (int k = 1; k < SUPPORT; ++k)
    sum += weights[k] * load(rows + k * channels);
  return sum;
}

// Add one path to the sums of the atoms of a block.
template <int IN, int OUT>
void add_path(const Block &b, int64_t path, const REAL *nodes, REAL *sums) {
  const Plan &plan = b.plan;
  const int64_t channels = plan.channels, *p = plan.paths + 5 * path;
  const REAL *table = plan.table + path * plan.n_table_rows * channels;
  int64_t end = 0, offsets[OUT];
  for (int64_t first = 0; first < b.count; first = end) {
    while (end < b.count && b.alike(first, end))
      ++end;
    b.find_rows<OUT>(path, first, offsets);
    for (int64_t c = 0; c < channels; c += LANES) {
      Vector total[OUT] = {};
      for (int64_t e = first; e < end; ++e) {
        const REAL *t = &b.couplings[e * plan.n_couplings] + p[3];
        Vector r = spline(&b.weights[2 * SUPPORT * e], table + b.row[e] * channels + c, channels);
        const REAL *h = nodes ? nodes + (b.source[e] * plan.n_inputs + p[2]) * channels + c : 0;
        for (int i = 0; i < IN; ++i) {
          Vector x = nodes ? r * load(h + i * channels) : r;
          for (int o = 0; o < OUT; ++o)
            total[o] += t[i * OUT + o] * x;
        }
      }
      for (int o = 0; o < OUT; ++o) {
        REAL *to = sums + offsets[o] + c;
        store(to, load(to) + total[o]);
      }
    }
  }
}

// Add the derivatives of one path: by senders, couplings and lengths.
template <int IN, int OUT>
void pull_path(Block &b, int64_t path, const REAL *nodes, const REAL *given, REAL *of_nodes) {
  const Plan &plan = b.plan;
  const int64_t channels = plan.channels, *p = plan.paths + 5 * path;
  const REAL *table = plan.table + path * plan.n_table_rows * channels;
  int64_t offsets[OUT];
  for (int64_t e = 0; e < b.count; ++e) {
    if (e == 0 || !b.alike(e, e - 1))
      b.find_rows<OUT>(path, e, offsets);
    const REAL *t = &b.couplings[e * plan.n_couplings] + p[3];
    const REAL *w = &b.weights[2 * SUPPORT * e], *rows = table + b.row[e] * channels;
    const int64_t sender = (b.source[e] * plan.n_inputs + p[2]) * channels;
    Vector sums[IN * OUT + 1] = {};
    for (int64_t c = 0; c < channels; c += LANES) {
      Vector r = {}, slope = {};
      for (int k = 0; k < SUPPORT; ++k) {
        Vector x = load(rows + k * channels + c);
        r += w[k] * x;
        slope += w[SUPPORT + k] * x;
      }
      Vector cotangent[OUT], along = {};
      for (int o = 0; o < OUT; ++o)
        cotangent[o] = load(given + offsets[o] + c);
      for (int i = 0; i < IN; ++i) {
        Vector spread = t[i * OUT] * cotangent[0];
        for (int o = 1; o < OUT; ++o)
          spread += t[i * OUT + o] * cotangent[o];
        Vector x = r;
        if (nodes) {
          Vector h = load(nodes + sender + i * channels + c);
          REAL *to = of_nodes + sender + i * channels + c;
          store(to, load(to) + r * spread);
          along += spread * h;
          x = r * h;
        } else {
          along += spread;
        }
        for (int o = 0; o < OUT; ++o)
          sums[i * OUT + o] += x * cotangent[o];
      }
      sums[IN * OUT] += slope * along;
    }
    REAL totals[(IN * OUT + 1 + LANES - 1) / LANES * LANES];
    sum_lanes<IN * OUT + 1>(sums, totals);
    std::memcpy(&b.of_couplings[e * plan.n_couplings] + p[3], totals, sizeof(REAL) * IN * OUT);
    b.of_length[e] += totals[IN * OUT];
  }
}

typedef void (*AddPath)(const Block &, int64_t, const REAL *, REAL *);
typedef void (*PullPath)(Block &, int64_t, const REAL *, const REAL *, REAL *);

struct Path {
  int64_t in, out;
  AddPath add;
  PullPath pull;
};

#define PATH(IN, OUT) {IN, OUT, add_path<IN, OUT>, pull_path<IN, OUT>},
const Path PATHS[] = {ALL_PATHS(PATH) PATH(1, 4) PATH(1, 16) PATH(1, 25)};
#undef PATH

const Path *find_path(int64_t in, int64_t out) {
  for (const Path &path : PATHS)
    if (path.in == in && path.out == out)
      return &path;
  return nullptr;
}

// Ranges of atoms whose edges are described at once.
template <class Work> void for_blocks(const Graph &graph, int64_t first, int64_t last, Work work) {
  while (first < last) {
    int64_t end = first + 1;
    while (end < last && graph.start[end + 1] - graph.start[first] <= CACHED_EDGES)
      ++end;
    work(first, end);
    first = end;
  }
}

// Give every thread atoms with about as many edges.
template <class Work> void for_threads(const Graph &graph, int64_t n_threads, Work work) {
  std::vector<std::thread> threads;
  int64_t n_edges = graph.start[graph.n_atoms], first = 0;
  for (int64_t thread = 0; thread < n_threads; ++thread) {
    int64_t end = thread + 1 == n_threads ? graph.n_atoms : first;
    while (end < graph.n_atoms && graph.start[end] * n_threads < n_edges * (thread + 1))
      ++end;
    if (thread + 1 == n_threads)
      work(thread, first, end);
    else
      threads.emplace_back(work, thread, first, end);
    first = end;
  }
  for (std::thread &thread : threads)
    thread.join();
}

} // namespace

extern "C" {

int64_t lanes() { return LANES; }

int64_t has_path(int64_t in, int64_t out) { return find_path(in, out) != nullptr; }

// sums, zero at first: for every l (n_atoms, rows of l, n_kinds, channels), one after the other.
void sum_neighbours(const Plan *plan, const Graph *graph, const REAL *nodes, REAL *sums,
                    int64_t n_threads) {
  for_threads(*graph, n_threads, [=](int64_t, int64_t first, int64_t last) {
    Block block(*plan, *graph);
    for_blocks(*graph, first, last, [&](int64_t from, int64_t to) {
      block.describe(from, to, false);
      for (int64_t path = 0; path < plan->n_paths; ++path) {
        const int64_t *p = plan->paths + 5 * path;
        find_path(p[0], p[1])->add(block, path, nodes, sums);
      }
    });
  });
}

// of_nodes: (n_threads, n_senders, n_inputs, channels), of_vectors: (n_edges, 3), zero at first.
void pull_neighbours(const Plan *plan, const Graph *graph, const REAL *nodes, const REAL *given,
                     REAL *of_nodes, REAL *of_vectors, int64_t n_threads) {
  int64_t own = graph->n_senders * plan->n_inputs * plan->channels;
  for_threads(*graph, n_threads, [=](int64_t thread, int64_t first, int64_t last) {
    Block block(*plan, *graph);
    for_blocks(*graph, first, last, [&](int64_t from, int64_t to) {
      block.describe(from, to, true);
      for (int64_t path = 0; path < plan->n_paths; ++path) {
        const int64_t *p = plan->paths + 5 * path;
        find_path(p[0], p[1])->pull(block, path, nodes, given, of_nodes + thread * own);
      }
      block.pull_back(of_vectors);
    });
  });
}
}
