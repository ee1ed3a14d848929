#include "mpc.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BIG 1e9       /* units: larger data are refused, larger limits are none */
#define PIN 1e6       /* weight of a row held at its target by the method of multipliers */
#define SHUT 1e-9     /* a cap below it leaves nothing to decide */
#define SHUT_PIN 1e8
#define RIDGE 1e-10   /* on h, of the usual curvature, so that the program is strictly convex */
#define NEWTON 6      /* factorisations of one run of the regime Newton */
#define RESOLVES 3
#define STALL 3       /* Newton steps in a row that change no fewer regimes than before */
#define GATE 4        /* steps in a row that Newton did not settle, from which on it is tried every eighth time */
#define WARM 22       /* interior steps after which a start from the last prices is given up */
#define HELD 1e-9     /* how near to their targets pinned rows are */
#define NEXT 1e-4     /* complementarity of the first crossover */
#define MU0 1.0       /* complementarity, and share of the gradient, of a start from nothing */
#define PUSH 0.1
#define DELTA 0.1     /* least slacks and multipliers of a start from the last answer */
#define NEARBY 1.0    /* largest gradient from which that is a good one */
#define MOST 1e8       /* numbers in the largest array */
#define ROUNDING 1e-15 /* of the cost's size, left for the rounding of both sides of a gap */
#define SAVED 2        /* version of the saved bytes */
#define TINY 1e-200    /* limits and trades below it are zero, so that scaling by powers of two is exact */

/* What a step finds of the one before: nothing, a plan, or a plan with prices and regimes that fit each other. */
enum { COLD, PLAN, SETTLED };

/* Sizes with sweeps of their own: one instrument on one exposure with one mode, two on two, three on three. */
enum { ONE, TWO, THREE, ANY };

/* Slices are rows of m or k numbers, padded to whole vectors of four where there is more than one instrument; the
   padding is zero, or no limit. A row of u, y, w, ... is in three blocks over all slices: trades h (H x mp), changes
   r_t = h_t - h_{t-1} (H x mp), gaps G (H x kp). The state is the gaps, the impact states mode by mode, and those trades
   before whose change has a weight. */
#define UP(n) (((n) + 3) & ~3)
#define SIZES const int m, const int k, const int M
#define LAYOUT                                                                                                   \
    const int one = m == 1 && k == 1 && M == 1, even = m == k && M == 1 && (m == 2 || m == 3), mp = one ? 1 : UP(m), \
              kp = one ? 1 : UP(k), kb = even ? 4 : k, mb = even ? 4 : m, ng = kb + M * mb, sx = UP(ng + m),      \
              wide = mp + (even ? 2 * sx : sx);                                                                                     \
    (void)one, (void)even, (void)mp, (void)kp, (void)kb, (void)mb, (void)ng, (void)sx, (void)wide

struct cw_mpc {
    int m, k, M, H;
    int mp, kp, kb, mb, ng, sx; /* as LAYOUT has them */
    int hm, hk, hr;     /* H mp, H kp, and 2 hm + hk */
    int kind, plain;    /* which sweeps; whether E = I */
    int warm, gated, fallbacks;
    double unit, root, cost; /* powers of two: scaling by them is exact; cost is that of root squared */
    uint64_t hash;      /* of the model */
    double soft;        /* a lower bound on the curvature of the cost, 0 where none is known */
    int *from;          /* m + 1: where the entries of Gamma begin, instrument by instrument */
    int *at;
    double *value;
    double *E, *lam, *L, *R, *rho, *q, *Qg; /* scaled model: E, 2 Lam, rho L' and L in rows of mp, Qg in rows of kp */
    double *F;                           /* E', m x kp */
    double *sc;                          /* how the state decays: 1, rho, 0 */
    double *factor, *base;               /* H slices of [U | Y]: of the weighted matrix, and of P */
    int *count, *none, *act;             /* trades before that a slice asks for: how many, none, which */
    double *V, *X, *W;                   /* values H + 1 times, one at work, Gamma'V */
    double *G0, *z0, *last;
    double *plan, *lin, *carry, *c, *cap, *ceff, *rate, *gmax, *p1, *p2;
    double *u, *y, *w, *yh, *du;         /* rows; prices; weights; prices to aim at; steps */
    double *y0, *keep, *keep_y, *row;         /* shifted y; u and y over a crossover; rows of the trades considered last */
    double *z;                           /* H x M mb */
    double *grad, *nu, *best, *trial, *plan0; /* H x mp; the last is the shifted plan */
    double *t, *s, *l, *ds, *dl, *si, *D, *q3, *dt; /* interior point, see below */
    double *top, *limit, *edge, *pin, *A, *B;
    double *x, *d, *d0, *pi;
    signed char *regime;                 /* rows */
};

#if defined(__GNUC__)
#define ALWAYS inline __attribute__((always_inline))
#else
#define ALWAYS inline
#endif

/* Where the compiler knows vectors, loops over padded rows are written with them; each number of a vector sees the same
   operations in the same order as without, and so has the same bits. */
#if defined(__GNUC__) && !defined(CW_MPC_SCALAR)
#define LANES 4
typedef double vec __attribute__((vector_size(32), aligned(8), may_alias));
typedef double pair __attribute__((vector_size(16), aligned(8), may_alias));
typedef long long flags __attribute__((vector_size(16)));
typedef long long marks __attribute__((vector_size(32)));
#else
#define LANES 1
typedef double vec;
#endif
#define AT(from, b) (*(const vec *)(const void *)((from) + (b)))
#define TO(to, b) (*(vec *)(void *)((to) + (b)))

/* Where the loader can choose by the processor, what takes long is there twice; without fused operations both give the
   same bits. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(CW_MPC_PORTABLE)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static size_t take(size_t *used, size_t count, size_t size) {
    const size_t at = (*used + 63) & ~(size_t)63;
    *used = at + count * size + 32; /* vectors may read a little beyond */
    return at;
}

static size_t layout(cw_mpc *p, char *base, const cw_mpc_dims *given) {
    const int m = given->instruments, k = given->exposures, M = given->modes, H = given->horizon;
    if (m < 1 || k < 1 || M < 0 || H < 1 || m > 1000 || k > 1000 || M > 100 || H > 100000) return 0;
    LAYOUT;
    /* Every index below fits an int. */
    if ((double)(H + 1) * (m * (double)wide + k * (double)kp + (ng + m) * (double)sx + 5 * mp + 3 * kp) > MOST)
        return 0;
    size_t used = sizeof(cw_mpc);
    const int hm = H * mp, hk = H * kp;
    if (p != NULL) {
        p->m = m, p->k = k, p->M = M, p->H = H;
        p->mp = mp, p->kp = kp, p->kb = kb, p->mb = mb, p->ng = ng, p->sx = sx;
        p->hm = hm, p->hk = hk, p->hr = 2 * hm + hk;
        p->kind = one ? ONE : !even ? ANY : m == 2 ? TWO : THREE;
    }
#define TAKE(field, count, type)                                             \
    do {                                                                     \
        size_t spot = take(&used, (size_t)(count), sizeof(type));            \
        if (p != NULL) p->field = (type *)(void *)(base + spot);             \
    } while (0)
    TAKE(from, m + 1, int);
    TAKE(at, m * ng, int);
    TAKE(value, m * ng, double);
    TAKE(E, k * mp, double);
    TAKE(F, m * kp, double);
    TAKE(lam, m * mp, double);
    TAKE(L, M * mb * mp, double);
    TAKE(R, M * mb * mp, double);
    TAKE(rho, M, double);
    TAKE(q, H * M, double);
    TAKE(Qg, H * k * kp, double);
    TAKE(sc, sx, double);
    TAKE(factor, H * m * wide, double);
    TAKE(base, H * m * wide, double);
    TAKE(count, H + 1, int);
    TAKE(none, H + 1, int);
    TAKE(act, (H + 1) * m, int);
    TAKE(V, (H + 1) * (ng + m) * sx, double);
    TAKE(X, (ng + m) * sx, double);
    TAKE(W, m * sx, double);
    TAKE(G0, kp, double);
    TAKE(z0, M * mb, double);
    TAKE(last, mp, double);
    TAKE(plan, hk, double);
    TAKE(lin, hm, double);
    TAKE(carry, hk, double);
    TAKE(c, hm, double);
    TAKE(cap, hm, double);
    TAKE(ceff, hm, double);
    TAKE(rate, mp, double);
    TAKE(gmax, hk, double);
    TAKE(p1, hk, double);
    TAKE(p2, hk, double);
    const int hr = 2 * hm + hk, n = 5 * hm + 3 * hk;
    TAKE(u, hr, double);
    TAKE(y, hr, double);
    TAKE(w, hr, double);
    TAKE(yh, hr, double);
    TAKE(du, hr, double);
    TAKE(y0, hr, double);
    TAKE(keep, hr, double);
    TAKE(keep_y, hr, double);
    TAKE(row, hr, double);
    TAKE(z, H * M * mb, double);
    TAKE(grad, hm, double);
    TAKE(nu, hm, double);
    TAKE(best, hm, double);
    TAKE(trial, hm, double);
    TAKE(plan0, hm, double);
    TAKE(t, hm + hk, double);
    TAKE(s, n, double);
    TAKE(l, n, double);
    TAKE(ds, n, double);
    TAKE(dl, n, double);
    TAKE(si, n, double);
    TAKE(D, n, double);
    TAKE(q3, n, double);
    TAKE(dt, hm + hk, double);
    TAKE(top, hm, double);
    TAKE(limit, hm, double);
    TAKE(edge, hk, double);
    TAKE(pin, hm, double);
    TAKE(A, hm + hk, double);
    TAKE(B, hm + hk, double);
    TAKE(x, sx + 4, double);
    TAKE(d, mp, double);
    TAKE(d0, mp, double);
    TAKE(pi, sx + 4, double);
    TAKE(regime, hr, signed char);
#undef TAKE
    return used;
}

size_t cw_mpc_bytes(const cw_mpc_dims *dims) { return layout(NULL, NULL, dims); }

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static ALWAYS void fill(double *to, double value, const int n) {
    for (int b = 0; b < n; b++) to[b] = value;
}

static ALWAYS void add(double *to, const double *from, const double f, const int n) {
    for (int b = 0; b < n; b += LANES) TO(to, b) += f * AT(from, b);
}

/* to += sum of f[r] times row r. */
static ALWAYS void gather(double *to, const double *f, const double *rows, const int count, const int stride, const int n) {
    int b = 0;
#if LANES == 4
    for (; b + 12 <= n; b += 12) {
        vec s0 = AT(to, b), s1 = AT(to, b + 4), s2 = AT(to, b + 8);
        for (int r = 0; r < count; r++) {
            const double *row = rows + r * stride + b;
            s0 += f[r] * AT(row, 0), s1 += f[r] * AT(row, 4), s2 += f[r] * AT(row, 8);
        }
        TO(to, b) = s0, TO(to, b + 4) = s1, TO(to, b + 8) = s2;
    }
#endif
    for (; b < n; b += LANES) {
        vec sum = AT(to, b);
        for (int r = 0; r < count; r++) sum += f[r] * AT(rows + r * stride, b);
        TO(to, b) = sum;
    }
}

/* Add to one number of a row; as a vector where the row is read as vectors next, which then need not wait. */
static ALWAYS void bump(double *row, const int at, const double f) {
#if LANES == 4
    static const double unit[4][4] = {{1.0, 0.0, 0.0, 0.0}, {0.0, 1.0, 0.0, 0.0}, {0.0, 0.0, 1.0, 0.0}, {0.0, 0.0, 0.0, 1.0}};
    TO(row, at & ~3) += f * AT(unit[at & 3], 0);
#else
    row[at] += f;
#endif
}

static ALWAYS double dot(const double *x, const double *y, const int n) {
#if LANES == 4
    vec sum = AT(x, 0) * AT(y, 0);
    for (int b = 4; b < n; b += 4) sum += AT(x, b) * AT(y, b);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
#else
    double s[4];
    for (int i = 0; i < 4; i++) s[i] = x[i] * y[i];
    for (int b = 4; b < n; b++) s[b & 3] += x[b] * y[b];
    return (s[0] + s[1]) + (s[2] + s[3]);
#endif
}

