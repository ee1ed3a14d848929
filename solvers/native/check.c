#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The same numbers as in certify_fast.py and bounds.py; a test holds both ways together. */
#define BIG 1e150      /* in place of infinity: 0 * BIG is 0, and what leans on it is dropped first */
#define AT_REST 1e-4   /* of the reach: below it a limit with bound zero counts as being at rest */
#define NO_BOUND 1e-12 /* of the reach: a bound below it is zero up to rounding */
#define ROUNDING 1e-13
#define DRIFT 64.0     /* squared norms of the data may change by this much */
#define REACH 1e3      /* sizes of the iterate that the bound within reach covers */

struct cw_check {
    int n, m;
    double tol, root_n;
    int *p_start, *p_index, *a_start, *a_index, *r_start, *r_index;
    double *p_value, *a_value, *r_value;
    double *half_bend;                /* n */
    double *q;                        /* n */
    double *low, *high;               /* m + n: the bounds as given, rows first */
    double *big_low, *big_high;       /* m + n: with BIG for infinity */
    double *allowed;                  /* m + n: the miss that passes for certain */
    double *rest, *unit;              /* m + n, n */
    unsigned char *pattern;           /* m + n */
    double linear, row_size, box_size; /* squared norms of the reference */
    double *kept, *support, *miss;    /* work: m + n each */
    double *image, *r, *px;           /* work: m, n, n */
};

/* Ternaries compile to one instruction; fmax and fmin are calls. With a NaN they return the second argument. */
static double larger(double a, double b) { return a > b ? a : b; }
static double smaller(double a, double b) { return a < b ? a : b; }

static double squared(const double *v, int k) {
    double sum = 0.0;
    for (int i = 0; i < k; i++) sum += v[i] * v[i];
    return sum;
}

static int near(double value, double reference) {
    return reference <= DRIFT * value && value <= DRIFT * reference; /* false for NaN */
}

static unsigned char code(double low, double high) {
    return (unsigned char)((low < high) | (low > high) << 1 | (isfinite(low) ? 4 : 0) | (isfinite(high) ? 8 : 0) |
                           (low == 0.0) << 4 | (high == 0.0) << 5);
}

static double side_size(double low, double high) { return smaller(fabs(low), fabs(high)); }

/* The size of the finite ones among bounds lo..hi, by their smaller side, as the reference pattern has them. */
static double bound_size(const unsigned char *pattern, const double *low, const double *high, int k) {
    double sum = 0.0;
    for (int i = 0; i < k; i++)
        if (pattern[i] & 12) {
            double side = smaller(side_size(low[i], high[i]), BIG);
            sum += side * side;
        }
    return sum;
}

static int suits(const unsigned char *pattern, const double *low, const double *high, int k, double reference) {
    for (int i = 0; i < k; i++)
        if (code(low[i], high[i]) != pattern[i]) return 0;
    return near(bound_size(pattern, low, high, k), reference);
}

/* Largest |A_ij| times the unit of j, where there is one. */
static double row_top(const cw_check *c, int i) {
    double top = 0.0;
    for (int k = c->r_start[i]; k < c->r_start[i + 1]; k++) {
        double unit = c->unit[c->r_index[k]];
        if (isfinite(unit)) top = larger(c->r_value[k] * unit, top);
    }
    return top;
}

/* The smallest non-zero bound of each variable, and the scale it gives at least to limits with a bound of zero. */
static void put_units(cw_check *c) {
    const int m = c->m, n = c->n;
    for (int j = 0; j < n; j++) {
        double low = fabs(c->low[m + j]), high = fabs(c->high[m + j]);
        if (low == 0.0) low = INFINITY;
        if (high == 0.0) high = INFINITY;
        c->unit[j] = smaller(low, high);
    }
    for (int i = 0; i < m; i++) c->rest[i] = AT_REST * row_top(c, i);
    for (int j = 0; j < n; j++) c->rest[m + j] = isfinite(c->unit[j]) ? AT_REST * c->unit[j] : 0.0;
}

/* What depends on the bounds start..stop. */
static void put_bounds(cw_check *c, int start, int stop) {
    for (int i = start; i < stop; i++) {
        double low = larger(c->low[i], -BIG), high = smaller(c->high[i], BIG);
        double size_low = fabs(low), size_high = fabs(high), allowed = smaller(size_low, size_high);
        c->big_low[i] = low;
        c->big_high[i] = high;
        if (c->low[i] == 0.0 || c->high[i] == 0.0) {
            /* Beside a bound of zero, which leaves the scale to the reach, the other one may be smaller still. */
            double other = larger(size_low, size_high);
            allowed = smaller(other == 0.0 ? BIG : other, c->rest[i]);
        }
        c->allowed[i] = c->tol * allowed;
    }
}

static void *copied(const void *from, size_t bytes, int *short_of) {
    void *to = malloc(bytes ? bytes : 1);
    if (to == NULL) *short_of = 1;
    else if (bytes) memcpy(to, from, bytes);
    return to;
}

