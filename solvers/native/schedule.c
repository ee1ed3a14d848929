/* See schedule.h. */
#include "schedule.h"

#include <math.h>

#if defined(__GNUC__) || defined(__clang__)
#define CW_INLINE static inline __attribute__((always_inline))
#else
#define CW_INLINE static inline
#endif

#define BLOCK 128 /* names at a time: the states of a block stay in the nearest cache */

/* Where (a, b), a <= b, stands among the S(S + 1)/2 entries of a symmetric matrix. */
#define AT(a, b, S) ((a) * (2 * (S) - (a) + 1) / 2 + (b) - (a))

CW_INLINE void factor(size_t T, size_t N, const size_t M, const double *restrict d, const double *restrict walk,
                      const double *restrict own, const double *restrict end, const double *restrict rho,
                      const double *restrict k, double *restrict inverse, double *restrict gain,
                      double *restrict P) {
    const size_t S = 1 + M;
    for (size_t i = 0; i < N; i++) {
        for (size_t e = 0; e < S * (S + 1) / 2; e++) P[e * N + i] = 0.0;
        P[i] = end[i] + walk[T - 1] * own[i];
        for (size_t m = 0; m < M; m++) P[AT(m + 1, m + 1, S) * N + i] = k[m * N + i];
    }
    for (size_t t = T; t-- > 0;) {
        const double *restrict now = rho + t * M; /* the step to slice t - 1 decays by the decay of slice t */
        const double step = t > 0 ? walk[t - 1] : 0.0;
        for (size_t i = 0; i < N; i++) {
            double h[1 + CW_MODES], seen = d[t * N + i], across = 0.0;
            for (size_t a = 0; a < S; a++) {
                h[a] = 0.0;
                for (size_t b = 0; b < S; b++) h[a] += P[(a <= b ? AT(a, b, S) : AT(b, a, S)) * N + i];
                if (a > 0) {
                    seen += h[a];
                    across += P[AT(0, a, S) * N + i];
                }
            }
            /* The walk's variance may be infinite or dwarf the rest: nothing here is a difference of two such. */
            const int open = isinf(P[i]);
            const double F = h[0] + seen, g0 = open ? 1.0 : h[0] / F;
            inverse[t * N + i] = open ? 0.0 : 1.0 / F;
            gain[(t * S) * N + i] = g0;
            for (size_t a = 1; a < S; a++) gain[(t * S + a) * N + i] = open ? 0.0 : h[a] / F;
            P[i] = g0 * seen - across + step * own[i];
            for (size_t a = 1; a < S; a++) {
                const double r = now[a - 1];
                P[AT(0, a, S) * N + i] = r * (P[AT(0, a, S) * N + i] - g0 * h[a]);
                for (size_t b = a; b < S; b++) {
                    const double less = open ? 0.0 : h[a] / F * h[b];
                    double kept = r * now[b - 1] * (P[AT(a, b, S) * N + i] - less);
                    if (a == b) kept += (1.0 - r * r) * k[(a - 1) * N + i];
                    P[AT(a, b, S) * N + i] = kept;
                }
            }
        }
    }
}

int cw_schedule_factor(size_t T, size_t N, size_t M, const double *d, const double *walk, const double *own,
                       const double *end, const double *rho, const double *k, double *inverse, double *gain,
                       double *work) {
    switch (M) {
        case 0: factor(T, N, 0, d, walk, own, end, rho, k, inverse, gain, work); return 1;
        case 1: factor(T, N, 1, d, walk, own, end, rho, k, inverse, gain, work); return 1;
        case 2: factor(T, N, 2, d, walk, own, end, rho, k, inverse, gain, work); return 1;
        case 3: factor(T, N, 3, d, walk, own, end, rho, k, inverse, gain, work); return 1;
        default:
            if (M > CW_MODES) return 0;
            factor(T, N, M, d, walk, own, end, rho, k, inverse, gain, work);
            return 1;
    }
}