static double larger(double a, double b) { return a > b ? a : b; }

static double excess(double value, double cap) {
    double over = fabs(value) - cap;
    return over > 0.0 ? over : 0.0;
}

/* ---- the kernel: (P + A' diag(w) A) d = -r by a Riccati recursion ------------------------------------------------ */

/* to += Gamma's: - E' of the gaps, rho L of the impact states, 1 of the trades before that the slice after asks for. */
static ALWAYS void through(const cw_mpc *p, const double *s, double *to, int count, const int *act, SIZES) {
    LAYOUT;
    if (p->plain) add(to, s, -1.0, mp);
    else
        for (int e = 0; e < k; e++) add(to, p->E + e * mp, -s[e], mp);
    if (even) gather(to, s + kb, p->L, m, mp, mp);
    else gather(to, s + kb, p->L, M * m, mp, mp);
    if (!even)
        for (int c = 0; c < count; c++) to[act[c]] += s[ng + c];
    else if (count > 0) add(to, s + ng, 1.0, mp);
}

/* One slice: from the value V after it, its factor F = [U | Y] and the value before it. */
static ALWAYS int slice(cw_mpc *p, int t, const double *w, const double *V, int after, const int *act_after, double *F,
                        double *value, int now, const int *act, SIZES) {
    LAYOUT;
    const double *sc = p->sc, *wh = w + t * mp, *wr = wh + p->hm, *wG = w + 2 * p->hm + t * kp;
    const double *Qg = p->Qg + t * (k * kp);
    const int deep = UP(ng + after), span = UP(ng + now), body = UP(ng);
    double *X = p->X, *W = p->W;
    for (int a = 0; a < ng + after; a++)
        for (int b = 0; b < deep; b += LANES) TO(X + a * sx, b) = AT(V + a * sx, b);
    for (int e = 0; e < k; e++) {
        add(X + e * sx, Qg + e * kp, 1.0, kp);
        bump(X + e * sx, e, wG[e]);
    }
    for (int j = 0; j < M; j++)
        for (int i = 0; i < m; i++) bump(X + (kb + j * mb + i) * sx, kb + j * mb + i, p->q[t * M + j]);
    /* rows of Gamma'V */
    for (int i = 0; i < m; i++) {
        double *row = W + i * sx;
        const int *at = p->at + p->from[i];
        const double *g = p->value + p->from[i];
        const int n = p->from[i + 1] - p->from[i];
        int own = -1, b = 0;
        for (int c = 0; c < after; c++) own = act_after[c] == i ? ng + c : own;
#if LANES == 4
        for (; b + 12 <= deep; b += 12) {
            vec s0 = {0}, s1 = {0}, s2 = {0};
            for (int c = 0; c < n; c++) {
                const double *from = X + at[c] * sx + b;
                s0 += g[c] * AT(from, 0), s1 += g[c] * AT(from, 4), s2 += g[c] * AT(from, 8);
            }
            TO(row, b) = s0, TO(row, b + 4) = s1, TO(row, b + 8) = s2;
        }
        for (; b + 8 <= deep; b += 8) {
            vec s0 = {0}, s1 = {0};
            for (int c = 0; c < n; c++) {
                const double *from = X + at[c] * sx + b;
                s0 += g[c] * AT(from, 0), s1 += g[c] * AT(from, 4);
            }
            TO(row, b) = s0, TO(row, b + 4) = s1;
        }
#endif
        for (; b < deep; b += LANES) {
            vec s0 = {0};
            for (int c = 0; c < n; c++) s0 += g[c] * AT(X + at[c] * sx, b);
            TO(row, b) = s0;
        }
        if (own >= 0) add(row, X + own * sx, 1.0, deep);
    }
    /* [R | N] */
    for (int i = 0; i < m; i++) {
        double *row = F + i * wide, *N = row + mp, *from = W + i * sx;
        for (int b = 0; b < mp; b += LANES) TO(row, b) = AT(p->lam + i * mp, b);
        through(p, from, row, after, act_after, m, k, M);
        bump(row, i, wh[i] + wr[i]);
        for (int b = 0; b < body; b += LANES) TO(N, b) = AT(from, b) * AT(sc, b);
        for (int b = body; b < span; b += LANES) TO(N, b) = AT(sc, b) * 0.0;
    }
    for (int c = 0; c < now; c++) bump(F + act[c] * wide + mp, ng + c, -wr[act[c]]);
    /* R = U'U, N = U'Y */
    for (int j = 0; j < m; j++) {
        double *row = F + j * wide;
        const double pivot = row[j];
        if (!(pivot > 0.0)) return 0;
        const double inverse = 1.0 / pivot, root = sqrt(inverse);
        for (int i = j + 1; i < m; i++) {
            const double f = -row[i] * inverse;
            double *other = F + i * wide;
            for (int b = i & ~3; b < mp + span; b += LANES) TO(other, b) += f * AT(row, b);
        }
        for (int b = j & ~3; b < mp + span; b += LANES) TO(row, b) *= root;
        row[j] = root; /* the reciprocal of the diagonal is what is needed */
    }
    /* the value before: S V S + blk(0, 0, wr) - Y'Y */
    const double *Y = F + mp;
    int a = 0;
#if LANES == 4
    for (; a + 4 <= ng + now; a += 4) {
        int b = 0;
        for (; b + 8 <= span; b += 8) {
            vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, r0 = {0}, r1 = {0}, r2 = {0}, r3 = {0};
            for (int i = 0; i < m; i++) {
                const double *y = Y + i * wide;
                const vec f = AT(y, b), g = AT(y, b + 4);
                s0 += y[a] * f, s1 += y[a + 1] * f, s2 += y[a + 2] * f, s3 += y[a + 3] * f;
                r0 += y[a] * g, r1 += y[a + 1] * g, r2 += y[a + 2] * g, r3 += y[a + 3] * g;
            }
            double *to = value + a * sx + b;
            TO(to, 0) = -s0, TO(to, sx) = -s1, TO(to, 2 * sx) = -s2, TO(to, 3 * sx) = -s3, to += 4;
            TO(to, 0) = -r0, TO(to, sx) = -r1, TO(to, 2 * sx) = -r2, TO(to, 3 * sx) = -r3;
        }
        for (; b < span; b += 4) {
            vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
            for (int i = 0; i < m; i++) {
                const double *y = Y + i * wide;
                const vec f = AT(y, b);
                s0 += y[a] * f, s1 += y[a + 1] * f, s2 += y[a + 2] * f, s3 += y[a + 3] * f;
            }
            double *to = value + a * sx + b;
            TO(to, 0) = -s0, TO(to, sx) = -s1, TO(to, 2 * sx) = -s2, TO(to, 3 * sx) = -s3;
        }
    }
#endif
    for (; a < ng + now; a++)
        for (int b = 0; b < span; b += LANES) {
            vec sum = {0};
            for (int i = 0; i < m; i++) sum += Y[i * wide + a] * AT(Y + i * wide, b);
            TO(value + a * sx, b) = -sum;
        }
    for (a = 0; a < ng; a++) {
        const double f = sc[a];
        for (int b = 0; b < body; b += LANES) TO(value + a * sx, b) += (f * AT(sc, b)) * AT(X + a * sx, b);
    }
    for (int c = 0; c < now; c++) bump(value + (ng + c) * sx, ng + c, wr[act[c]]);
    return 1;
}

/* The same where m = k is two or three and there is one mode: the state is in vectors of four, G, z and all trades before
   or none, and the gains K = U^-1 Y stand beside Y. */
static ALWAYS int slice_even(cw_mpc *p, int t, const double *w, const double *V, const int after, double *F,
                             double *value, const int now, const int m) {
    const int sx = 12, wide = 28, deep = after ? 12 : 8, span = now ? 12 : 8;
    const double *wh = w + t * 4, *wr = wh + p->hm, *wG = w + 2 * p->hm + t * 4, *Qg = p->Qg + t * (m * 4);
    const double q = p->q[t], rho = p->rho[0];
    double X[6][12], W[3][12], R[3][4], N[3][12];
    for (int i = 0; i < m; i++) {
        for (int b = 0; b < deep; b += LANES) TO(X[i], b) = AT(V + i * sx, b), TO(X[m + i], b) = AT(V + (4 + i) * sx, b);
        add(X[i], Qg + i * 4, 1.0, 4);
        bump(X[i], i, wG[i]);
        bump(X[m + i], 4 + i, q);
    }
    for (int i = 0; i < m; i++) {
        for (int b = 0; b < deep; b += LANES) {
            vec sum;
            if (p->plain) {
                sum = -AT(X[i], b);
            } else {
                sum = -p->E[i] * AT(X[0], b);
                for (int e = 1; e < m; e++) sum -= p->E[e * 4 + i] * AT(X[e], b);
            }
            for (int c = 0; c < m; c++) sum += p->L[c * 4 + i] * AT(X[m + c], b);
            if (after) sum += AT(V + (8 + i) * sx, b);
            TO(W[i], b) = sum;
        }
        for (int b = 0; b < 4; b += LANES) {
            vec sum = AT(p->lam + i * 4, b);
            if (p->plain) sum -= AT(W[i], b);
            else
                for (int e = 0; e < m; e++) sum -= W[i][e] * AT(p->E + e * 4, b);
            for (int c = 0; c < m; c++) sum += W[i][4 + c] * AT(p->L + c * 4, b);
            if (after) sum += AT(W[i], 8 + b);
            TO(R[i], b) = sum;
            TO(N[i], b) = AT(W[i], b), TO(N[i], 4 + b) = rho * AT(W[i], 4 + b);
            TO(N[i], 8 + b) = AT(W[i], b) * 0.0;
        }
        if (now) bump(N[i], 8 + i, -wr[i]);
    }
    double root[3], U[3][3];
    for (int i = 0; i < m; i++) {
        for (int j = i; j < m; j++) U[i][j] = R[i][j];
        U[i][i] += wh[i] + wr[i];
    }
    for (int j = 0; j < m; j++) {
        if (!(U[j][j] > 0.0)) return 0;
        const double inverse = 1.0 / U[j][j];
        root[j] = sqrt(inverse);
        for (int i = j + 1; i < m; i++) {
            const double f = U[j][i] * inverse;
            for (int c = i; c < m; c++) U[i][c] -= f * U[j][c];
            for (int b = 0; b < span; b += LANES) TO(N[i], b) -= f * AT(N[j], b);
        }
    }
    for (int j = 0; j < m; j++) {
        double *row = F + j * wide;
        for (int b = 0; b < 12; b += LANES) TO(row, 4 + b) = TO(N[j], b) = root[j] * AT(N[j], b);
        row[j] = root[j];
        for (int i = j + 1; i < m; i++) row[i] = U[j][i] * root[j];
    }
    for (int j = m - 1; j >= 0; j--) {
        double *K = F + j * wide + 16;
        for (int b = 0; b < 12; b += LANES) {
            vec sum = AT(N[j], b);
            for (int i = j + 1; i < m; i++) sum -= (U[j][i] * root[j]) * AT(F + i * wide + 16, b);
            TO(K, b) = root[j] * sum;
        }
    }
    for (int part = 0; part < (now ? 3 : 2); part++)
        for (int i = 0; i < m; i++) {
            double *to = value + (4 * part + i) * sx;
            for (int b = 0; b < span; b += LANES) {
                vec sum = N[0][4 * part + i] * AT(N[0], b);
                for (int j = 1; j < m; j++) sum += N[j][4 * part + i] * AT(N[j], b);
                TO(to, b) = -sum;
            }
            if (part < 2)
                for (int b = 0; b < 4; b += LANES) {
                    TO(to, b) += (part ? rho : 1.0) * AT(X[m * part + i], b);
                    TO(to, 4 + b) += (part ? rho * rho : rho) * AT(X[m * part + i], 4 + b);
                }
            else bump(to, 8 + i, wr[i]);
        }
    return 1;
}

