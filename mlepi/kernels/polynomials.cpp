// Symmetric contractions of MACE: polynomials of the features of atoms, and two derivatives.
//
// The formulas are those of polynomials.py. Monomials are made for a few atoms and one vector of
// channels, and used at once by all coefficients.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

extern "C" {

// Polynomials of the features of atoms of one element, see parity_terms.py.
struct Polynomials {
  int64_t channels, n_inputs, n_outputs, n_groups, correlation, n_coefficients;
  const int64_t *sizes;      // (n_groups, 2): rows, monomials
  const int64_t *rows;       // output and input of ∂B_o/∂A_i, or output and −1 of a remainder
  const int64_t *monomials;  // two components, or one and −1, or −1 and −1 for 1
  const REAL *coefficients;  // (channels / LANES, n_coefficients, LANES)
};
}

namespace {

constexpr int ATOMS = 4;  // whose polynomials are evaluated together

struct Work {
  std::vector<Vector> features, monomials, results;
};

// Values of B, or the derivatives of Σ b·B, of up to ATOMS atoms and LANES channels.
template <bool BACKWARD>
void evaluate(const Polynomials &p, const REAL *coefficients, Work &w, const Vector *given) {
  const int64_t *row = p.rows, *monomial = p.monomials;
  const Vector *a = w.features.data();
  Vector *m = w.monomials.data(), *result = w.results.data();
  for (int64_t group = 0; group < p.n_groups; ++group) {
    const int64_t n_rows = p.sizes[2 * group], n = p.sizes[2 * group + 1];
    for (int64_t k = 0; k < n; ++k, monomial += 2)
      for (int i = 0; i < ATOMS; ++i) {
        Vector value = monomial[0] < 0 ? Vector{} + REAL(1) : a[monomial[0] * ATOMS + i];
        m[k * ATOMS + i] = monomial[1] < 0 ? value : value * a[monomial[1] * ATOMS + i];
      }
    for (int64_t r = 0; r < n_rows; ++r, row += 2, coefficients += n * LANES) {
      if (BACKWARD && row[1] < 0)
        continue;
      Vector sum[ATOMS] = {};
      for (int64_t k = 0; k < n; ++k) {
        Vector c = load(coefficients + k * LANES);
        for (int i = 0; i < ATOMS; ++i)
          sum[i] += c * m[k * ATOMS + i];
      }
      for (int i = 0; i < ATOMS; ++i) {
        if (BACKWARD)
          result[row[1] * ATOMS + i] += given[row[0] * ATOMS + i] * sum[i];
        else
          result[row[0] * ATOMS + i] += row[1] < 0 ? sum[i] : sum[i] * a[row[1] * ATOMS + i];
      }
    }
  }
}

template <bool BACKWARD>
void contract_range(const Polynomials &p, const int64_t *atoms, int64_t first, int64_t last,
                    const REAL *features, const REAL *given, REAL *to) {
  int64_t most = 0;
  for (int64_t group = 0; group < p.n_groups; ++group)
    most = std::max(most, p.sizes[2 * group + 1]);
  const int64_t n_results = BACKWARD ? p.n_inputs : p.n_outputs;
  Work w;
  w.features.resize(p.n_inputs * ATOMS);
  w.monomials.resize(most * ATOMS);
  w.results.resize(n_results * ATOMS);
  std::vector<Vector> cotangents(p.n_outputs * ATOMS);
  const REAL factor = BACKWARD ? REAL(1) : REAL(1) / p.correlation;
  for (int64_t c = 0; c < p.channels; c += LANES) {
    const REAL *coefficients = p.coefficients + c * p.n_coefficients;
    for (int64_t start = first; start < last; start += ATOMS) {
      int64_t atom[ATOMS];
      for (int i = 0; i < ATOMS; ++i) {
        int64_t position = std::min(start + i, last - 1);
        atom[i] = atoms ? atoms[position] : position;
        for (int64_t k = 0; k < p.n_inputs; ++k)
          w.features[k * ATOMS + i] = load(features + (atom[i] * p.n_inputs + k) * p.channels + c);
        for (int64_t o = 0; BACKWARD && o < p.n_outputs; ++o)
          cotangents[o * ATOMS + i] = load(given + (atom[i] * p.n_outputs + o) * p.channels + c);
      }
      std::fill(w.results.begin(), w.results.end(), Vector{});
      evaluate<BACKWARD>(p, coefficients, w, cotangents.data());
      for (int i = 0; i < std::min(int64_t(ATOMS), last - start); ++i)
        for (int64_t k = 0; k < n_results; ++k)
          store(to + (atom[i] * n_results + k) * p.channels + c,
                factor * w.results[k * ATOMS + i]);
    }
  }
}

// Arrays of all atoms; channels are last. Results are zero at first.
struct Derivatives {
  const REAL *features;   // A, (n_atoms, n_inputs, channels)
  const REAL *given;      // b, (n_atoms, n_outputs, channels)
  const REAL *tangent;    // A', like A; null for first derivatives alone
  REAL *of_coefficients;  // (channels / LANES, n_coefficients, LANES)
  REAL *of_features, *of_given;
};

// The derivatives of Σ b·B by the coefficients; with a tangent A', those of Σ b·dB by coefficients,
// features and b, dB the change of B along A'. For LANES channels.
template <bool SECOND>
void differentiate(const Polynomials &p, int64_t n_atoms, const Derivatives &d, int64_t c) {
  int64_t most = 0;
  for (int64_t group = 0; group < p.n_groups; ++group)
    most = std::max(most, p.sizes[2 * group + 1]);
  std::vector<Vector> a(p.n_inputs * ATOMS), da(p.n_inputs * ATOMS), b(p.n_outputs * ATOMS);
  std::vector<Vector> m(most * ATOMS), dm(most * ATOMS);
  std::vector<Vector> of_a(p.n_inputs * ATOMS), of_b(p.n_outputs * ATOMS);
  const Vector zero = {}, one = zero + REAL(1);
  for (int64_t start = 0; start < n_atoms; start += ATOMS) {
    const int filled = int(std::min(int64_t(ATOMS), n_atoms - start));
    for (int i = 0; i < ATOMS; ++i) {  // of atoms beyond the last, b and A' are zero
      const bool there = i < filled;
      const int64_t atom = there ? start + i : n_atoms - 1;
      for (int64_t k = 0; k < p.n_inputs; ++k) {
        const int64_t place = (atom * p.n_inputs + k) * p.channels + c;
        a[k * ATOMS + i] = load(d.features + place);
        if (SECOND)
          da[k * ATOMS + i] = there ? load(d.tangent + place) : zero;
      }
      for (int64_t o = 0; o < p.n_outputs; ++o) {
        const int64_t place = (atom * p.n_outputs + o) * p.channels + c;
        b[o * ATOMS + i] = there ? load(d.given + place) : zero;
      }
    }
    std::fill(of_a.begin(), of_a.end(), zero);
    std::fill(of_b.begin(), of_b.end(), zero);
    const int64_t *row = p.rows, *monomial = p.monomials;
    const REAL *coefficients = p.coefficients + c * p.n_coefficients;
    REAL *to = d.of_coefficients + c * p.n_coefficients;
    for (int64_t group = 0; group < p.n_groups; ++group) {
      const int64_t n_rows = p.sizes[2 * group], n = p.sizes[2 * group + 1];
      for (int64_t k = 0; k < n; ++k, monomial += 2)
        for (int i = 0; i < ATOMS; ++i) {
          const int64_t j = monomial[0] * ATOMS + i, l = monomial[1] * ATOMS + i;
          const bool constant = monomial[0] < 0, linear = monomial[1] < 0;
          m[k * ATOMS + i] = constant ? one : linear ? a[j] : a[j] * a[l];
          if (SECOND)
            dm[k * ATOMS + i] = constant ? zero : linear ? da[j] : da[j] * a[l] + a[j] * da[l];
        }
      for (int64_t r = 0; r < n_rows; ++r, row += 2, coefficients += n * LANES, to += n * LANES) {
        if (SECOND && row[1] < 0)
          continue;
        const REAL factor = SECOND ? REAL(1) : REAL(1) / p.correlation;
        const Vector *other = SECOND ? da.data() : a.data();
        Vector outer[ATOMS], sum[ATOMS] = {}, change[ATOMS] = {};
        for (int i = 0; i < ATOMS; ++i) {
          outer[i] = factor * b[row[0] * ATOMS + i];
          if (row[1] >= 0)
            outer[i] *= other[row[1] * ATOMS + i];
        }
        for (int64_t k = 0; k < n; ++k) {
          Vector total = load(to + k * LANES);
          for (int i = 0; i < ATOMS; ++i)
            total += outer[i] * m[k * ATOMS + i];
          store(to + k * LANES, total);
          if (SECOND) {
            Vector coefficient = load(coefficients + k * LANES);
            for (int i = 0; i < ATOMS; ++i) {
              sum[i] += coefficient * m[k * ATOMS + i];
              change[i] += coefficient * dm[k * ATOMS + i];
            }
          }
        }
        for (int i = 0; SECOND && i < ATOMS; ++i) {
          of_b[row[0] * ATOMS + i] += sum[i] * da[row[1] * ATOMS + i];
          of_a[row[1] * ATOMS + i] += change[i] * b[row[0] * ATOMS + i];
        }
      }
    }
    for (int i = 0; SECOND && i < filled; ++i) {
      for (int64_t k = 0; k < p.n_inputs; ++k)
        store(d.of_features + ((start + i) * p.n_inputs + k) * p.channels + c, of_a[k * ATOMS + i]);
      for (int64_t o = 0; o < p.n_outputs; ++o)
        store(d.of_given + ((start + i) * p.n_outputs + o) * p.channels + c, of_b[o * ATOMS + i]);
    }
  }
}

} // namespace

extern "C" {

// features: (…, n_inputs, channels) → to: (…, n_outputs, channels); with cotangents `given` of the
// latter, to: derivatives by the features. Of some atoms, or of the first n_atoms.
void contract(const Polynomials *p, const int64_t *atoms, int64_t n_atoms, const REAL *features,
              const REAL *given, REAL *to, int64_t n_threads) {
  run_threads(n_threads, [=](int64_t thread) {
    const int64_t first = n_atoms * thread / n_threads, last = n_atoms * (thread + 1) / n_threads;
    if (first < last && given)
      contract_range<true>(*p, atoms, first, last, features, given, to);
    else if (first < last)
      contract_range<false>(*p, atoms, first, last, features, given, to);
  });
}

// Derivatives as `differentiate`, of all atoms.
void differentiate_contraction(const Polynomials *p, int64_t n_atoms, const Derivatives *d,
                               int64_t n_threads) {
  run_threads(n_threads, [=](int64_t thread) {
    for (int64_t c = thread * LANES; c < p->channels; c += n_threads * LANES)
      d->tangent ? differentiate<true>(*p, n_atoms, *d, c) : differentiate<false>(*p, n_atoms, *d, c);
  });
}
}