CW_INLINE void solve(size_t T, size_t N, const size_t M, const double *restrict inverse, const double *restrict gain,
                     const double *restrict rho, const double *r, double *x, double *restrict s, size_t from,
                     size_t to) {
    const size_t S = 1 + M;
    for (size_t t = T; t-- > 0;) {
        const double *restrict now = rho + t * M, *restrict g = gain + t * S * N, *restrict f = inverse + t * N;
        for (size_t i = from; i < to; i++) {
            double e = r[t * N + i];
            for (size_t a = 0; a < S; a++) e -= s[a * N + i];
            x[t * N + i] = e * f[i];
            s[i] += g[i] * e;
            for (size_t a = 1; a < S; a++) s[a * N + i] = now[a - 1] * (s[a * N + i] + g[a * N + i] * e);
        }
    }
    for (size_t a = 0; a < S; a++)
        for (size_t i = from; i < to; i++) s[a * N + i] = 0.0;
    for (size_t t = 0; t < T; t++) {
        const double *restrict now = rho + t * M, *restrict g = gain + t * S * N;
        for (size_t i = from; i < to; i++) {
            double moved[1 + CW_MODES];
            moved[0] = s[i];
            for (size_t a = 1; a < S; a++) moved[a] = now[a - 1] * s[a * N + i];
            double u = x[t * N + i];
            for (size_t a = 0; a < S; a++) u += g[a * N + i] * moved[a];
            x[t * N + i] = u;
            for (size_t a = 0; a < S; a++) s[a * N + i] = moved[a] - u;
        }
    }
}

int cw_schedule_solve(size_t T, size_t N, size_t M, const double *inverse, const double *gain, const double *rho,
                      const double *r, double *x, double *work) {
    if (M > CW_MODES) return 0;
    for (size_t e = 0; e < (1 + M) * N; e++) work[e] = 0.0;
    for (size_t from = 0; from < N; from += BLOCK) {
        const size_t to = from + BLOCK < N ? from + BLOCK : N;
        switch (M) {
            case 0: solve(T, N, 0, inverse, gain, rho, r, x, work, from, to); break;
            case 1: solve(T, N, 1, inverse, gain, rho, r, x, work, from, to); break;
            case 2: solve(T, N, 2, inverse, gain, rho, r, x, work, from, to); break;
            case 3: solve(T, N, 3, inverse, gain, rho, r, x, work, from, to); break;
            default: solve(T, N, M, inverse, gain, rho, r, x, work, from, to);
        }
    }
    return 1;
}

CW_INLINE double cell(double v, double cut, double l, double h) {
    const double above = v - cut, below = v + cut;
    double z = (above > 0.0 ? above : 0.0) + (below < 0.0 ? below : 0.0);
    z = z < l ? l : z;
    return z > h ? h : z;
}

#define LANES 8 /* sums in a fixed order that the compiler may take several at a time */

/* Sum of |z| at a price and its fall per unit of price. */
static double gross(size_t n, const double *restrict v, const double *restrict r, const double *restrict c,
                    const double *restrict l, const double *restrict h, double theta, double *fall) {
    double sum[LANES] = {0.0}, slope[LANES] = {0.0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const double z = cell(v[i + j], (c[i + j] + theta) * r[i + j], l[i + j], h[i + j]);
            const double moves = z > l[i + j] ? r[i + j] : 0.0, stays = z < h[i + j] ? moves : 0.0;
            sum[j] += fabs(z);
            slope[j] += fabs(z) > 0.0 ? stays : 0.0;
        }
    for (size_t j = 0; i < n; i++, j++) {
        const double z = cell(v[i], (c[i] + theta) * r[i], l[i], h[i]);
        sum[j] += fabs(z);
        slope[j] += z > l[i] && z < h[i] && fabs(z) > 0.0 ? r[i] : 0.0;
    }
    double total = 0.0;
    *fall = 0.0;
    for (size_t j = 0; j < LANES; j++) {
        total += sum[j];
        *fall += slope[j];
    }
    return total;
}

static double price(size_t n, const double *v, const double *r, const double *c, const double *l, const double *h,
                    double cap, double theta) {
    double fall, low = -INFINITY, high = 0.0;
    if (isinf(cap) || n == 0) return 0.0;
    for (size_t i = 0; i < n; i++) {
        const double zero = fabs(v[i]) - c[i] * r[i];
        if (zero > high * r[i]) high = zero / r[i];
    }
    high += 1e-15 * high; /* all that is free is zero there, rounding or not */
    if (!(theta > 0.0 && theta < high)) theta = 0.0;
    for (int pass = 0; pass < 100; pass++) {
        const double over = gross(n, v, r, c, l, h, theta, &fall) - cap;
        if (over <= 0.0 && (over >= -1e-12 * cap || theta == 0.0)) return theta;
        if (over > 0.0) low = theta;
        else high = theta;
        /* A little beyond the root, beyond what rounding of the sum can take away: the cap is kept. */
        double next = fall > 0.0 ? theta + (over + 5e-13 * cap) / fall : low;
        if (next <= 0.0 && low < 0.0) next = 0.0;
        else if (!(next > low && next < high)) next = 0.5 * ((low > 0.0 ? low : 0.0) + high);
        if (!(next > low && next < high)) break;
        theta = next;
    }
    return high;
}