/* Of slice t: the part of the gradient of f + A'y that its trades see at once into g, the rest into the costates s. */
static ALWAYS void drive(const cw_mpc *p, int t, const double *u, const double *y, double *g, double *s, SIZES) {
    LAYOUT;
    const double *uh = u + t * mp, *yh = y + t * mp, *yr = yh + p->hm, *lin = p->lin + t * mp;
    const double *uG = u + 2 * p->hm + t * kp, *yG = y + 2 * p->hm + t * kp, *carry = p->carry + t * kp;
    const double *z = p->z + t * (M * mb);
    if (t + 1 < p->H)
        for (int b = 0; b < mp; b += LANES) TO(g, b) = AT(lin, b) + AT(yh, b) + AT(yr, b) - AT(yr + mp, b);
    else
        for (int b = 0; b < mp; b += LANES) TO(g, b) = AT(lin, b) + AT(yh, b) + AT(yr, b);
    gather(g, uh, p->lam, m, mp, mp);
    for (int b = 0; b < kp; b += LANES) TO(s, b) += AT(carry, b) + AT(yG, b);
    gather(s, uG, p->Qg + t * (k * kp), k, kp, kp);
    if (even)
        add(s + kb, z, p->q[t], mb);
    else
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++) s[kb + j * mb + b] += p->q[t * M + j] * z[j * mb + b];
}

/* The way back: factors of the slices before `keep`, those from it on being there; the gradient of f + A'y at the trades
   in p->u, whose states are rolled, or r where it is given; and nu of every slice. */
static ALWAYS int back_sized(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *count,
                             int keep, SIZES) {
    LAYOUT;
    const int H = p->H;
    const double *sc = p->sc;
    double *s = p->pi;
    fill(s, 0.0, sx + 4);
    for (int t = H - 1; t >= 0; t--) {
        double *Ft = F + t * (m * wide), *nu = p->nu + t * mp;
        int *act = p->act + t * m;
        const int after = t + 1 < H ? count[t + 1] : 0;
        if (t < keep) {
            const double *wr = w + p->hm + t * mp;
            int now = 0;
            for (int i = 0; i < m; i++)
                if (wr[i] != 0.0) act[now++] = i;
            if (even && now > 0) now = m;
            count[t] = now;
            if (even) {
                const double *V = p->V + (t + 1) * ((ng + m) * sx);
                double *value = p->V + t * ((ng + m) * sx);
                const int good = after ? (now ? slice_even(p, t, w, V, 1, Ft, value, 1, m)
                                              : slice_even(p, t, w, V, 1, Ft, value, 0, m))
                                       : (now ? slice_even(p, t, w, V, 0, Ft, value, 1, m)
                                              : slice_even(p, t, w, V, 0, Ft, value, 0, m));
                if (!good) return 0;
            } else if (!slice(p, t, w, p->V + (t + 1) * ((ng + m) * sx), after, act + m, Ft, p->V + t * ((ng + m) * sx), now,
                       act, m, k, M))
                return 0;
        }
        if (r != NULL)
            for (int b = 0; b < mp; b += LANES) TO(nu, b) = AT(r + t * mp, b);
        else drive(p, t, p->u, y, nu, s, m, k, M);
        through(p, s, nu, after, act + m, m, k, M);
        for (int i = 0; i < m; i++) {
            nu[i] *= Ft[i * wide + i];
            for (int j = i + 1; j < m; j++) nu[j] -= Ft[i * wide + j] * nu[i];
        }
        const int span = UP(ng + count[t]);
        for (int b = 0; b < span; b += LANES) {
            vec sum = AT(sc, b) * AT(s, b);
            for (int i = 0; i < m; i++) sum -= nu[i] * AT(Ft + i * wide + mp, b);
            TO(s, b) = sum;
        }
        if (even)
            for (int i = m - 1; i >= 0; i--) {
                for (int j = i + 1; j < m; j++) nu[i] -= Ft[i * wide + j] * nu[j];
                nu[i] *= Ft[i * wide + i];
            }
    }
    return 1;
}

/* x <- S (x + what the trades d do to it), gaps and impact states. */
static ALWAYS void push(const cw_mpc *p, const double *d, double *x, SIZES) {
    LAYOUT;
    for (int j = 0; j < M; j++) gather(x + kb + j * mb, d, p->R + j * mb * mp, m, mp, mp);
    for (int b = 0; b < UP(ng); b += LANES) TO(x, b) *= AT(p->sc, b);
    if (p->plain)
        for (int b = 0; b < mp; b += LANES) TO(x, b) -= AT(d, b);
    else
        for (int i = 0; i < m; i++) add(x, p->F + i * kp, -d[i], kp);
}

/* One slice of the way forth: the step d of its trades, and what it does to the state x. */
static ALWAYS void forth_slice(const cw_mpc *p, int t, const double *F, int count, const double *before, double *x,
                               double *d, SIZES) {
    LAYOUT;
    const double *Ft = F + t * (m * wide), *nu = p->nu + t * mp;
    const int *act = p->act + t * m;
    if (even) {
        for (int b = 0; b < 4; b += LANES) TO(x, ng + b) = AT(before, b);
        for (int i = 0; i < m; i++) d[i] = -(nu[i] + dot(Ft + i * wide + mp + sx, x, sx));
    } else {
        for (int b = UP(ng); b < UP(ng + count); b += LANES) TO(x, b) = AT(p->sc, b) * 0.0;
        for (int c = 0; c < count; c++) x[ng + c] = before[act[c]];
        for (int i = 0; i < m; i++) d[i] = nu[i] + dot(Ft + i * wide + mp, x, UP(ng + count));
        for (int i = m - 1; i >= 0; i--) {
            const double *U = Ft + i * wide;
            double sum = d[i];
            for (int j = m - 1; j > i; j--) sum += U[j] * d[j];
            d[i] = -sum * U[i];
        }
    }
    push(p, d, x, m, k, M);
}

static ALWAYS void forth_sized(cw_mpc *p, const double *F, const int *count, double *du, SIZES) {
    LAYOUT;
    const int H = p->H;
    double *x = p->x;
    const double *before = p->d0;
    fill(x, 0.0, sx + 4);
    fill(p->d0, 0.0, mp);
    for (int t = 0; t < H; t++) {
        double *d = du + t * mp, *dr = d + p->hm, *dG = du + 2 * p->hm + t * kp;
        forth_slice(p, t, F, count[t], before, x, d, m, k, M);
        for (int i = 0; i < m; i++) dr[i] = d[i] - before[i];
        for (int e = 0; e < k; e++) dG[e] = x[e];
        before = d;
    }
}

/* The same for one instrument on one exposure with one mode: a slice of the factor is 1/R and the gains on gap, impact
   state and trade before; a value is its six numbers. */
static int back_one(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int keep) {
    const int H = p->H;
    const double E = p->E[0], rho = p->rho[0], g = p->L[0], lam = p->lam[0], rho2 = rho * rho;
    double s = 0.0, sz = 0.0, sp = 0.0, after = 0.0;
    double GG = 0.0, Gz = 0.0, Gp = 0.0, zz = 0.0, zp = 0.0, pp = 0.0;
    if (keep < H) {
        const double *V = p->V + 6 * keep;
        GG = V[0], Gz = V[1], Gp = V[2], zz = V[3], zp = V[4], pp = V[5];
    }
    for (int t = H - 1; t >= 0; t--) {
        double *Ft = F + 4 * t, c;
        const double Q = p->Qg[t], q = p->q[t];
        if (t < keep) {
            double *V = p->V + 6 * t;
            const double wr = w[H + t];
            GG += Q + w[2 * H + t];
            zz += q;
            const double WG = g * Gz - E * GG + Gp, Wz = g * zz - E * Gz + zp, Wp = g * zp - E * Gp + pp;
            const double rest = (lam + w[t]) + ((g * Wz - E * WG) + Wp), R = rest + wr;
            if (!(R > 0.0)) return 0;
            const double inverse = 1.0 / R, Nz = rho * Wz, KG = WG * inverse, Kz = Nz * inverse, Kr = wr * inverse;
            V[0] = GG = GG - WG * KG;
            V[1] = Gz = rho * Gz - WG * Kz;
            V[2] = Gp = wr * KG;
            V[3] = zz = rho2 * zz - Nz * Kz;
            V[4] = zp = wr * Kz;
            V[5] = pp = rest * Kr;
            Ft[0] = inverse, Ft[1] = KG, Ft[2] = Kz, Ft[3] = -Kr;
        }
        if (r != NULL) {
            c = r[t];
        } else {
            s += (p->carry[t] + y[2 * H + t]) + Q * p->u[2 * H + t];
            sz += q * p->z[t];
            c = (p->lin[t] + y[t] + y[H + t] - after) + lam * p->u[t];
            after = y[H + t];
        }
        c += (g * sz - E * s) + sp;
        p->nu[t] = c * Ft[0];
        s -= Ft[1] * c;
        sz = rho * sz - Ft[2] * c;
        sp = -Ft[3] * c;
    }
    return 1;
}

static ALWAYS double forth_slice_one(const cw_mpc *p, int t, const double *F, const double before, double *x) {
    const double *Ft = F + 4 * t;
    const double h = -((p->nu[t] + Ft[1] * x[0]) + (Ft[2] * x[1] + Ft[3] * before));
    x[0] -= p->E[0] * h;
    x[1] = p->rho[0] * x[1] + p->L[0] * h;
    return h;
}

static void forth_one(cw_mpc *p, const double *F, double *du) {
    const int H = p->H;
    double x[2] = {0.0, 0.0}, before = 0.0;
    for (int t = 0; t < H; t++) {
        const double h = forth_slice_one(p, t, F, before, x);
        du[t] = h, du[H + t] = h - before, du[2 * H + t] = x[0];
        before = h;
    }
}

CLONES static int back_two(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *n, int keep) {
    return back_sized(p, w, y, r, F, n, keep, 2, 2, 1);
}

CLONES static int back_three(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *n, int keep) {
    return back_sized(p, w, y, r, F, n, keep, 3, 3, 1);
}

CLONES static int back_any(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *n, int keep) {
    return back_sized(p, w, y, r, F, n, keep, p->m, p->k, p->M);
}

static int back(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *count, int keep) {
    switch (p->kind) {
    case ONE: return back_one(p, w, y, r, F, keep);
    case TWO: return back_two(p, w, y, r, F, count, keep);
    case THREE: return back_three(p, w, y, r, F, count, keep);
    default: return back_any(p, w, y, r, F, count, keep);
    }
}

CLONES static void forth_two(cw_mpc *p, const double *F, const int *count, double *du) {
    forth_sized(p, F, count, du, 2, 2, 1);
}

CLONES static void forth_three(cw_mpc *p, const double *F, const int *count, double *du) {
    forth_sized(p, F, count, du, 3, 3, 1);
}

CLONES static void forth_any(cw_mpc *p, const double *F, const int *count, double *du) {
    forth_sized(p, F, count, du, p->m, p->k, p->M);
}

static void forth(cw_mpc *p, const double *F, const int *count, double *du) {
    switch (p->kind) {
    case ONE: forth_one(p, F, du); break;
    case TWO: forth_two(p, F, count, du); break;
    case THREE: forth_three(p, F, count, du); break;
    default: forth_any(p, F, count, du);
    }
}

/* ---- the program ------------------------------------------------------------------------------------------------ */