static double *room(size_t count, int *short_of) {
    double *to = calloc(count ? count : 1, sizeof(double));
    if (to == NULL) *short_of = 1;
    return to;
}

cw_check *cw_check_new(const cw_sparse *P, const cw_sparse *A, const cw_sparse *row_size, const double *half_bend,
                       const double *q, const double *l, const double *u, const double *lb, const double *ub,
                       double tol) {
    cw_check *c = calloc(1, sizeof *c);
    int bad = 0;
    if (c == NULL) return NULL;
    const int n = P->columns, m = A->rows;
    const size_t one = sizeof(double), whole = sizeof(int), N = (size_t)n, M = (size_t)m;
    const size_t np = (size_t)P->start[n], na = (size_t)A->start[n];
    c->n = n;
    c->m = m;
    c->tol = tol;
    c->root_n = sqrt((double)n);
    c->p_start = copied(P->start, (N + 1) * whole, &bad);
    c->p_index = copied(P->index, np * whole, &bad);
    c->p_value = copied(P->value, np * one, &bad);
    c->a_start = copied(A->start, (N + 1) * whole, &bad);
    c->a_index = copied(A->index, na * whole, &bad);
    c->a_value = copied(A->value, na * one, &bad);
    c->r_start = copied(row_size->start, (M + 1) * whole, &bad);
    c->r_index = copied(row_size->index, na * whole, &bad);
    c->r_value = copied(row_size->value, na * one, &bad);
    c->half_bend = copied(half_bend, N * one, &bad);
    c->q = copied(q, N * one, &bad);
    c->low = room(M + N, &bad);
    c->high = room(M + N, &bad);
    c->big_low = room(M + N, &bad);
    c->big_high = room(M + N, &bad);
    c->allowed = room(M + N, &bad);
    c->rest = room(M + N, &bad);
    c->unit = room(N, &bad);
    c->kept = room(M + N, &bad);
    c->support = room(M + N, &bad);
    c->miss = room(M + N, &bad);
    c->image = room(M, &bad);
    c->r = room(N, &bad);
    c->px = room(N, &bad);
    c->pattern = calloc(M + N + 1, 1);
    if (bad || c->pattern == NULL) {
        cw_check_free(c);
        return NULL;
    }
    memcpy(c->low, l, M * one);
    memcpy(c->high, u, M * one);
    memcpy(c->low + m, lb, N * one);
    memcpy(c->high + m, ub, N * one);
    for (int i = 0; i < m + n; i++) c->pattern[i] = code(c->low[i], c->high[i]);
    c->linear = squared(q, n);
    c->row_size = bound_size(c->pattern, c->low, c->high, m);
    c->box_size = bound_size(c->pattern + m, c->low + m, c->high + m, n);
    put_units(c);
    put_bounds(c, 0, m + n);
    return c;
}

void cw_check_free(cw_check *c) {
    if (c == NULL) return;
    void *all[] = {c->p_start, c->p_index, c->p_value, c->a_start, c->a_index, c->a_value, c->r_start, c->r_index,
                   c->r_value, c->half_bend, c->q, c->low, c->high, c->big_low, c->big_high, c->allowed, c->rest,
                   c->unit, c->kept, c->support, c->miss, c->image, c->r, c->px, c->pattern};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]);
    free(c);
}

int cw_check_variables(const cw_check *c) { return c->n; }
int cw_check_rows(const cw_check *c) { return c->m; }

int cw_check_take(cw_check *c, const double *q, const double *l, const double *u, const double *lb,
                  const double *ub) {
    const int m = c->m, n = c->n;
    const size_t one = sizeof(double);
    if (q != NULL && !near(squared(q, n), c->linear)) return 0; /* NaN and infinity survive in the square */
    if ((l || u) && !suits(c->pattern, l ? l : c->low, u ? u : c->high, m, c->row_size)) return 0;
    if ((lb || ub) && !suits(c->pattern + m, lb ? lb : c->low + m, ub ? ub : c->high + m, n, c->box_size)) return 0;
    if (q) memcpy(c->q, q, (size_t)n * one);
    if (l) memcpy(c->low, l, (size_t)m * one);
    if (u) memcpy(c->high, u, (size_t)m * one);
    if (lb) memcpy(c->low + m, lb, (size_t)n * one);
    if (ub) memcpy(c->high + m, ub, (size_t)n * one);
    if (lb || ub) {
        put_units(c);
        put_bounds(c, 0, m + n);
    } else if (l || u) {
        put_bounds(c, 0, m);
    }
    return 1;
}

/* Whether a miss passes by the scale that the full certificate gives it: the terms of its row, or the missed bound;
 * a bound that is zero up to rounding leaves the scale to the reach of the variables. */