void cw_schedule_prox(size_t T, size_t N, size_t G, const size_t *first, const double *cap, const double *v,
                      const double *r, const double *c, const double *l, const double *h, double *theta, double *z) {
    for (size_t t = 0; t < T; t++) {
        const size_t row = t * N;
        size_t from = 0;
        for (size_t g = 0; g < G; g++) {
            const size_t at = row + first[g], n = first[g + 1] - first[g];
            const double p = price(n, v + at, r + at, c + at, l + at, h + at, cap[t * G + g], theta[t * G + g]);
            theta[t * G + g] = p;
            for (size_t i = at; i < at + n; i++) z[i] = cell(v[i], (c[i] + p) * r[i], l[i], h[i]);
            from = first[g + 1];
        }
        for (size_t i = row + from; i < row + N; i++) z[i] = cell(v[i], c[i] * r[i], l[i], h[i]);
    }
}

/* What minimises a cell of the dual at a price of the sum. */
CW_INLINE double reply(double pull, double kappa, double reach, double l, double h) {
    const double above = pull - kappa, below = pull + kappa;
    double v = ((above > 0.0 ? above : 0.0) + (below < 0.0 ? below : 0.0)) * reach;
    v = v < l ? l : v;
    return v > h ? h : v;
}

typedef struct {
    double low, high, last, step;
    int open; /* still to be moved */
} search;

/* Move the price of a sum that misses its total by `miss`, with slope `rise`; every cell reaches `most` at best. */
static double advance(search *s, double mu, double miss, double rise, double most) {
    if (miss > 0.0) s->high = mu;
    else s->low = mu;
    const double by = rise > 0.0 ? rise : most;
    double step = by > 0.0 ? -miss / by : -miss;
    const int bracketed = s->low > -INFINITY && s->high < INFINITY;
    double next = mu + step;
    if (bracketed) {
        /* Newton where it halves the miss and stays between; else the middle. */
        if (fabs(miss) > 0.5 * fabs(s->last) || !(next > s->low && next < s->high)) next = 0.5 * (s->low + s->high);
    } else {
        if (fabs(miss) > 0.5 * fabs(s->last)) step = copysign(fmax(fabs(step), 2.0 * fabs(s->step)), step);
        next = mu + step;
    }
    s->step = next - mu;
    s->last = miss;
    return next;
}

void cw_schedule_dual(size_t T, size_t N, size_t G, size_t passes, const size_t *group, const double *theta,
                      const double *a, const double *reach, const double *c, const double *l, const double *h,
                      const double *total, const double *give, const double *slack, double *mu, double *value) {
    for (size_t from = 0; from < N; from += LANES) {
        const size_t n = from + LANES < N ? LANES : N - from;
        search states[LANES];
        double best[LANES], least[LANES];
        for (size_t j = 0; j < n; j++) {
            states[j] = (search){-INFINITY, INFINITY, INFINITY, 0.0, give[from + j] >= 0.0};
            if (!states[j].open) mu[from + j] = 0.0;
            best[j] = mu[from + j];
            least[j] = INFINITY;
        }
        for (size_t pass = 0; pass < passes; pass++) {
            double sum[LANES] = {0.0}, rise[LANES] = {0.0}, most[LANES] = {0.0};
            int open = 0;
            for (size_t j = 0; j < n; j++) open |= states[j].open;
            if (!open) break;
            for (size_t t = 0; t < T; t++) {
                const size_t at = t * N + from;
                for (size_t j = 0; j < n; j++) {
                    const double kappa = c[at + j] + theta[t * (G + 1) + group[from + j]], r = reach[at + j];
                    const double v = reply(a[at + j] + mu[from + j], kappa, r, l[at + j], h[at + j]);
                    const double moves = v > l[at + j] ? r : 0.0, stays = v < h[at + j] ? moves : 0.0;
                    sum[j] += v;
                    rise[j] += fabs(v) > 0.0 ? stays : 0.0;
                    most[j] += r;
                }
            }
            for (size_t j = 0; j < n; j++) {
                if (!states[j].open) continue;
                const double miss = sum[j] - total[from + j] + give[from + j] * mu[from + j];
                if (fabs(miss) <= least[j]) {
                    least[j] = fabs(miss);
                    best[j] = mu[from + j];
                }
                if (!(fabs(miss) > slack[from + j])) states[j].open = 0;
                else mu[from + j] = advance(&states[j], mu[from + j], miss, rise[j] + give[from + j], most[j]);
            }
        }
        double sum[LANES] = {0.0};
        for (size_t j = 0; j < n; j++)
            mu[from + j] = best[j];
        for (size_t t = 0; t < T; t++) {
            const size_t at = t * N + from;
            for (size_t j = 0; j < n; j++) {
                const double kappa = c[at + j] + theta[t * (G + 1) + group[from + j]], pull = a[at + j] + mu[from + j];
                const double v = reply(pull, kappa, reach[at + j], l[at + j], h[at + j]);
                const double bend = reach[at + j] < 1e300 ? 0.5 * v / reach[at + j] : 0.0;
                sum[j] += (bend - pull) * v + kappa * fabs(v);
            }
        }
        for (size_t j = 0; j < n; j++) {
            const double p = mu[from + j];
            value[from + j] = give[from + j] < 0.0 ? sum[j] : sum[j] + p * (total[from + j] - 0.5 * give[from + j] * p);
        }
    }
}