/* Changes, gaps and impact states of the trades in u. */
static ALWAYS void roll_sized(cw_mpc *p, double *u, SIZES) {
    LAYOUT;
    const int H = p->H;
    const double *before = p->last;
    if (one) {
        double G = p->G0[0], z = p->z0[0], last = p->last[0];
        for (int t = 0; t < H; t++) {
            const double h = u[t];
            u[H + t] = h - last;
            u[2 * H + t] = G = (G + p->plan[t]) - p->E[0] * h;
            p->z[t] = z = p->rho[0] * z + p->L[0] * h;
            last = h;
        }
        return;
    }
    double *x = p->x;
    fill(x, 0.0, sx + 4);
    for (int e = 0; e < k; e++) x[e] = p->G0[e];
    for (int b = 0; b < M * mb; b++) x[kb + b] = p->z0[b];
    for (int t = 0; t < H; t++) {
        const double *h = u + t * mp;
        double *r = u + p->hm + t * mp, *G = u + 2 * p->hm + t * kp, *z = p->z + t * (M * mb);
        for (int b = 0; b < mp; b += LANES) TO(r, b) = AT(h, b) - AT(before, b);
        add(x, p->plan + t * kp, 1.0, kp);
        push(p, h, x, m, k, M);
        for (int e = 0; e < k; e++) G[e] = x[e];
        for (int b = 0; b < M * mb; b++) z[b] = x[kb + b];
        before = h;
    }
}

/* Gradient of f + A'y at the trades in u, whose states are rolled. */
static ALWAYS void gradient_sized(cw_mpc *p, const double *u, const double *y, double *grad, SIZES) {
    LAYOUT;
    const int H = p->H;
    if (one) {
        double s = 0.0, sz = 0.0, after = 0.0;
        for (int t = H - 1; t >= 0; t--) {
            s += (p->carry[t] + y[2 * H + t]) + p->Qg[t] * u[2 * H + t];
            sz += p->q[t] * p->z[t];
            grad[t] = ((p->lin[t] + y[t] + y[H + t] - after) + p->lam[0] * u[t]) + (p->L[0] * sz - p->E[0] * s);
            sz *= p->rho[0];
            after = y[H + t];
        }
        return;
    }
    double *s = p->pi;
    fill(s, 0.0, sx + 4);
    for (int t = H - 1; t >= 0; t--) {
        double *g = grad + t * mp;
        drive(p, t, u, y, g, s, m, k, M);
        through(p, s, g, 0, NULL, m, k, M);
        for (int i = m; i < mp; i++) g[i] = 0.0;
        for (int b = 0; b < UP(ng); b += LANES) TO(s, b) *= AT(p->sc, b);
    }
}

/* Cost at u, whose states are rolled; *size is the sum of its absolute parts. */
static ALWAYS double objective_sized(const cw_mpc *p, const double *u, double *size, SIZES) {
    LAYOUT;
    const int H = p->H;
    double plus = 0.0, either = 0.0, scale = 0.0;
    for (int b = 0; b < M * mb; b++) either -= 0.5 * p->z0[b] * p->z0[b], scale += 0.5 * p->z0[b] * p->z0[b];
    for (int t = 0; t < H; t++) {
        const double *h = u + t * mp, *G = u + 2 * p->hm + t * kp, *z = p->z + t * (M * mb);
        const double *Qg = p->Qg + t * (k * kp);
        for (int i = 0; i < m; i++) {
            double sum = 0.0;
            for (int b = 0; b < m; b++) sum += p->lam[i * mp + b] * h[b];
            plus += p->c[t * mp + i] * fabs(h[i]) + 0.5 * h[i] * sum;
            const double v = p->lin[t * mp + i] * h[i];
            either += v, scale += fabs(v);
        }
        for (int j = 0; j < M; j++) {
            double sum = 0.0;
            for (int b = 0; b < m; b++) sum += z[j * mb + b] * z[j * mb + b];
            plus += 0.5 * p->q[t * M + j] * sum;
        }
        for (int e = 0; e < k; e++) {
            double sum = 0.0, over = excess(G[e], p->gmax[t * kp + e]);
            for (int f = 0; f < k; f++) sum += Qg[e * kp + f] * G[f];
            plus += 0.5 * G[e] * sum;
            if (over > 0.0) plus += over * (p->p1[t * kp + e] + 0.5 * p->p2[t * kp + e] * over);
            const double v = p->carry[t * kp + e] * G[e];
            either += v, scale += fabs(v);
        }
    }
    *size = fabs(plus) + scale;
    return plus + either;
}

CLONES static void roll_any(cw_mpc *p, double *u) { roll_sized(p, u, p->m, p->k, p->M); }
CLONES static void roll_three(cw_mpc *p, double *u) { roll_sized(p, u, 3, 3, 1); }
CLONES static void gradient_any(cw_mpc *p, const double *u, const double *y, double *grad) {
    gradient_sized(p, u, y, grad, p->m, p->k, p->M);
}
CLONES static void gradient_three(cw_mpc *p, const double *u, const double *y, double *grad) {
    gradient_sized(p, u, y, grad, 3, 3, 1);
}

static void roll(cw_mpc *p, double *u) {
    if (p->kind == ONE) roll_sized(p, u, 1, 1, 1);
    else if (p->kind == THREE) roll_three(p, u);
    else roll_any(p, u);
}

static void gradient(cw_mpc *p, const double *u, const double *y, double *grad) {
    if (p->kind == ONE) gradient_sized(p, u, y, grad, 1, 1, 1);
    else if (p->kind == THREE) gradient_three(p, u, y, grad);
    else gradient_any(p, u, y, grad);
}

static double objective(const cw_mpc *p, const double *u, double *size) {
    return p->kind == ONE     ? objective_sized(p, u, size, 1, 1, 1)
           : p->kind == THREE ? objective_sized(p, u, size, 3, 3, 1)
                              : objective_sized(p, u, size, p->m, p->k, p->M);
}

/* A bound on cost(u) less the least cost, from any prices y: Fenchel's inequality on the rows, half |residual|^2 in the
   norm of P^-1 on the rest, or over the least curvature where that is no more than `slack`. */
static double proven(cw_mpc *p, const double *u, const double *y, double slack) {
    const int hm = p->hm, hk = p->hk, mp = p->mp;
    double gap = 0.0;
    double *out = p->yh;
    for (int i = 0; i < hm; i++) {
        const double c = p->c[i], cap = p->ceff[i];
        double v = y[i];
        if (!(cap < BIG)) v = v > c ? c : v < -c ? -c : v;
        const double beyond = excess(v, c);
        gap += c * fabs(u[i]) + (beyond > 0.0 ? cap * beyond : 0.0) - u[i] * v;
        out[i] = v;
    }
    for (int i = 0; i < mp; i++) {
        const double d = p->rate[i];
        for (int a = hm + i; a < 2 * hm; a += mp) {
            const double q = d < BIG ? y[a] : 0.0;
            if (q != 0.0) gap += d * fabs(q) - u[a] * q;
            out[a] = q;
        }
    }
    for (int i = 0; i < hk; i++) {
        const double g = p->gmax[i], p1 = p->p1[i], p2 = p->p2[i], G = u[2 * hm + i];
        double v = y[2 * hm + i];
        if (!(g < BIG)) {
            out[2 * hm + i] = 0.0;
            continue;
        }
        if (!(p2 > 0.0)) v = v > p1 ? p1 : v < -p1 ? -p1 : v;
        const double over = excess(G, g), beyond = excess(v, p1);
        gap += over * (p1 + 0.5 * p2 * over) + g * fabs(v) - G * v;
        if (beyond > 0.0) gap += 0.5 * beyond * beyond / p2;
        out[2 * hm + i] = v;
    }
    gradient(p, u, out, p->grad);
    if (p->soft > 0.0) {
        double square = 0.0;
        for (int i = 0; i < hm; i++) square += p->grad[i] * p->grad[i];
        if (0.5 * square <= slack * p->soft) return gap + 0.5 * square / p->soft;
    }
    (void)back(p, NULL, NULL, p->grad, p->base, p->none, 0);
    forth(p, p->base, p->none, p->du);
    double rest = 0.0;
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++) rest -= p->grad[t * mp + i] * p->du[t * mp + i];
    return gap + 0.5 * rest;
}

/* before + step, or its neighbour towards `before` where the difference, as computed, would be above step >= 0. */
static ALWAYS double beside(double before, double step) {
    double v = before + step;
    while (v - before > step) v = nextafter(v, before);
    return v;
}

/* The nearest trades, slice after slice, that keep cap and rate, to the last bit. From every trade within ceff some
   trade within the next ceff can be reached, so that what the rate allows, cut by the cap, is allowed by both. */
static void clip(const cw_mpc *p, const double *u, double *h) {
    const int mp = p->mp, hm = p->hm;
    for (int i = 0; i < p->m; i++) {
        const double d = p->rate[i];
        double before = p->last[i];
        if (d < BIG)
            for (int a = i; a < hm; a += mp) {
                double v = u[a], cap = p->ceff[a];
                if (fabs(v) < TINY) v = 0.0;
                if (!(v - before <= d)) {
                    const double high = beside(before, d);
                    v = v > high ? high : v;
                }
                if (!(before - v <= d)) {
                    const double low = -beside(-before, d);
                    v = v < low ? low : v;
                }
                v = v < -cap ? -cap : v;
                h[a] = before = v > cap ? cap : v;
            }
        else
            for (int a = i; a < hm; a += mp) {
                double v = u[a], cap = p->ceff[a];
                if (fabs(v) < TINY) v = 0.0;
                v = v < -cap ? -cap : v;
                h[a] = v > cap ? cap : v;
            }
    }
}

/* ---- regime Newton ---------------------------------------------------------------------------------------------- */

/* Weights and prices of the rows of a slice as their regimes have them; whether a weight is another than before. */
static ALWAYS int weigh_slice(cw_mpc *p, int t, SIZES) {
    LAYOUT;
    const int hm = p->hm;
    int other = 0;
    for (int i = 0; i < m; i++) {
        const int a = t * mp + i, r = hm + a, g = p->regime[a], side = p->regime[r];
        const double cap = p->ceff[a];
        double v = 0.0, x = g * p->c[a];
        if (g != 1 && g != -1) {
            v = cap <= SHUT ? SHUT_PIN : PIN;
            x = p->y[a] + v * (p->u[a] - (g == 0 ? 0.0 : g > 0 ? cap : -cap));
        }
        other |= v != p->w[a];
        p->w[a] = v, p->yh[a] = x;
        v = x = 0.0;
        if (side != 0) v = PIN, x = p->y[r] + PIN * (p->u[r] - side * p->rate[i]);
        other |= v != p->w[r];
        p->w[r] = v, p->yh[r] = x;
    }
    for (int e = 0; e < k; e++) {
        const int a = t * kp + e, r = 2 * hm + a, g = p->regime[r];
        double v = 0.0, x = 0.0;
        if (g != 0) {
            const double sign = g > 0 ? 1.0 : -1.0, off = p->u[r] - sign * p->gmax[a];
            if (g == 1 || g == -1) v = PIN, x = p->y[r] + PIN * off;
            else v = p->p2[a], x = sign * p->p1[a] + v * off;
        }
        other |= v != p->w[r];
        p->w[r] = v, p->yh[r] = x;
    }
    return other;
}