static int excused(const cw_check *c, int i, double value, double miss, const double *x, double top) {
    double own = 0.0, reach = 0.0;
    double bound = fabs(value - c->high[i] > c->low[i] - value ? c->high[i] : c->low[i]);
    int start = i < c->m ? c->r_start[i] : 0, stop = i < c->m ? c->r_start[i + 1] : 1;
    for (int k = start; k < stop; k++) {
        int j = i < c->m ? c->r_index[k] : i - c->m;
        double weight = i < c->m ? c->r_value[k] : 1.0;
        double unit = isfinite(c->unit[j]) ? c->unit[j] : top;
        own = larger(weight * fabs(x[j]), own);
        reach = larger(weight * larger(fabs(x[j]), unit), reach);
    }
    return miss <= c->tol * larger(own, bound > NO_BOUND * reach ? bound : AT_REST * reach);
}

/* The largest of two products: what a multiplier earns on its side. */
static double side(double high, double low, double w) { return larger(high * w, low * w); }

int cw_check_passes(cw_check *c, const double *x, const double *w) {
    const int n = c->n, m = c->m;
    const double tol = c->tol;
    double top = 0.0, sum = 0.0;
    for (int j = 0; j < n; j++) {
        top = larger(fabs(x[j]), top);
        sum += x[j]; /* a NaN or an infinity that the maximum would drop */
    }
    if (!(top > 0.0 && isfinite(top) && isfinite(sum))) return 0;

    /* Primal: every miss against the smallest scale its bounds allow. */
    double *image = c->image;
    memset(image, 0, (size_t)m * sizeof(double));
    for (int j = 0; j < n; j++)
        for (int k = c->a_start[j]; k < c->a_start[j + 1]; k++) image[c->a_index[k]] += c->a_value[k] * x[j];
    for (int i = 0; i < m + n; i++) {
        double value = i < m ? image[i] : x[i - m];
        double miss = larger(c->big_low[i] - value, value - c->big_high[i]);
        if (!(miss <= c->allowed[i]) && !excused(c, i, value, miss, x, top)) return 0;
        c->miss[i] = larger(miss, 0.0);
    }

    /* Dual. What leans on an infinite bound is dropped, and counts. */
    double refused = 0.0, support = 0.0, worth = 0.0;
    for (int i = 0; i < m + n; i++) {
        double kept = w[i];
        if (!isfinite(kept)) return 0;
        if ((kept > 0.0 && isinf(c->high[i])) || (kept < 0.0 && isinf(c->low[i]))) {
            refused = larger(fabs(kept), refused);
            kept = 0.0;
        }
        c->kept[i] = kept;
        c->support[i] = side(c->big_high[i], c->big_low[i], kept);
        support += c->support[i];
        worth += fabs(kept) * c->miss[i]; /* a point outside its limits may be too good by that */
    }
    const double *y = c->kept, *z = c->kept + m;
    double *r = c->r, *px = c->px, xPx = 0.0, qx = 0.0, dual = refused, top_q = 0.0, top_px = 0.0, qq = 0.0;
    for (int j = 0; j < n; j++) {
        double from_p = 0.0, from_a = 0.0; /* P is symmetric: its columns are its rows */
        for (int k = c->p_start[j]; k < c->p_start[j + 1]; k++) from_p += c->p_value[k] * x[c->p_index[k]];
        for (int k = c->a_start[j]; k < c->a_start[j + 1]; k++) from_a += c->a_value[k] * y[c->a_index[k]];
        px[j] = from_p;
        r[j] = from_p + c->q[j] + from_a + z[j];
        xPx += x[j] * from_p;
        qx += c->q[j] * x[j];
        qq += c->q[j] * c->q[j];
        dual = larger(fabs(r[j]), dual);
        top_q = larger(fabs(c->q[j]), top_q);
        top_px = larger(fabs(from_p), top_px);
    }
    if (!(dual <= tol * sqrt(qq) / c->root_n) && !(dual <= tol * larger(top_px, top_q))) return 0;

    double gap = xPx + qx + support;
    double limit = (tol - ROUNDING) * larger(larger(0.5 * fabs(xPx), fabs(qx)), fabs(support));
    if (!(fabs(gap) <= limit && worth <= limit)) return 0;

    /* Excess over a lower bound: a residual is absorbed by a box or paid for by curvature; where neither is at hand for
     * one, the bound holds only within reach, and each costs what is least there. */
    double everywhere = 0.0, within = 0.0;
    for (int j = 0; j < n; j++) {
        if (isnan(r[j])) return 0;
        if (r[j] == 0.0) continue;
        double size = larger(fabs(x[j]), isfinite(c->unit[j]) ? c->unit[j] : top);
        double out_of_reach = REACH * fabs(r[j]) * size;
        double paid = c->half_bend[j] < BIG ? r[j] * r[j] * c->half_bend[j] - r[j] * x[j] : INFINITY;
        double moved = z[j] - r[j];
        int open = (moved > 0.0 && isinf(c->high[m + j])) || (moved < 0.0 && isinf(c->low[m + j]));
        double absorbed = open ? INFINITY : side(c->big_high[m + j], c->big_low[m + j], moved) - c->support[m + j];
        double sure = smaller(paid, absorbed);
        if (isnan(sure)) return 0;
        everywhere += sure;
        within += smaller(sure, out_of_reach);
    }
    return fabs(gap + (isfinite(everywhere) ? everywhere : within)) <= limit;
}