void cw_schedule_step(size_t T, size_t N, size_t G, const size_t *first, const double *cap, double relax,
                      const double *u, const double *w, const double *r, const double *linear, const double *c,
                      const double *l, const double *h, double *theta, double *z, double *y, double *pull,
                      double *sums, double *work) {
    double primal[LANES] = {0.0}, dual[LANES] = {0.0};
    for (size_t t = 0; t < T; t++) {
        const size_t row = t * N;
        for (size_t i = 0; i < N; i++) work[i] = relax * u[row + i] + (1.0 - relax) * z[row + i] + y[row + i];
        for (size_t g = 0, from = 0; g <= G; g++) {
            const size_t to = g < G ? first[g + 1] : N, at = row + from, n = to - from;
            double p = 0.0;
            if (g < G)
                theta[t * G + g] = p =
                    price(n, work + from, r + at, c + at, l + at, h + at, cap[t * G + g], theta[t * G + g]);
            size_t i = 0;
            for (; i < n; i += LANES) {
                const size_t m = n - i < LANES ? n - i : LANES;
                for (size_t j = 0; j < m; j++) {
                    const size_t k = at + i + j;
                    const double v = work[from + i + j], next = cell(v, (c[k] + p) * r[k], l[k], h[k]);
                    const double off = u[k] - next, move = next - z[k];
                    primal[j] += w[k] * off * off;
                    dual[j] += w[k] * move * move;
                    z[k] = next;
                    y[k] = v - next;
                    pull[k] = w[k] * (2.0 * next - v) - linear[k];
                }
            }
            from = to;
        }
    }
    sums[0] = sums[1] = 0.0;
    for (size_t j = 0; j < LANES; j++) {
        sums[0] += primal[j];
        sums[1] += dual[j];
    }
}

static double inner(size_t n, const double *restrict a, const double *restrict b) {
    double sum[LANES] = {0.0}, total = 0.0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) sum[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i < n; i++, j++) sum[j] += a[i] * b[i];
    for (size_t j = 0; j < LANES; j++) total += sum[j];
    return total;
}

void cw_schedule_whiten(size_t T, size_t p, size_t S, size_t walks, const double *keep, const double *mean,
                        const double *root, const double *whiten, const double *gain, const double *y, double *x,
                        double *work) {
    double *a = work, *seen = work + S;
    const size_t shift = p - walks;
    for (size_t i = 0; i < S; i++) a[i] = 0.0;
    for (size_t t = 0; t < T; t++) {
        const double *G = gain + t * S * p, *W = whiten + t * p * p, *q = root + t * p;
        double *out = x + t * p;
        for (size_t i = 0; i < p; i++) a[i] *= keep[t * S + i];
        for (size_t i = walks; i < p; i++) a[i] -= mean[t] * a[i + shift];
        for (size_t i = p; i < S; i++) a[i] *= keep[t * S + i];
        for (size_t i = 0; i < p; i++) seen[i] = y[t * p + i] - q[i] * a[i];
        for (size_t i = 0; i < p; i++) out[i] = inner(p, W + i * p, seen);
        for (size_t i = 0; i < S; i++) a[i] += inner(p, G + i * p, seen);
    }
    for (size_t i = 0; i < S; i++) a[i] = 0.0;
    for (size_t t = T; t-- > 0;) {
        const double *G = gain + t * S * p, *q = root + t * p;
        double *out = x + t * p;
        for (size_t i = 0; i < S; i++)
            for (size_t j = 0; j < p; j++) out[j] -= a[i] * G[i * p + j];
        for (size_t j = 0; j < p; j++) a[j] += q[j] * out[j];
        for (size_t i = p; i < S; i++) a[i] = keep[t * S + i] * a[i] - mean[t] * a[i - shift];
        for (size_t i = 0; i < p; i++) a[i] *= keep[t * S + i];
    }
}