/* Regimes of a slice by the signs of rows and prices; how many changed, and how far pins are from their targets. */
static ALWAYS int rejudge_slice(cw_mpc *p, int t, double *off, SIZES) {
    LAYOUT;
    const int hm = p->hm;
    int changes = 0;
    double far = *off;
    for (int i = 0; i < m; i++) {
        const int a = t * mp + i, r = hm + a;
        const double u = p->u[a], y = p->y[a], cap = p->ceff[a], c = p->c[a], d = p->rate[i];
        const int old = p->regime[a];
        int g = old;
        double miss = 0.0;
        if (old == 1 || old == -1) {
            if (cap <= SHUT) g = 0;
            else if (u > cap) g = 2;
            else if (u < -cap) g = -2;
            else if (c > 0.0 && old * u < 0.0) g = 0;
        } else if (old == 0 || cap <= SHUT) {
            if (cap <= SHUT) g = 0;
            else if (y > c) g = 1;
            else if (y < -c) g = -1;
            if (g == 0) miss = fabs(u);
        } else {
            const int sign = old > 0 ? 1 : -1;
            if (sign * y < c) g = sign;
            else miss = fabs(u - sign * cap);
        }
        changes += g != old;
        p->regime[a] = (signed char)g;
        far = miss > far ? miss : far;
        if (d < BIG) {
            const double v = p->u[r];
            const int side = p->regime[r];
            g = side, miss = 0.0;
            if (side == 0) g = v > d ? 1 : v < -d ? -1 : 0;
            else if (side * p->y[r] < 0.0) g = 0;
            else miss = fabs(v - side * d);
            changes += g != side;
            p->regime[r] = (signed char)g;
            far = miss > far ? miss : far;
        } else {
            p->regime[r] = 0;
        }
    }
    for (int e = 0; e < k; e++) {
        const int a = t * kp + e, r = 2 * hm + a, old = p->regime[r], sign = old > 0 ? 1 : -1;
        const double edge = p->gmax[a], p1 = p->p1[a], p2 = p->p2[a], u = p->u[r];
        int g = old;
        double miss = 0.0;
        if (!(edge < BIG) || (p1 == 0.0 && p2 == 0.0)) {
            p->regime[r] = 0;
            continue;
        }
        if (old == 0) {
            if (u > edge) g = p1 > 0.0 ? 1 : 2;
            else if (u < -edge) g = p1 > 0.0 ? -1 : -2;
        } else if (old == 1 || old == -1) {
            if (sign * p->y[r] > p1) g = 2 * sign;
            else if (sign * p->y[r] < 0.0) g = 0;
            else miss = fabs(u - sign * edge);
        } else if (sign * u < edge) {
            g = p1 > 0.0 ? sign : 0;
        }
        changes += g != old;
        p->regime[r] = (signed char)g;
        far = miss > far ? miss : far;
    }
    *off = far;
    return changes;
}

typedef struct {
    int changes, keep; /* regimes that changed; the first slice from which on no weight did */
    double off;        /* how far pins are from their targets */
} sweep;

/* The way forth of a Newton step: trades, states and prices after it, slice by slice, and the regimes that they ask
   for, with their weights. */
static ALWAYS sweep step_sized(cw_mpc *p, SIZES) {
    LAYOUT;
    const int H = p->H, hm = p->hm;
    double near_x[2] = {0.0, 0.0}, near_d[1], was = 0.0;
    double *x = one ? near_x : p->x, *d = one ? near_d : p->d, *d0 = one ? &was : p->d0;
    sweep out = {0, 0, 0.0};
    if (!one) {
        fill(x, 0.0, sx + 4);
        fill(p->d, 0.0, mp);
        fill(p->d0, 0.0, mp);
    }
    for (int t = 0; t < H; t++) {
        double *u = p->u + t * mp, *y = p->y + t * mp, *z = p->z + t * (M * mb);
        const double *w = p->w + t * mp, *yh = p->yh + t * mp, *before = t > 0 ? u - mp : p->last;
        if (one) {
            d[0] = forth_slice_one(p, t, p->factor, was, x);
            u[0] += d[0], y[0] = yh[0] + w[0] * d[0];
            u[hm] = u[0] - before[0], y[hm] = yh[hm] + w[hm] * (d[0] - was);
            was = d[0];
        } else {
            forth_slice(p, t, p->factor, p->count[t], d0, x, d, m, k, M);
            for (int b = 0; b < mp; b += LANES) {
                const vec v = AT(d, b), v0 = AT(d0, b), now = AT(u, b) + v;
                TO(u, b) = now;
                TO(y, b) = AT(yh, b) + AT(w, b) * v;
                TO(u + hm, b) = now - AT(before, b);
                TO(y + hm, b) = AT(yh + hm, b) + AT(w + hm, b) * (v - v0);
                TO(d0, b) = v;
            }
        }
        const int o = 2 * hm + t * kp;
        for (int e = 0; e < k; e++) {
            p->u[o + e] += x[e];
            p->y[o + e] = p->yh[o + e] + p->w[o + e] * x[e];
        }
        for (int b = 0; b < M * mb; b++) z[b] += x[kb + b];
        out.changes += rejudge_slice(p, t, &out.off, m, k, M);
        if (weigh_slice(p, t, m, k, M)) out.keep = t + 1;
    }
    return out;
}

CLONES static sweep step_any(cw_mpc *p) { return step_sized(p, p->m, p->k, p->M); }
CLONES static sweep step_two(cw_mpc *p) { return step_sized(p, 2, 2, 1); }
CLONES static sweep step_three(cw_mpc *p) { return step_sized(p, 3, 3, 1); }
static sweep step_one(cw_mpc *p) { return step_sized(p, 1, 1, 1); }

static sweep step(cw_mpc *p) {
    return p->kind == ONE ? step_one(p) : p->kind == TWO ? step_two(p) : p->kind == THREE ? step_three(p) : step_any(p);
}

static void weigh(cw_mpc *p) {
    for (int t = 0; t < p->H; t++) (void)weigh_slice(p, t, p->m, p->k, p->M);
}

static double largest(const double *v, int count) {
    double most = 0.0;
    for (int i = 0; i < count; i++) {
        double a = fabs(v[i]);
        if (!(a <= most)) most = a; /* a NaN comes through */
    }
    return most;
}

/* Put trades that are pinned exactly where they are pinned: no dust is traded. */
static void snap(cw_mpc *p) {
    for (int i = 0; i < p->hm; i++) {
        const int g = p->regime[i];
        const double cap = p->ceff[i];
        p->u[i] = g == 0 ? 0.0 : g == 2 ? cap : g == -2 ? -cap : p->u[i];
    }
}

/* At most `runs` factorisations of Newton steps from u, y and regimes; 1 where regimes fit each other at the end and pins hold as well as they can. */
static int newton(cw_mpc *p, int runs, int *used, int most) {
    int least = 1 << 30, stall = 0, again = 0, own = 0, settled = 0, keep = p->H;
    roll(p, p->u);
    weigh(p);
    for (;;) {
        if (keep > 0) {
            if (own >= runs || *used >= most) return 0;
            own++, (*used)++, again = 0;
        } else if (++again > RESOLVES) {
            return settled;
        }
        if (!back(p, p->w, p->yh, NULL, p->factor, p->count, keep)) return 0;
        const sweep s = step(p);
        keep = s.keep;
        settled = s.changes == 0;
        if (settled) {
            if (!(s.off > HELD)) return 1;
            continue;
        }
        if (s.changes < least) least = s.changes, stall = 0;
        else if (++stall >= STALL) return 0;
    }
}

/* ---- interior point --------------------------------------------------------------------------------------------- */

/* Slacks, in blocks over all slices: of each trade 0 t - h, 1 t + h, 2 cap - t, 3 rate - r, 4 rate + r; of each gap then
   0 e - G + gmax, 1 e + G + gmax, 2 e. Where there is none its multiplier is zero, and top, limit and edge are numbers
   that stand in for limits that are not there. */

static ALWAYS int trade_kind(const cw_mpc *p, int i) { /* 1: the spread or a cap bends its cost, 2: there is a cap */
    const int cap = p->ceff[i] > SHUT && p->ceff[i] < BIG;
    return (p->ceff[i] > SHUT && (cap || p->c[i] > 0.0)) + (cap << 1);
}

/* Slacks and multipliers at a complementarity of mu, those of trades and rates with something extra. */
static void centre(cw_mpc *p, double mu, double extra) {
    const int hm = p->hm, hk = p->hk, mp = p->mp;
    double *s = p->s, *l = p->l;
    for (int i = 0; i < hm; i++) {
        const int is = i % mp < p->m ? trade_kind(p, i) : 0;
        const double size = fabs(p->u[i]), cap = p->ceff[i], r = p->u[hm + i], d = p->rate[i % mp];
        const int turns = d < BIG;
        double t = is & 2 ? 0.5 * (size + cap) : size + 1.0;
        if (t > size + 1.0) t = size + 1.0;
        p->top[i] = is & 2 ? cap : 0.0, p->limit[i] = turns ? d : 0.0, p->pin[i] = cap <= SHUT ? SHUT_PIN : 0.0;
        p->t[i] = t;
        const double v[5] = {t - p->u[i], t + p->u[i], p->top[i] - t, p->limit[i] - r, p->limit[i] + r};
        for (int j = 0; j < 5; j++) {
            const int live = j < 2 ? is & 1 : j == 2 ? is & 2 : turns;
            const int a = j * hm + i;
            s[a] = live ? larger(v[j], 0.1) : 1.0;
            l[a] = live ? mu / s[a] + (j == 2 ? 0.0 : extra) : 0.0;
        }
    }
    s += 5 * hm, l += 5 * hm;
    for (int i = 0; i < hk; i++) {
        const double G = p->u[2 * hm + i];
        const int live = p->gmax[i] < BIG && (p->p1[i] > 0.0 || p->p2[i] > 0.0);
        const double e = p->t[hm + i] = excess(G, p->gmax[i]) + 0.3, edge = p->edge[i] = live ? p->gmax[i] : 0.0;
        const double v[3] = {e - G + edge, e + G + edge, e};
        for (int j = 0; j < 3; j++) {
            const int a = j * hk + i;
            s[a] = live ? larger(v[j], 0.1) : 1.0;
            l[a] = live ? mu / s[a] : 0.0;
        }
    }
}

/* Weights (with `first`) and prices of the rows once slacks and epigraphs are eliminated; q3 is what the complementarity
   aims at. t and e move by -(A + B dh). */
CLONES static void reduce(cw_mpc *p, int first) {
    const int hm = p->hm, hk = p->hk;
    const double *restrict u = p->u, *restrict y = p->y, *restrict t = p->t, *restrict s = p->s, *restrict l = p->l;
    const double *restrict q = p->q3, *restrict top = p->top, *restrict limit = p->limit, *restrict pin = p->pin;
    const double *restrict c = p->c, *restrict edge = p->edge, *restrict p1 = p->p1, *restrict p2 = p->p2;
    double *restrict si = p->si, *restrict D = p->D, *restrict w = p->w, *restrict yh = p->yh;
    double *restrict A = p->A, *restrict B = p->B;
    if (first)
        for (int i = 0; i < 5 * hm + 3 * hk; i++) {
            si[i] = (l[i] > 0.0 ? 1.0 : 0.0) / s[i];
            D[i] = l[i] * si[i];
        }
    for (int i = 0; i < hm; i++) {
        const double D0 = D[i], D1 = D[hm + i], D2 = D[2 * hm + i], D3 = D[3 * hm + i], D4 = D[4 * hm + i];
        const double h = u[i], r = u[hm + i];
        const double h0 = -q[i] - D0 * (t[i] - h - s[i]);
        const double h1 = -q[hm + i] - D1 * (t[i] + h - s[hm + i]);
        const double h2 = -q[2 * hm + i] - D2 * (top[i] - t[i] - s[2 * hm + i]);
        const double h3 = -q[3 * hm + i] - D3 * (limit[i] - r - s[3 * hm + i]);
        const double h4 = -q[4 * hm + i] - D4 * (limit[i] + r - s[4 * hm + i]);
        const double sum = D0 + D1 + D2, inverse = (sum > 0.0 ? 1.0 : 0.0) / (sum > 0.0 ? sum : 1.0);
        const double b = (D1 - D0) * inverse, gt = c[i] - h0 - h1 + h2;
        w[i] = (4.0 * D0 * D1 + D2 * (D0 + D1)) * inverse + pin[i];
        yh[i] = h0 - h1 - b * gt + (y[i] + pin[i] * h);
        w[hm + i] = D3 + D4;
        yh[hm + i] = h3 - h4;
        A[i] = gt * inverse, B[i] = b;
    }
    D += 5 * hm, s += 5 * hm, q += 5 * hm, t += hm, A += hm, B += hm, w += 2 * hm, yh += 2 * hm, u += 2 * hm;
    for (int i = 0; i < hk; i++) {
        const double D0 = D[i], D1 = D[hk + i], D2 = D[2 * hk + i], G = u[i], e = t[i];
        const double h0 = -q[i] - D0 * (e - G + edge[i] - s[i]);
        const double h1 = -q[hk + i] - D1 * (e + G + edge[i] - s[hk + i]);
        const double h2 = -q[2 * hk + i] - D2 * (e - s[2 * hk + i]);
        const double live = D0 > 0.0 ? 1.0 : 0.0, sum = D0 + D1 + D2 + p2[i];
        const double inverse = live / (sum > 0.0 ? sum : 1.0), b = (D1 - D0) * inverse;
        const double ge = p1[i] + p2[i] * e - h0 - h1 - h2;
        w[i] = (4.0 * D0 * D1 + (D2 + p2[i]) * (D0 + D1)) * inverse;
        yh[i] = h0 - h1 - b * ge;
        A[i] = ge * inverse, B[i] = b;
    }
}

/* From du: steps of epigraphs, slacks and multipliers. */
CLONES static void expand(cw_mpc *p) {
    const int hm = p->hm, hk = p->hk, n = 5 * hm + 3 * hk;
    const double *restrict u = p->u, *restrict du = p->du, *restrict t = p->t, *restrict s = p->s, *restrict l = p->l;
    const double *restrict q = p->q3, *restrict top = p->top, *restrict limit = p->limit, *restrict edge = p->edge;
    const double *restrict D = p->D, *restrict A = p->A, *restrict B = p->B;
    double *restrict ds = p->ds, *restrict dl = p->dl, *restrict dt = p->dt;
    for (int i = 0; i < hm; i++) {
        const double dh = du[i], dr = du[hm + i], h = u[i], r = u[hm + i], v = -(A[i] + B[i] * dh);
        dt[i] = v;
        ds[i] = v - dh + (t[i] - h - s[i]);
        ds[hm + i] = v + dh + (t[i] + h - s[hm + i]);
        ds[2 * hm + i] = (top[i] - t[i] - s[2 * hm + i]) - v;
        ds[3 * hm + i] = (limit[i] - r - s[3 * hm + i]) - dr;
        ds[4 * hm + i] = (limit[i] + r - s[4 * hm + i]) + dr;
    }
    for (int i = 0; i < hk; i++) {
        const double dG = du[2 * hm + i], G = u[2 * hm + i], e = t[hm + i], v = -(A[hm + i] + B[hm + i] * dG);
        const int a = 5 * hm + i;
        dt[hm + i] = v;
        ds[a] = v - dG + (e - G + edge[i] - s[a]);
        ds[a + hk] = v + dG + (e + G + edge[i] - s[a + hk]);
        ds[a + 2 * hk] = v + (e - s[a + 2 * hk]);
    }
    for (int i = 0; i < n; i++) dl[i] = -q[i] - D[i] * ds[i] - l[i];
}

/* The longest step, up to 1, that keeps slacks and multipliers positive. */
CLONES static double longest(const cw_mpc *p) {
    const int n = 5 * p->hm + 3 * p->hk;
    const double *ds = p->ds, *dl = p->dl, *si = p->si, *l = p->l;
    double inverse = 1.0;
    int i = 0;
#if LANES == 4
    const vec unit = {1.0, 1.0, 1.0, 1.0};
    vec most = unit;
    for (; i + 4 <= n; i += 4) {
        const vec L = AT(l, i), a = -AT(ds, i) * AT(si, i);
        const marks none = L <= 0.0;
        const vec b = -AT(dl, i) / (vec)(((marks)L & ~none) | ((marks)unit & none));
        const marks first = a > b;
        const vec c = (vec)(((marks)a & first) | ((marks)b & ~first));
        const marks up = c > most;
        most = (vec)(((marks)c & up) | ((marks)most & ~up));
    }
    for (int b = 0; b < 4; b++) inverse = most[b] > inverse ? most[b] : inverse;
#endif
    for (; i < n; i++) {
        const double a = -ds[i] * si[i], b = l[i] > 0.0 ? -dl[i] / l[i] : 0.0, c = a > b ? a : b;
        inverse = c > inverse ? c : inverse;
    }
    return 1.0 / inverse;
}

/* Sum of complementarities after a step of alpha, and the least of those that are there. */
CLONES static double along(const cw_mpc *p, double alpha, double *least) {
    const int n = 5 * p->hm + 3 * p->hk;
    const double *s = p->s, *l = p->l, *ds = p->ds, *dl = p->dl;
    double sum[4] = {0.0, 0.0, 0.0, 0.0}, low = INFINITY;
    int i = 0;
    for (; i + 4 <= n; i += 4)
        for (int b = 0; b < 4; b++) {
            const int a = i + b;
            const double v = (s[a] + alpha * ds[a]) * (l[a] + alpha * dl[a]), there = l[a] > 0.0 ? v : INFINITY;
            sum[b] += v;
            low = there < low ? there : low;
        }
    for (; i < n; i++) {
        const double v = (s[i] + alpha * ds[i]) * (l[i] + alpha * dl[i]), there = l[i] > 0.0 ? v : INFINITY;
        sum[i & 3] += v;
        low = there < low ? there : low;
    }
    *least = low;
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Mean complementarity. */
static double complementarity(const cw_mpc *p, int *count) {
    double sum = 0.0;
    int live = 0;
    for (int i = 0; i < 5 * p->hm + 3 * p->hk; i++)
        if (p->l[i] > 0.0) sum += p->s[i] * p->l[i], live++;
    *count = live;
    return live ? sum / live : 0.0;
}

/* Second order and centring: what the corrector aims at. */
CLONES static void correct(cw_mpc *p, double mu, double aim) {
    const int n = 5 * p->hm + 3 * p->hk;
    const double *restrict ds = p->ds, *restrict dl = p->dl, *restrict si = p->si;
    double *restrict q = p->q3;
    for (int i = 0; i < n; i++) {
        double second = ds[i] * dl[i];
        second = second > mu ? mu : second;
        second = second < -mu ? -mu : second;
        q[i] = (second - aim) * si[i];
    }
}

CLONES static void move(cw_mpc *p, double alpha) {
    const int n = 5 * p->hm + 3 * p->hk, nt = p->hm + p->hk;
    double *restrict s = p->s, *restrict l = p->l, *restrict t = p->t, *restrict u = p->u;
    const double *restrict ds = p->ds, *restrict dl = p->dl, *restrict dt = p->dt, *restrict du = p->du;
    for (int i = 0; i < n; i++) {
        const double there = l[i] > 0.0 ? alpha : 0.0;
        s[i] += there * ds[i];
        l[i] += there * dl[i];
    }
    for (int i = 0; i < nt; i++) t[i] += alpha * dt[i];
    for (int i = 0; i < p->hr; i++) u[i] += alpha * du[i];
}

/* The same from trades and prices of the step before. */
static void centre_warm(cw_mpc *p, const double *y) {
    const int hm = p->hm, hk = p->hk, mp = p->mp;
    double *s = p->s, *l = p->l;
    for (int i = 0; i < hm; i++) {
        const int is = i % mp < p->m ? trade_kind(p, i) : 0;
        const double size = fabs(p->u[i]), cap = p->ceff[i], r = p->u[hm + i], d = p->rate[i % mp], c = p->c[i];
        const int turns = d < BIG;
        double t = size + DELTA;
        if (is & 2 && t > 0.5 * (size + cap)) t = 0.5 * (size + cap);
        p->top[i] = is & 2 ? cap : 0.0, p->limit[i] = turns ? d : 0.0, p->pin[i] = cap <= SHUT ? SHUT_PIN : 0.0;
        p->t[i] = t;
        const double v[5] = {t - p->u[i], t + p->u[i], p->top[i] - t, p->limit[i] - r, p->limit[i] + r};
        const double yi = y[i], yr = y[hm + i], over = excess(yi, c);
        const double q[5] = {over > 0.0 ? larger(yi, 0.0) : 0.5 * (c + yi), over > 0.0 ? larger(-yi, 0.0) : 0.5 * (c - yi),
                             over, larger(yr, 0.0), larger(-yr, 0.0)};
        for (int j = 0; j < 5; j++) {
            const int live = j < 2 ? is & 1 : j == 2 ? is & 2 : turns;
            const int a = j * hm + i;
            s[a] = live ? larger(v[j], DELTA) : 1.0;
            l[a] = live ? larger(q[j], DELTA) : 0.0;
        }
    }
    s += 5 * hm, l += 5 * hm;
    for (int i = 0; i < hk; i++) {
        const double G = p->u[2 * hm + i], yG = y[2 * hm + i];
        const int live = p->gmax[i] < BIG && (p->p1[i] > 0.0 || p->p2[i] > 0.0);
        const double e = p->t[hm + i] = excess(G, p->gmax[i]) + DELTA, edge = p->edge[i] = live ? p->gmax[i] : 0.0;
        const double v[3] = {e - G + edge, e + G + edge, e};
        const double q[3] = {larger(yG, 0.0), larger(-yG, 0.0), larger(p->p1[i] + p->p2[i] * e - fabs(yG), 0.0)};
        for (int j = 0; j < 3; j++) {
            const int a = j * hk + i;
            s[a] = live ? larger(v[j], DELTA) : 1.0;
            l[a] = live ? larger(q[j], DELTA) : 0.0;
        }
    }
}

static int predict_correct(cw_mpc *p, double mu, int live) {
    const int n = 5 * p->hm + 3 * p->hk;
    double least;
    memset(p->q3, 0, sizeof(double) * (size_t)n);
    reduce(p, 1);
    if (!back(p, p->w, p->yh, NULL, p->factor, p->count, p->H)) return 0;
    forth(p, p->factor, p->count, p->du);
    expand(p);
    const double ratio = along(p, longest(p), &least) / live / mu;
    correct(p, mu, ratio * ratio * ratio * mu);
    reduce(p, 0);
    (void)back(p, p->w, p->yh, NULL, p->factor, p->count, 0);
    forth(p, p->factor, p->count, p->du);
    expand(p);
    const double most = longest(p), keep = 1.0 - mu > 0.99 ? 1.0 - mu : 0.99;
    double alpha = most >= 1.0 ? keep : keep * most;
    for (int tries = 0; tries < 40; tries++) {
        const double sum = along(p, alpha, &least);
        if (least >= 1e-4 * sum / live) break;
        alpha *= 0.9;
    }
    for (int i = 0; i < p->hm; i++)
        if (p->pin[i] > 0.0) p->y[i] += alpha * (p->yh[i] + SHUT_PIN * p->du[i] - p->y[i]);
    move(p, alpha);
    roll(p, p->u);
    return 1;
}

/* Prices and regimes of the interior iterate. */
static void cross_over(cw_mpc *p) {
    const int hm = p->hm, hk = p->hk, mp = p->mp;
    const double *s = p->s, *l = p->l;
    signed char *regime = p->regime;
    for (int i = 0; i < hm; i++) {
        const int is = i % mp < p->m ? trade_kind(p, i) : 0;
        int g = 0;
        if (is & 1) {
            const int up = l[i] > s[i], down = l[hm + i] > s[hm + i];
            const int top = is & 2 && l[2 * hm + i] > s[2 * hm + i];
            p->y[i] = l[i] - l[hm + i];
            if (up && down) g = 0;
            else if (up) g = top ? 2 : 1;
            else if (down) g = top ? -2 : -1;
            else g = p->u[i] >= 0.0 ? 1 : -1;
        } else {
            g = p->ceff[i] <= SHUT ? 0 : 1;
        }
        regime[i] = (signed char)g;
        const int a = 3 * hm + i, b = 4 * hm + i, turns = p->rate[i % mp] < BIG;
        p->y[hm + i] = turns ? l[a] - l[b] : 0.0;
        regime[hm + i] = (signed char)(turns ? (l[a] > s[a]) - (l[b] > s[b]) : 0);
    }
    for (int i = 0; i < hk; i++) {
        const int a = 5 * hm + i, b = a + hk, c = b + hk;
        const int up = l[a] > s[a], down = l[b] > s[b], zero = l[c] > s[c];
        p->y[2 * hm + i] = l[a] - l[b];
        regime[2 * hm + i] = (signed char)(up ? (zero ? 1 : 2) : down ? (zero ? -1 : -2) : 0);
    }
}

/* ---- one step --------------------------------------------------------------------------------------------------- */

/* Whether all data lie within low..BIG in units, a limit also beyond; a NaN does not. */
static int sound(const double *from, size_t count, double scale, double low, int limit) {
    const double high = limit ? INFINITY : BIG, least = low < 0.0 ? -INFINITY : 0.0;
    size_t i = 0;
    int bad = 0;
#if LANES == 4
    flags any = {0};
    for (; i + 2 <= count; i += 2) {
        const pair v = *(const pair *)(const void *)(from + i), x = v * scale;
        any |= ~((x >= low) & (x <= high) & (v >= least)); /* tiny negative numbers may be scaled to zero */
    }
    bad = (any[0] | any[1]) != 0;
#endif
    for (; i < count; i++) {
        const double v = from[i], x = v * scale;
        bad |= !(x >= low) | !(x <= high) | !(v >= least);
    }
    return !bad;
}

static void copy(double *to, const double *from, size_t count, double scale) {
    for (size_t i = 0; i < count; i++) to[i] = from[i] * scale;
}

/* Rows of `count` numbers into rows of `wide`. */
static void spread(double *to, const double *from, int rows, int count, int wide, double scale) {
    if (count == wide) copy(to, from, (size_t)rows * (size_t)count, scale);
    else
        for (int t = 0; t < rows; t++)
            for (int i = 0; i < count; i++) to[t * wide + i] = from[t * count + i] * scale;
}

/* Limits in units: what is beyond BIG is none, what is below TINY is zero. */
static void spread_limits(double *to, const double *from, int rows, int count, int wide, double scale) {
    for (int t = 0; t < rows; t++)
        for (int i = 0; i < count; i++) {
            double v = from[t * count + i] * scale;
            v = v < TINY ? 0.0 : v;
            to[t * wide + i] = v < BIG ? v : INFINITY;
        }
}

/* Take the data in units; 0, and nothing changed, where they are refused. */
static int load(cw_mpc *p, const cw_mpc_data *d) {
    const int m = p->m, k = p->k, H = p->H, M = p->M, mp = p->mp, kp = p->kp;
    const size_t hm = (size_t)(H * m), hk = (size_t)(H * k), sm = (size_t)m, sk = (size_t)k;
    const double u = 1.0 / p->unit, g = p->unit / p->cost, bend = g * p->unit, root = 1.0 / p->root;
    if (!(sound(d->gap, sk, u, -BIG, 0) & sound(d->state, (size_t)(M * m), root, -BIG, 0) &
          sound(d->last, sm, u, -BIG, 0) & sound(d->plan, hk, u, -BIG, 0) & sound(d->linear, hm, g, -BIG, 0) &
          sound(d->carry, hk, g, -BIG, 0) & sound(d->spread, hm, g, 0.0, 0) & sound(d->cap, hm, u, 0.0, 1) &
          sound(d->rate, sm, u, 0.0, 1) & sound(d->gap_cap, hk, u, 0.0, 1) & sound(d->price, hk, g, 0.0, 0) &
          sound(d->curve, hk, bend, 0.0, 0)))
        return 0;
    copy(p->G0, d->gap, sk, u);
    spread(p->z0, d->state, M, m, p->mb, root);
    copy(p->last, d->last, sm, u);
    spread(p->plan, d->plan, H, k, kp, u);
    spread(p->lin, d->linear, H, m, mp, g);
    spread(p->carry, d->carry, H, k, kp, g);
    spread(p->c, d->spread, H, m, mp, g);
    spread_limits(p->cap, d->cap, H, m, mp, u);
    spread_limits(p->rate, d->rate, 1, m, mp, u);
    spread_limits(p->gmax, d->gap_cap, H, k, kp, u);
    spread(p->p1, d->price, H, k, kp, g);
    spread(p->p2, d->curve, H, k, kp, bend);
    return 1;
}

/* Caps that the rates leave, and a last trade from which they can be reached; 1 where it had to give way. */
static int reconcile(cw_mpc *p, const double *given) {
    const int mp = p->mp, hm = p->hm;
    int relaxed = 0;
    for (int i = 0; i < p->m; i++) {
        const double d = p->rate[i];
        if (!(d < BIG)) {
            for (int a = i; a < hm; a += mp) p->ceff[a] = p->cap[a];
            if (fabs(p->last[i]) < TINY) p->last[i] = 0.0;
            continue;
        }
        double next = INFINITY;
        for (int a = hm - mp + i; a >= 0; a -= mp) {
            const double cap = p->cap[a];
            if (!(cap - next <= d)) {
                const double most = beside(next, d);
                next = cap < most ? cap : most;
            } else {
                next = cap;
            }
            p->ceff[a] = next;
        }
        if (fabs(p->last[i]) < TINY && given[i] != 0.0) {
            relaxed |= d < 1e20 * TINY;
            p->last[i] = 0.0;
        }
        if (fabs(p->last[i]) - next > d) {
            const double reach = beside(next, d);
            p->last[i] = p->last[i] > 0.0 ? reach : -reach;
            relaxed = 1;
        }
    }
    return relaxed;
}

/* Move the last answer on by some slices; rows that come in are at rest. */
static void shift_rows(cw_mpc *p, int by) {
    const int b = by < 0 ? 0 : by > p->H ? p->H : by;
    if (b == 0) return;
    const int at[3] = {0, p->hm, 2 * p->hm}, wide[3] = {p->mp, p->mp, p->kp};
    for (int j = 0; j < 3; j++) {
        const size_t gone = (size_t)(b * wide[j]), kept = (size_t)((p->H - b) * wide[j]);
        double *u = p->u + at[j], *y = p->y + at[j];
        signed char *g = p->regime + at[j];
        memmove(u, u + gone, kept * sizeof(double));
        memmove(y, y + gone, kept * sizeof(double));
        memmove(g, g + gone, kept);
        memset(u + kept, 0, gone * sizeof(double));
        memset(y + kept, 0, gone * sizeof(double));
        memset(g + kept, 0, gone);
    }
}

static void at_rest(cw_mpc *p) {
    memset(p->y, 0, (size_t)p->hr * sizeof(double));
    memset(p->regime, 0, (size_t)p->hr);
}

typedef struct {
    double value, size; /* cost of the best trades so far, and the sum of its absolute parts */
    double bound;       /* what no trades can cost less than */
} grade;

/* Clip trades, price them, and keep them where they are the best so far; what they cost. */
static double consider(cw_mpc *p, const double *u, grade *g) {
    const size_t bytes = (size_t)p->hm * sizeof(double);
    double size;
    clip(p, u, p->row);
    roll(p, p->row);
    const double value = objective(p, p->row, &size);
    if (value < g->value) {
        g->value = value, g->size = size;
        memcpy(p->best, p->row, bytes);
    }
    return value;
}

/* Consider the trades of u and let the prices y prove what they can; 1 where the best is within tol of optimal. */
static int judge(cw_mpc *p, grade *g, double tol) {
    const double value = consider(p, p->u, g), size = larger(g->size, TINY);
    const double bound = value - proven(p, p->row, p->y, 0.1 * tol * size);
    if (bound > g->bound) g->bound = bound; /* never a NaN */
    return value < INFINITY && g->value - g->bound <= tol * size;
}

/* The shifted plan, clipped, without prices. */
static void restart(cw_mpc *p, grade *g) {
    memcpy(p->u, p->plan0, (size_t)p->hm * sizeof(double));
    consider(p, p->u, g);
    memcpy(p->u, p->row, (size_t)p->hr * sizeof(double));
    at_rest(p);
}

static void centre_cold(cw_mpc *p) {
    gradient(p, p->u, p->y, p->grad);
    centre(p, MU0, PUSH * largest(p->grad, p->hm));
}

/* Mehrotra's interior point from the clipped shifted plan; at small complementarity its regimes go to Newton, which is
   exact. 1 where that settled and is proven. */
static int interior(cw_mpc *p, grade *g, double tol, int work, int *used, int *steps) {
    const size_t hr = (size_t)p->hr * sizeof(double);
    const double first = *used > NEWTON ? 1e-6 : NEXT;
    double next = first;
    restart(p, g);
    int warm = p->warm == SETTLED;
    if (warm) {
        gradient(p, p->u, p->y0, p->grad);
        warm = largest(p->grad, p->hm) <= NEARBY;
    }
    if (warm)
        centre_warm(p, p->y0);
    else
        centre_cold(p);
    while (*used < work) {
        int live;
        const double mu = complementarity(p, &live);
        int stuck = warm && *steps >= WARM; /* the last prices were no help: once more, from none */
        if (!stuck && live > 0 && !(mu <= next)) {
            (*used)++;
            stuck = !predict_correct(p, mu, live);
            if (!stuck) {
                (*steps)++;
                continue;
            }
            if (!warm) break;
        }
        if (stuck) {
            warm = 0, next = first;
            restart(p, g);
            centre_cold(p);
            continue;
        }
        next = next > 1e-5 ? 1e-6 : next > 1e-7 ? 1e-8 : 1e-11;
        memcpy(p->keep, p->u, hr);
        memcpy(p->keep_y, p->y, hr); /* of trades that are shut */
        cross_over(p);
        if (newton(p, NEWTON, used, work)) {
            snap(p);
            if (judge(p, g, tol)) return 1;
        }
        memcpy(p->u, p->keep, hr);
        memcpy(p->y, p->keep_y, hr);
        roll(p, p->u);
        if (live == 0 || mu <= 1e-11) break;
    }
    if (*steps > 0) {
        cross_over(p);
        judge(p, g, tol); /* for the bound that it proves */
    }
    return 0;
}

cw_mpc_result cw_mpc_step(cw_mpc *p, const cw_mpc_data *data, int shift, double tol, int work, double *trades) {
    cw_mpc_result out = {CW_MPC_REFUSED, 0, 0, 0, 0.0, INFINITY};
    const size_t bytes = (size_t)p->hm * sizeof(double);
    grade g = {INFINITY, 0.0, -INFINITY};
    int used = 0, steps = 0, settled = 0;
    if (!load(p, data)) return out;
    tol = tol >= 0.0 ? (tol < 1.0 ? tol : 1.0) : 0.0;
    out.relaxed = reconcile(p, data->last);
    if (p->warm > COLD) {
        shift_rows(p, shift);
    } else {
        memset(p->u, 0, (size_t)p->hr * sizeof(double));
        at_rest(p);
    }
    memcpy(p->plan0, p->u, bytes);
    memcpy(p->y0, p->y, (size_t)p->hr * sizeof(double));
    if (p->warm == SETTLED && (p->gated < GATE || (p->fallbacks = (p->fallbacks + 1) & 7) == 0)) {
        settled = newton(p, NEWTON, &used, work);
        if (settled) {
            snap(p);
            settled = judge(p, &g, tol);
        }
        p->gated = settled ? 0 : p->gated < GATE ? p->gated + 1 : GATE;
    }
    if (!settled) settled = interior(p, &g, tol, work, &used, &steps);
    if (!settled && !(g.bound > -INFINITY)) { /* nothing was proven: prices of zero prove something */
        at_rest(p);
        memcpy(p->u, p->best, bytes);
        judge(p, &g, tol);
    }
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++) trades[t * p->m + i] = p->best[t * p->mp + i] * p->unit;
    if (!settled) { /* the next step starts from the plan alone */
        at_rest(p);
        memcpy(p->u, p->best, bytes);
    }
    p->warm = settled ? SETTLED : PLAN;
    const double gap = larger(g.value - g.bound, 0.0);
    out.status = gap <= tol * larger(g.size, TINY) ? CW_MPC_OPTIMAL : CW_MPC_CERTIFIED;
    out.factorisations = used, out.steps = steps;
    out.objective = g.value * p->cost;
    out.gap = (gap + ROUNDING * g.size) * p->cost;
    return out;
}

void cw_mpc_reset(cw_mpc *p) { p->warm = COLD, p->gated = p->fallbacks = 0; }

void cw_mpc_prices(const cw_mpc *p, double *trade, double *gap, double *rate) {
    const int m = p->m, k = p->k, mp = p->mp, kp = p->kp;
    const double scale = p->cost / p->unit;
    for (int t = 0; t < p->H; t++) {
        const double *y = p->y + t * mp, *yG = p->y + 2 * p->hm + t * kp;
        for (int i = 0; i < m; i++) {
            double beyond = excess(y[i], p->c[t * mp + i]);
            trade[t * m + i] = (y[i] < 0.0 ? -beyond : beyond) * scale;
            rate[t * m + i] = y[p->hm + i] * scale;
        }
        for (int e = 0; e < k; e++) gap[t * k + e] = yG[e] * scale;
    }
}

/* ---- what a warm start is ---------------------------------------------------------------------------------------- */

typedef struct {
    int32_t m, k, M, H, warm, gated, fallbacks, version;
    uint64_t model, body; /* hashes */
} header;

/* FNV-1a: it tells a torn or changed file from a whole one, and one model from another. */
static uint64_t hashed(uint64_t hash, const void *from, size_t bytes) {
    const unsigned char *at = from;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ at[i]) * 1099511628211U;
    return hash;
}

static uint64_t hash_of_start(const header *h) {
    const int32_t start[3] = {h->warm, h->gated, h->fallbacks};
    return hashed(h->model, start, sizeof start);
}

size_t cw_mpc_saved_bytes(const cw_mpc *p) {
    return sizeof(header) + (size_t)p->hr * (2 * sizeof(double) + 1);
}

void cw_mpc_save(const cw_mpc *p, void *to) {
    const size_t hr = (size_t)p->hr;
    header h = {p->m, p->k, p->M, p->H, p->warm, p->gated, p->fallbacks, SAVED, p->hash, 0};
    unsigned char *at = to;
    memcpy(at + sizeof h, p->u, hr * sizeof(double));
    memcpy(at + sizeof h + hr * sizeof(double), p->y, hr * sizeof(double));
    memcpy(at + sizeof h + 2 * hr * sizeof(double), p->regime, hr);
    h.body = hashed(hash_of_start(&h), at + sizeof h, cw_mpc_saved_bytes(p) - sizeof h);
    memcpy(at, &h, sizeof h);
}

int cw_mpc_restore(cw_mpc *p, const void *from, size_t bytes) {
    const size_t hr = (size_t)p->hr;
    header h;
    if (bytes != cw_mpc_saved_bytes(p)) return 0;
    const unsigned char *at = from;
    memcpy(&h, at, sizeof h);
    if (h.m != p->m || h.k != p->k || h.M != p->M || h.H != p->H || h.version != SAVED || h.model != p->hash ||
        h.body != hashed(hash_of_start(&h), at + sizeof h, bytes - sizeof h) || h.warm < COLD || h.warm > SETTLED ||
        h.gated < 0 || h.gated > GATE || h.fallbacks < 0 || h.fallbacks > 7)
        return 0;
    for (size_t i = 0; i < 2 * hr; i++) {
        double v;
        memcpy(&v, at + sizeof h + i * sizeof(double), sizeof v);
        if (!(v >= -1e30 && v <= 1e30)) return 0;
    }
    const unsigned char *regime = at + sizeof h + 2 * hr * sizeof(double);
    for (size_t i = 0; i < hr; i++) {
        const int v = (signed char)regime[i];
        const int most = i < (size_t)p->hm || i >= 2 * (size_t)p->hm ? 2 : 1;
        if (v < -most || v > most) return 0;
    }
    memcpy(p->u, at + sizeof h, hr * sizeof(double));
    memcpy(p->y, at + sizeof h + hr * sizeof(double), hr * sizeof(double));
    memcpy(p->regime, regime, hr);
    p->warm = h.warm, p->gated = h.gated, p->fallbacks = h.fallbacks;
    return 1;
}

/* ---- setting up -------------------------------------------------------------------------------------------------- */

/* 1 / trace(A^-1) of a positive definite matrix, which is no more than its least eigenvalue; else 0. */
static double least_curvature(const double *A, double *U, double *x, int m) {
    double trace = 0.0;
    memcpy(U, A, sizeof(double) * (size_t)m * (size_t)m);
    for (int j = 0; j < m; j++) {
        if (!(U[j * (m + 1)] > 0.0)) return 0.0;
        const double scale = 1.0 / sqrt(U[j * (m + 1)]);
        for (int b = j; b < m; b++) U[j * m + b] *= scale;
        for (int i = j + 1; i < m; i++)
            for (int b = i; b < m; b++) U[i * m + b] -= U[j * m + i] * U[j * m + b];
        U[j * (m + 1)] = scale;
    }
    for (int c = 0; c < m; c++) {
        for (int i = c; i < m; i++) {
            double sum = i == c ? 1.0 : 0.0;
            for (int j = c; j < i; j++) sum -= U[j * m + i] * x[j];
            x[i] = sum * U[i * (m + 1)];
            trace += x[i] * x[i];
        }
    }
    return trace > 0.0 && trace < 1e12 ? 1.0 / trace : 0.0;
}

/* Whether all are finite and none below low, or above high. */
static int within(const double *v, size_t count, double low, double high) {
    int good = 1;
    for (size_t i = 0; i < count; i++) good &= (v[i] >= low) & (v[i] <= high);
    return good;
}

/* Factorise P without weights; 0 where some curvature is below `least`. */
static int convex(cw_mpc *p, double least) {
    memset(p->grad, 0, (size_t)p->hm * sizeof(double));
    if (!back(p, p->w, NULL, p->grad, p->base, p->none, p->H)) return 0;
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++) {
            const double root = p->base[(t * p->m + i) * (p->mp + p->sx) + i];
            const double inverse = p->kind == ONE ? p->base[4 * t] : root * root;
            if (!(inverse * least <= 1.0)) return 0;
        }
    return 1;
}

cw_mpc *cw_mpc_init(void *memory, const cw_mpc_dims *dims, const cw_mpc_model *model) {
    cw_mpc *p = memory;
    if (p == NULL || dims == NULL || model == NULL || cw_mpc_bytes(dims) == 0) return NULL;
    memset(p, 0, cw_mpc_bytes(dims));
    layout(p, memory, dims);
    const int m = p->m, k = p->k, M = p->M, H = p->H;
    const size_t mm = (size_t)m * (size_t)m, kk = (size_t)k * (size_t)k; /* of what is given */
    if (!within(&model->unit, 1, 1e-80, 1e80) || !within(model->E, (size_t)(k * m), -1e100, 1e100) ||
        !within(model->lambda, mm, -1e100, 1e100) || !within(model->L, (size_t)M * mm, -1e100, 1e100) ||
        !within(model->rho, (size_t)M, 1e-6, 1.0) || !within(model->sigma, kk, -1e100, 1e100) ||
        !within(model->gamma, (size_t)H, 0.0, 1e100) || !within(model->eta, (size_t)k, 0.0, 1e100))
        return NULL;
    int power;
    (void)frexp(model->unit, &power);
    p->unit = ldexp(1.0, power - 1);
    /* What a usual trade costs by its own curvature. */
    double usual = 0.0, mean = 0.0;
    for (int t = 0; t < H; t++) mean += model->gamma[t] / H;
    for (int i = 0; i < m; i++) {
        usual += 2.0 * model->lambda[i * m + i];
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++) usual += model->L[(j * m + i) * m + b] * model->L[(j * m + i) * m + b];
        for (int e = 0; e < k; e++)
            usual += 2.0 * mean * model->E[e * m + i] * model->E[e * m + i] * model->sigma[e * k + e];
    }
    usual = usual / m * p->unit * p->unit;
    if (!within(&usual, 1, 0.0, 1e200)) return NULL;
    (void)frexp(usual > 1e-200 ? usual : 1.0, &power);
    p->root = ldexp(1.0, (power - (power < 0)) / 2);
    p->cost = p->root * p->root;
    const double scale = p->unit * p->unit / p->cost;
    const int mp = p->mp, kp = p->kp, kb = p->kb, mb = p->mb;
    double *lam = p->V; /* for now */
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++) lam[i * m + j] = (model->lambda[i * m + j] + model->lambda[j * m + i]) * scale;
    spread(p->lam, lam, m, m, mp, 1.0);
    spread(p->E, model->E, k, m, mp, 1.0);
    copy(p->rho, model->rho, (size_t)M, 1.0);
    p->plain = m == k;
    for (int e = 0; e < k; e++)
        for (int i = 0; i < m; i++) {
            p->F[i * kp + e] = p->E[e * mp + i];
            p->plain &= p->E[e * mp + i] == (e == i ? 1.0 : 0.0);
        }
    for (int a = 0; a < p->ng; a++) p->sc[a] = a < k ? 1.0 : a < kb ? 0.0 : (a - kb) % mb < m ? p->rho[(a - kb) / mb] : 0.0;
    for (int j = 0; j < M; j++) {
        const double end = 1.0 / (p->rho[j] * p->rho[j]);
        for (int t = 0; t < H; t++) p->q[t * M + j] = t + 1 < H ? end - 1.0 : end;
        for (int i = 0; i < m; i++)
            for (int b = 0; b < m; b++) {
                const double v = model->L[(j * m + i) * m + b] * (p->unit / p->root);
                p->R[(j * mb + i) * mp + b] = v;
                p->L[(j * mb + b) * mp + i] = p->rho[j] * v;
            }
    }
    for (int t = 0; t < H; t++)
        for (int e = 0; e < k; e++)
            for (int f = 0; f < k; f++) {
                double v = model->gamma[t] * (model->sigma[e * k + f] + model->sigma[f * k + e]);
                if (t + 1 == H && e == f) v += 2.0 * model->eta[e];
                p->Qg[(t * k + e) * kp + f] = v * scale;
            }
    const size_t ends[4] = {(size_t)(m * mp), (size_t)(M * mb * mp), (size_t)(H * k * kp), (size_t)(k * mp)};
    if (!within(p->lam, ends[0], -1e12, 1e12) || !within(p->R, ends[1], -1e12, 1e12) ||
        !within(p->Qg, ends[2], -1e12, 1e12) || !within(p->E, ends[3], -1e9, 1e9))
        return NULL;
    p->hash = hashed(14695981039346656037U, &p->unit, sizeof(double));
    p->hash = hashed(p->hash, &p->cost, sizeof(double));
    p->hash = hashed(p->hash, p->E, ends[3] * sizeof(double));
    p->hash = hashed(p->hash, p->lam, ends[0] * sizeof(double));
    p->hash = hashed(p->hash, p->R, ends[1] * sizeof(double));
    p->hash = hashed(p->hash, p->rho, (size_t)M * sizeof(double));
    p->hash = hashed(p->hash, p->Qg, ends[2] * sizeof(double));
    /* Gamma by instrument, what is not zero: -E, rho L'. */
    int n = 0;
    for (int i = 0; i < m; i++) {
        p->from[i] = n;
        for (int e = 0; e < k; e++)
            if (p->E[e * mp + i] != 0.0) p->at[n] = e, p->value[n++] = -p->E[e * mp + i];
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++)
                if (p->R[(j * mb + i) * mp + b] != 0.0)
                    p->at[n] = kb + j * mb + b, p->value[n++] = p->L[(j * mb + b) * mp + i];
    }
    p->from[m] = n;
    /* Padding has no limits and nothing to trade. */
    for (int i = m; i < mp; i++) p->rate[i] = INFINITY;
    for (int t = 0; t < H; t++)
        for (int e = k; e < kp; e++) p->gmax[t * kp + e] = INFINITY;
    p->soft = least_curvature(lam, p->factor, p->x, m);
    memset(p->V, 0, mm * sizeof(double));
    if (!convex(p, 1e-9)) {
        for (int i = 0; i < m; i++) p->lam[i * (mp + 1)] += RIDGE;
        if (!convex(p, 1e-3 * RIDGE)) return NULL;
    }
    return p;
}
