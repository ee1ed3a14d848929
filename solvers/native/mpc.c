#include "mpc.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BIG 1e9       /* units: larger data are refused, larger limits are none */
#define PIN 1e7       /* weight of a row held at its target by the method of multipliers; above it rounding is seen */
#define SHUT 1e-9     /* a cap below it leaves nothing to decide */
#define SHUT_PIN 1e8
#define RIDGE 1e-10   /* on h, of the usual curvature, so that the program is strictly convex */
#define NEWTON 6      /* factorisations of one run of the regime Newton */
#define LONGER 10     /* the same while each changes fewer regimes than all before */
#define RESOLVES 3
#define HASTY 4       /* regimes that the second factorisation of a crossover may change at most */
#define END 1e-13     /* the least complementarity that there is a use for */
#define EARLY 1e-6    /* complementarity down to which a crossover is hasty */
#define STALL 3       /* Newton steps in a row that change no fewer regimes than before */
#define GATE 4        /* steps in a row that Newton did not settle, from which on it is tried every eighth time */
#define WARM 22       /* interior steps after which a start from the last prices is given up */
#define HELD 1e-9     /* how near to their targets pinned rows are */
#define NEXT 1e-4     /* complementarity of the first crossover */
#define MU0 1.0       /* complementarity, and share of the gradient, of a start from nothing */
#define PUSH 0.5
#define SHORT 0.5     /* a step of the interior point below it is corrected once more */
#define FURTHER 0.3   /* by how much longer a step is hoped for then */
#define CENTRAL 0.1   /* complementarities between it and one over it, of what is aimed at, are left alone */
#define DELTA 0.1     /* least slacks and multipliers of a start from the last answer */
#define NEARBY 1.0    /* largest gradient from which that is a good one */
#define MOST 1e8       /* numbers in the largest array */
#define ROUNDING 1e-15 /* of the cost's size, left for the rounding of both sides of a gap */
#define SAVED 3        /* version of the saved bytes */
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
    int hm, hk, hr;     /* H mp and H kp in whole vectors, and 2 hm + hk */
    int kind, plain;    /* which sweeps; whether E = I */
    int quick;          /* whether two or three rows are inverted by cofactors */
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
    double *factor, *base;               /* H slices of the weighted matrix and of P: [U | Y], or as SLICE has it */
    int *count, *none, *act;             /* trades before that a slice asks for: how many, none, which */
    double *V, *X, *W;                   /* values H + 1 times, one at work, Gamma'V */
    double *G0, *z0, *last;
    double *plan, *lin, *carry, *c, *cap, *ceff, *rate, *gmax, *p1, *p2;
    double *u, *y, *w, *yh, *du;         /* rows; prices; weights; prices to aim at; steps */
    double *y0, *keep, *keep_y, *row;    /* shifted y; u and y over a crossover; rows of the trades considered last */
    double *z;                           /* H x M mb */
    double *grad, *nu, *best, *plan0;    /* H x mp; the last is the shifted plan */
    double *t, *s, *l, *si, *D;          /* interior point, see below */
    double *ds, *dl, *dt, *q3, *A;       /* its direction, with du; and the one before */
    double *ds0, *dl0, *dt0, *q0, *A0, *du0;
    double *top, *limit, *edge, *pin;
    double *B, *over, *rest, *aim;       /* what of the elimination does not depend on the direction */
    int live;                            /* slacks that there are */
    double *x, *d0, *pi;                 /* a state, trades of nothing, costates */
    double *regime;                      /* rows */
    int rated, banded;                   /* whether some rate is limited, some gap capped */
};

#if defined(__GNUC__)
#define ALWAYS inline __attribute__((always_inline))
#else
#define ALWAYS inline
#endif

/* Where the loader can choose by the processor, what takes long is there twice. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(CW_MPC_PORTABLE)
#define CLONES __attribute__((target_clones("avx2", "default")))
#define VECTORS
#else
#define CLONES
#if defined(__AVX__) || defined(__SANITIZE_ADDRESS__)
#define VECTORS
#endif
#endif

/* Where the processor has vectors of four, loops over padded rows are written with them; compilers make slow code of them
   where it has not. Each number of a vector sees the same operations in the same order as without, and so has the same
   bits, as long as multiplications and additions are not fused. */
#if defined(__GNUC__) && defined(VECTORS) && !defined(CW_MPC_SCALAR)
#define LANES 4
typedef double vec __attribute__((vector_size(32), aligned(8), may_alias));
typedef long long marks __attribute__((vector_size(32)));
#else
#define LANES 1
typedef double vec;
typedef long long marks; /* 0 or -1 */
#endif
#define AT(from, b) (*(const vec *)(const void *)((from) + (b)))
#define TO(to, b) (*(vec *)(void *)((to) + (b)))

/* No vector leaves this file: how one is passed to a function of another does not matter. */
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

/* Comparisons of vectors are marks: all bits of a number, or none. Sums are of four parts. */
#define PARTS (4 / LANES)
#if LANES == 4
#define BELOW(a, b) ((marks)((a) < (b)))
#define EQUAL(a, b) ((marks)((a) == (b)))
#define EACH(v) ((vec){(v), (v), (v), (v)})
#define PICK(which, a, b) ((vec)(((marks)(a) & (which)) | ((marks)(b) & ~(which))))
#define NONE {{0.0, 0.0, 0.0, 0.0}}
#define MAGNITUDE(v) ((vec)((marks)(v) & 0x7fffffffffffffffLL))
static ALWAYS double highest(const vec v) {
    const double a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}
static ALWAYS double whole(const vec v) { return (v[0] + v[1]) + (v[2] + v[3]); }
static ALWAYS double total(const vec *v) { return (v[0][0] + v[0][1]) + (v[0][2] + v[0][3]); }
#else
#define BELOW(a, b) (-(marks)((a) < (b)))
#define EQUAL(a, b) (-(marks)((a) == (b)))
#define EACH(v) (v)
#define PICK(which, a, b) ((which) ? (a) : (b))
#define NONE {0.0, 0.0, 0.0, 0.0}
#define MAGNITUDE(v) fabs(v)
static ALWAYS double highest(const vec v) { return v; }
static ALWAYS double whole(const vec v) { return v; }
static ALWAYS double total(const vec *v) { return (v[0] + v[1]) + (v[2] + v[3]); }
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
    const int hm = UP(H * mp), hk = UP(H * kp);
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
    TAKE(plan0, hm, double);
    TAKE(t, hm + hk, double);
    TAKE(s, n, double);
    TAKE(l, n, double);
    TAKE(si, n, double);
    TAKE(D, n, double);
    TAKE(ds, n, double);
    TAKE(dl, n, double);
    TAKE(q3, n, double);
    TAKE(dt, hm + hk, double);
    TAKE(A, hm + hk, double);
    TAKE(ds0, n, double);
    TAKE(dl0, n, double);
    TAKE(q0, n, double);
    TAKE(dt0, hm + hk, double);
    TAKE(A0, hm + hk, double);
    TAKE(du0, hr, double);
    TAKE(top, hm, double);
    TAKE(limit, hm, double);
    TAKE(edge, hk, double);
    TAKE(pin, hm, double);
    TAKE(B, hm + hk, double);
    TAKE(over, hm + hk, double);
    TAKE(rest, hm + hk, double);
    TAKE(aim, hr, double);
    TAKE(x, sx + 4, double);
    TAKE(d0, mp, double);
    TAKE(pi, sx + 4, double);
    TAKE(regime, hr, double);
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
static ALWAYS void gather(double *to, const double *f, const double *rows, const int count, const int stride,
                          const int n) {
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
    static const double unit[4][4] = {
        {1.0, 0.0, 0.0, 0.0}, {0.0, 1.0, 0.0, 0.0}, {0.0, 0.0, 1.0, 0.0}, {0.0, 0.0, 0.0, 1.0}};
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
    for (int c = 0; c < count; c++) to[act[c]] += s[ng + c];
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
            count[t] = now;
            if (!slice(p, t, w, p->V + (t + 1) * ((ng + m) * sx), after, act + m, Ft, p->V + t * ((ng + m) * sx), now,
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
    for (int b = UP(ng); b < UP(ng + count); b += LANES) TO(x, b) = AT(p->sc, b) * 0.0;
    for (int c = 0; c < count; c++) x[ng + c] = before[act[c]];
    for (int i = 0; i < m; i++) d[i] = nu[i] + dot(Ft + i * wide + mp, x, UP(ng + count));
    for (int i = m - 1; i >= 0; i--) {
        const double *U = Ft + i * wide;
        double sum = d[i];
        for (int j = m - 1; j > i; j--) sum += U[j] * d[j];
        d[i] = -sum * U[i];
    }
    push(p, d, x, m, k, M);
}

/* The way forth: the step of all rows into du, and of the impact states onto z where it is given. */
static ALWAYS void forth_sized(cw_mpc *p, const double *F, const int *count, double *du, double *z, SIZES) {
    LAYOUT;
    const int H = p->H;
    double *x = p->x;
    const double *before = p->d0;
    fill(x, 0.0, sx + 4);
    fill(p->d0, 0.0, mp);
    for (int t = 0; t < H; t++) {
        double *d = du + t * mp, *dr = d + p->hm, *dG = du + 2 * p->hm + t * kp;
        forth_slice(p, t, F, count[t], before, x, d, m, k, M);
        for (int b = 0; b < mp; b += LANES) TO(dr, b) = AT(d, b) - AT(before, b);
        for (int e = 0; e < k; e++) dG[e] = x[e];
        if (z != NULL)
            for (int b = 0; b < M * mb; b++) z[t * (M * mb) + b] += x[kb + b];
        before = d;
    }
}

/* The inverse of a symmetric matrix of two or three rows, by cofactors: one division, where elimination waits for three.
   0 unless it is positive definite. Weights on its diagonal scale all terms alike; where they come in across it, as those
   of gaps do if E is not I, the terms cancel, and elimination it must be. */
static ALWAYS int invert(const double (*R)[4], double (*to)[4], const int m) {
    const double a = R[0][0], b = R[0][1], d = R[1][1], minor = a * d - b * b;
    if (m == 2) {
        const double over = 1.0 / minor;
        to[0][0] = d * over, to[0][1] = to[1][0] = -b * over, to[1][1] = a * over;
        return a > 0.0 && minor > 0.0;
    }
    const double c = R[0][2], e = R[1][2], f = R[2][2];
    const double A = d * f - e * e, B = c * e - b * f, C = b * e - c * d;
    const double det = (a * A + b * B) + c * C, over = 1.0 / det;
    to[0][0] = A * over, to[0][1] = to[1][0] = B * over, to[0][2] = to[2][0] = C * over;
    to[1][1] = (a * f - c * c) * over, to[1][2] = to[2][1] = (b * c - a * e) * over, to[2][2] = minor * over;
    return a > 0.0 && minor > 0.0 && det > 0.0;
}

/* A slice of the factor where m = k is two or three and there is one mode, m rows of SLICE: R^-1 and the gains K = R^-1 N,
   or U, K and Y = U^-T N. The state is in vectors of four, G, z and all trades before or none. */
#define SLICE 28

/* From R and N that slice, and rows whose products the value loses: N with K, or Y with itself. */
static ALWAYS int gains(double (*R)[4], double (*N)[12], double *F, const int span, const int m, const int quick) {
    double inverse[3][4] = {{0.0}}, root[3];
    if (quick) {
        if (!invert((const double (*)[4])R, inverse, m)) return 0;
        for (int i = 0; i < m; i++) {
            double *row = F + i * SLICE;
            for (int b = 0; b < 4; b += LANES) TO(row, b) = AT(inverse[i], b);
            for (int b = 0; b < span; b += LANES) {
                vec sum = inverse[i][0] * AT(N[0], b) + inverse[i][1] * AT(N[1], b);
                if (m == 3) sum += inverse[i][2] * AT(N[2], b);
                TO(row, 4 + b) = sum;
            }
        }
        return 1;
    }
    for (int j = 0; j < m; j++) {
        if (!(R[j][j] > 0.0)) return 0;
        const double over = 1.0 / R[j][j];
        root[j] = sqrt(over);
        for (int i = j + 1; i < m; i++) {
            const double f = R[j][i] * over;
            for (int c = i; c < m; c++) R[i][c] -= f * R[j][c];
            for (int b = 0; b < span; b += LANES) TO(N[i], b) -= f * AT(N[j], b);
        }
    }
    for (int j = 0; j < m; j++) {
        double *row = F + j * SLICE;
        for (int b = 0; b < span; b += LANES) TO(row, 16 + b) = TO(N[j], b) = root[j] * AT(N[j], b);
        row[j] = root[j];
        for (int i = j + 1; i < m; i++) row[i] = R[j][i] * root[j];
    }
    for (int j = m - 1; j >= 0; j--)
        for (int b = 0; b < span; b += LANES) {
            vec sum = AT(N[j], b);
            for (int i = j + 1; i < m; i++) sum -= F[j * SLICE + i] * AT(F + i * SLICE + 4, b);
            TO(F + j * SLICE, 4 + b) = root[j] * sum;
        }
    return 1;
}

/* One slice: from the value V after it, its factor F and the value before it. */
static ALWAYS int slice_even(cw_mpc *p, int t, const double *w, const double *V, const int after, double *F,
                             double *value, const int now, const int m, const int quick) {
    const int sx = 12, deep = after ? 12 : 8, span = now ? 12 : 8, other = quick ? 4 : 16;
    const double *wh = w + t * 4, *wr = wh + p->hm, *wG = w + 2 * p->hm + t * 4, *Qg = p->Qg + t * (m * 4);
    const double q = p->q[t], rho = p->rho[0];
    double X[6][12], N[3][12], R[3][4];
    for (int i = 0; i < m; i++) {
        for (int b = 0; b < deep; b += LANES) {
            TO(X[i], b) = AT(V + i * sx, b);
            TO(X[m + i], b) = AT(V + (4 + i) * sx, b);
        }
        add(X[i], Qg + i * 4, 1.0, 4);
        bump(X[i], i, wG[i]);
        bump(X[m + i], 4 + i, q);
    }
    for (int i = 0; i < m; i++) {
        double W[12];
        const double *L = p->L + i;
        for (int b = 0; b < deep; b += LANES) {
            vec gaps = AT(X[i], b), states = L[0] * AT(X[m], b) + L[4] * AT(X[m + 1], b);
            if (!p->plain) {
                gaps = p->E[i] * AT(X[0], b) + p->E[4 + i] * AT(X[1], b);
                if (m == 3) gaps += p->E[8 + i] * AT(X[2], b);
            }
            if (m == 3) states += L[8] * AT(X[m + 2], b);
            if (after) states += AT(V + (8 + i) * sx, b);
            TO(W, b) = states - gaps;
        }
        for (int b = 0; b < 4; b += LANES) {
            vec gaps = AT(W, b), states = W[4] * AT(p->L, b) + W[5] * AT(p->L + 4, b);
            if (!p->plain) {
                gaps = W[0] * AT(p->E, b) + W[1] * AT(p->E + 4, b);
                if (m == 3) gaps += W[2] * AT(p->E + 8, b);
            }
            if (m == 3) states += W[6] * AT(p->L + 8, b);
            vec rest = AT(p->lam + i * 4, b);
            if (after) rest += AT(W, 8 + b);
            TO(R[i], b) = states + (rest - gaps);
            TO(N[i], b) = AT(W, b), TO(N[i], 4 + b) = rho * AT(W, 4 + b), TO(N[i], 8 + b) = EACH(0.0);
        }
        R[i][i] += wh[i] + wr[i];
        N[i][8 + i] = -wr[i];
    }
    if (!gains(R, N, F, span, m, quick)) return 0;
    for (int part = 0; part < (now ? 3 : 2); part++)
        for (int i = 0; i < m; i++) {
            const int a = 4 * part + i;
            double *to = value + a * sx;
            for (int b = 0; b < span; b += LANES) {
                vec sum = N[0][a] * AT(F + other, b) + N[1][a] * AT(F + SLICE + other, b);
                if (m == 3) sum += N[2][a] * AT(F + 2 * SLICE + other, b);
                if (part < 2 && b < 8)
                    sum = ((part ? rho : 1.0) * (b < 4 ? 1.0 : rho)) * AT(X[m * part + i], b) - sum;
                else
                    sum = -sum;
                TO(to, b) = sum;
            }
            if (part == 2) bump(to, 8 + i, wr[i]);
        }
    return 1;
}

/* f[0] times a row of four, and so on, m rows in all. */
#define MIX(f, rows, stride, b) \
    (m == 3 ? ((f)[0] * AT(rows, b) + (f)[1] * AT((rows) + (stride), b)) + (f)[2] * AT((rows) + 2 * (stride), b) \
            : (f)[0] * AT(rows, b) + (f)[1] * AT((rows) + (stride), b))

static ALWAYS int back_even(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *count,
                            int keep, const int m, const int quick) {
    const int hm = p->hm, size = (8 + m) * 12, other = quick ? 4 : 16;
    const double *E = p->E, *L = p->L, *lam = p->lam, rho = p->rho[0];
    double s[12] = {0.0}, c[4], later[4] = {0.0}; /* costates of G, z and the trades before */
    for (int t = p->H - 1; t >= 0; t--) {
        const int at = 4 * t, after = t + 1 < p->H && count[t + 1] > 0;
        double *Ft = F + t * (m * SLICE), *nu = p->nu + at;
        if (t < keep) {
            const double *V = p->V + (t + 1) * size, *wr = w + hm + at;
            double *value = p->V + t * size;
            const int now = (wr[0] != 0.0) | (wr[1] != 0.0) | (m == 3 && wr[2] != 0.0);
            const int good = after ? (now ? slice_even(p, t, w, V, 1, Ft, value, 1, m, quick)
                                          : slice_even(p, t, w, V, 1, Ft, value, 0, m, quick))
                                   : (now ? slice_even(p, t, w, V, 0, Ft, value, 1, m, quick)
                                          : slice_even(p, t, w, V, 0, Ft, value, 0, m, quick));
            if (!good) return 0;
            count[t] = now;
        }
        if (r != NULL) {
            for (int b = 0; b < 4; b += LANES) TO(c, b) = AT(r + at, b);
        } else {
            const double *h = p->u + at, *G = h + 2 * hm, *yh = y + at, *yr = yh + hm, *yG = yh + 2 * hm;
            const double *Qg = p->Qg + t * (m * 4), q = p->q[t];
            for (int b = 0; b < 4; b += LANES) {
                TO(c, b) = (AT(p->lin + at, b) + AT(yh, b)) + (AT(yr, b) - AT(later, b)) + MIX(h, lam, 4, b);
                TO(s, b) += (AT(p->carry + at, b) + AT(yG, b)) + MIX(G, Qg, 4, b);
                TO(s, 4 + b) += q * AT(p->z + at, b);
                TO(later, b) = AT(yr, b);
            }
        }
        for (int b = 0; b < 4; b += LANES) {
            vec sum = AT(c, b);
            if (after) sum += AT(s, 8 + b);
            if (p->plain) sum -= AT(s, b);
            else sum -= MIX(s, E, 4, b);
            TO(c, b) = sum + MIX(s + 4, L, 4, b);
        }
        if (!quick)
            for (int i = 0; i < m; i++) {
                c[i] *= Ft[i * SLICE + i];
                for (int j = i + 1; j < m; j++) c[j] -= Ft[i * SLICE + j] * c[i];
            }
        for (int b = 0; b < 4; b += LANES) {
            TO(s, b) -= MIX(c, Ft + other, SLICE, b);
            TO(s, 4 + b) = rho * AT(s, 4 + b) - MIX(c, Ft + other + 4, SLICE, b);
            if (count[t] > 0) TO(s, 8 + b) = -MIX(c, Ft + other + 8, SLICE, b);
            if (quick) TO(nu, b) = MIX(c, Ft, SLICE, b);
        }
        if (!quick)
            for (int i = m - 1; i >= 0; i--) {
                double sum = c[i];
                for (int j = i + 1; j < m; j++) sum -= Ft[i * SLICE + j] * nu[j];
                nu[i] = sum * Ft[i * SLICE + i];
            }
    }
    return 1;
}

static ALWAYS void forth_even(cw_mpc *p, const double *F, const int *count, double *du, double *z, const int m) {
    const int hm = p->hm;
    const double *R = p->R, *E = p->F, rho = p->rho[0];
    double x[12] = {0.0}, d[4] = {0.0};
    for (int t = 0; t < p->H; t++) {
        const int at = 4 * t, deep = count[t] > 0 ? 12 : 8;
        const double *K = F + t * (m * SLICE) + 4, *nu = p->nu + at;
        double h[4] = {0.0};
        for (int b = 0; b < 4; b += LANES) TO(x, 8 + b) = AT(d, b);
        for (int i = 0; i < m; i++) h[i] = -(nu[i] + dot(K + i * SLICE, x, deep));
        for (int b = 0; b < 4; b += LANES) {
            TO(du + at, b) = AT(h, b);
            TO(du + hm + at, b) = AT(h, b) - AT(d, b);
            if (p->plain) TO(x, b) -= AT(h, b);
            else TO(x, b) -= MIX(h, E, 4, b);
            TO(x, 4 + b) = rho * (AT(x, 4 + b) + MIX(h, R, 4, b));
            TO(du + 2 * hm + at, b) = AT(x, b);
            if (z != NULL) TO(z + at, b) += AT(x, 4 + b);
            TO(d, b) = AT(h, b);
        }
    }
}

/* The same for one instrument on one exposure with one mode: a slice of the factor is 1/R and the gains on gap, impact
   state and trade before; a value is its six numbers. */
static int back_one(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int keep) {
    const int H = p->H, hm = p->hm;
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
            const double wr = w[hm + t];
            GG += Q + w[2 * hm + t];
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
            s += (p->carry[t] + y[2 * hm + t]) + Q * p->u[2 * hm + t];
            sz += q * p->z[t];
            c = (p->lin[t] + y[t] + y[hm + t] - after) + lam * p->u[t];
            after = y[hm + t];
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

static void forth_one(cw_mpc *p, const double *F, double *du, double *z) {
    const int H = p->H, hm = p->hm;
    double x[2] = {0.0, 0.0}, before = 0.0;
    for (int t = 0; t < H; t++) {
        const double h = forth_slice_one(p, t, F, before, x);
        du[t] = h, du[hm + t] = h - before, du[2 * hm + t] = x[0];
        if (z != NULL) z[t] += x[1];
        before = h;
    }
}

CLONES static int back_two(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *n, int keep) {
    return p->quick ? back_even(p, w, y, r, F, n, keep, 2, 1) : back_even(p, w, y, r, F, n, keep, 2, 0);
}

CLONES static int back_three(cw_mpc *p, const double *w, const double *y, const double *r, double *F, int *n, int keep) {
    return p->quick ? back_even(p, w, y, r, F, n, keep, 3, 1) : back_even(p, w, y, r, F, n, keep, 3, 0);
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

CLONES static void forth_two(cw_mpc *p, const double *F, const int *count, double *du, double *z) {
    forth_even(p, F, count, du, z, 2);
}

CLONES static void forth_three(cw_mpc *p, const double *F, const int *count, double *du, double *z) {
    forth_even(p, F, count, du, z, 3);
}

CLONES static void forth_any(cw_mpc *p, const double *F, const int *count, double *du, double *z) {
    forth_sized(p, F, count, du, z, p->m, p->k, p->M);
}

static void forth(cw_mpc *p, const double *F, const int *count, double *du, double *z) {
    switch (p->kind) {
    case ONE: forth_one(p, F, du, z); break;
    case TWO: forth_two(p, F, count, du, z); break;
    case THREE: forth_three(p, F, count, du, z); break;
    default: forth_any(p, F, count, du, z);
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
            u[p->hm + t] = h - last;
            u[2 * p->hm + t] = G = (G + p->plan[t]) - p->E[0] * h;
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
            s += (p->carry[t] + y[2 * p->hm + t]) + p->Qg[t] * u[2 * p->hm + t];
            sz += p->q[t] * p->z[t];
            grad[t] = ((p->lin[t] + y[t] + y[p->hm + t] - after) + p->lam[0] * u[t]) + (p->L[0] * sz - p->E[0] * s);
            sz *= p->rho[0];
            after = y[p->hm + t];
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
    forth(p, p->base, p->none, p->du, NULL);
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

/* Regimes are numbers, so that rows are judged four at a time: of a trade 0, 1 and -1 between nothing and its cap, 2 and
   -2 at its cap; of a change 0, 1 and -1 at the rate; of a gap 0, 1 and -1 at the kink, 2 and -2 beyond it. */

typedef struct {
    vec off;       /* how far pins are from their targets */
    vec changes;   /* regimes that changed */
    vec row, last; /* which row it is, and the last one whose weight is another than before */
} tally;

/* Where a row has come to by the step du, except at first. */
static ALWAYS void arrive(const double *du, double *u, double *y, const double *w, const double *yh) {
    const vec d = AT(du, 0);
    TO(u, 0) += d;
    TO(y, 0) = AT(yh, 0) + AT(w, 0) * d;
}

/* The row's new regime, weight and price to aim at. */
static ALWAYS void leave(tally *sum, const vec old, const vec now, const vec miss, const vec weight, const vec aim,
                         double *regime, double *w, double *yh) {
    const vec none = EACH(0.0), one = EACH(1.0);
    sum->changes += PICK(EQUAL(now, old), none, one); /* whole numbers: in any order */
    sum->off = PICK(BELOW(sum->off, miss), miss, sum->off);
    sum->last = PICK(EQUAL(weight, AT(w, 0)), sum->last, sum->row);
    sum->row += (double)LANES;
    TO(regime, 0) = now, TO(w, 0) = weight, TO(yh, 0) = aim;
}

static ALWAYS void judge_trades(tally *sum, const int first, double *regime, const double *u, const double *y,
                                const double *c, const double *cap, double *w, double *yh) {
    const vec none = EACH(0.0), one = EACH(1.0), two = EACH(2.0), g = AT(regime, 0), U = AT(u, 0), Y = AT(y, 0);
    const vec C = AT(c, 0), top = AT(cap, 0), side = PICK(BELOW(none, g), one, -one);
    const marks shut = ~BELOW(EACH(SHUT), top);
    vec now = g, miss = none;
    if (!first) {
        const marks moves = EQUAL(g, one) | EQUAL(g, -one), rests = EQUAL(g, none);
        const vec turned = PICK(BELOW(none, C) & BELOW(g * U, none), none, g);
        const vec moving = PICK(BELOW(top, U), two, PICK(BELOW(U, -top), -two, turned));
        const vec resting = PICK(BELOW(C, Y), one, PICK(BELOW(Y, -C), -one, none));
        const vec capped = PICK(BELOW(side * Y, C), side, g);
        now = PICK(shut, none, PICK(moves, moving, PICK(rests, resting, capped)));
        const vec far = MAGNITUDE(U - PICK(rests | shut, none, side * top));
        miss = PICK(EQUAL(now, g) & ~moves, far, PICK(shut & EQUAL(now, none) & ~moves, far, none));
    }
    const marks free = EQUAL(now, one) | EQUAL(now, -one), rest = EQUAL(now, none);
    const vec weight = PICK(free, none, PICK(shut, EACH(SHUT_PIN), EACH(PIN)));
    const vec target = PICK(rest, none, 0.5 * now * top);
    leave(sum, g, now, miss, weight, PICK(free, now * C, Y + weight * (U - target)), regime, w, yh);
}

static ALWAYS void judge_changes(tally *sum, const int first, double *regime, const double *u, const double *y,
                                 const vec rate, double *w, double *yh) {
    const vec none = EACH(0.0), one = EACH(1.0), g = AT(regime, 0), U = AT(u, 0), Y = AT(y, 0);
    const marks limited = BELOW(rate, EACH(BIG));
    vec now = PICK(limited, g, none), miss = none;
    if (!first) {
        const marks held = ~EQUAL(g, none) & limited;
        const vec loose = PICK(BELOW(rate, U), one, PICK(BELOW(U, -rate), -one, none));
        now = PICK(held, PICK(BELOW(g * Y, none), none, g), loose);
        miss = PICK(held & EQUAL(now, g), MAGNITUDE(U - g * rate), none);
    }
    const marks pinned = ~EQUAL(now, none);
    leave(sum, g, now, miss, PICK(pinned, EACH(PIN), none), PICK(pinned, Y + PIN * (U - now * rate), none), regime, w,
          yh);
}

static ALWAYS void judge_gaps(tally *sum, const int first, double *regime, const double *u, const double *y,
                              const double *gmax, const double *p1, const double *p2, double *w, double *yh) {
    const vec none = EACH(0.0), one = EACH(1.0), two = EACH(2.0), g = AT(regime, 0), U = AT(u, 0), Y = AT(y, 0);
    const vec edge = AT(gmax, 0), kink = AT(p1, 0), slope = AT(p2, 0), sign = PICK(BELOW(none, g), one, -one);
    const marks there = BELOW(edge, EACH(BIG)) & (BELOW(none, kink) | BELOW(none, slope));
    vec now = PICK(there, g, none), miss = none;
    if (!first) {
        const marks inside = EQUAL(g, none), at = EQUAL(g, one) | EQUAL(g, -one), kinked = BELOW(none, kink);
        const vec out = PICK(kinked, one, two), along = sign * Y;
        const vec left = PICK(BELOW(edge, U), out, PICK(BELOW(U, -edge), -out, none));
        const vec held = PICK(BELOW(kink, along), 2.0 * sign, PICK(BELOW(along, none), none, g));
        const vec back = PICK(BELOW(sign * U, edge), PICK(kinked, sign, none), g);
        now = PICK(there, PICK(inside, left, PICK(at, held, back)), none);
        miss = PICK(there & at & EQUAL(now, g), MAGNITUDE(U - sign * edge), none);
    }
    const vec to = PICK(BELOW(none, now), one, -one), off = U - to * edge;
    const marks at = EQUAL(now, one) | EQUAL(now, -one), inside = EQUAL(now, none);
    const vec weight = PICK(inside, none, PICK(at, EACH(PIN), slope));
    leave(sum, g, now, miss, weight, PICK(inside, none, PICK(at, Y, to * kink) + weight * off), regime, w, yh);
}

typedef struct {
    int changes, keep; /* regimes that changed; the first slice from which on no weight did */
    double off;        /* how far pins are from their targets */
} sweep;

static ALWAYS void count(sweep *out, const tally *sum, const int wide) {
    const int last = (int)highest(sum->last);
    out->changes += (int)whole(sum->changes);
    out->off = larger(out->off, highest(sum->off));
    if (last >= 0 && last / wide >= out->keep) out->keep = last / wide + 1;
}

static tally tally_from(void) {
#if LANES == 4
    const vec row = {0.0, 1.0, 2.0, 3.0};
#else
    const vec row = 0.0;
#endif
    const tally sum = {EACH(0.0), EACH(0.0), row, EACH(-1.0)};
    return sum;
}

/* Take the step du, except at first; then the regimes that trades, changes, gaps and prices ask for, but at first those
   that are there, and their weights. */
static ALWAYS sweep rejudge_sized(cw_mpc *p, const int first, SIZES) {
    LAYOUT;
    const int hm = p->hm, hk = p->hk;
    double *const rows[5] = {p->regime, p->u, p->y, p->w, p->yh};
    const double *const du = p->du;
    sweep out = {0, 0, 0.0};
    tally sum = tally_from();
#define ROWS(o) rows[0] + (o), rows[1] + (o), rows[2] + (o)
    for (int a = 0; a < hm; a += LANES) {
        if (!first) arrive(du + a, rows[1] + a, rows[2] + a, rows[3] + a, rows[4] + a);
        judge_trades(&sum, first, ROWS(a), p->c + a, p->ceff + a, rows[3] + a, rows[4] + a);
    }
    count(&out, &sum, mp);
    if (p->rated) {
        sum = tally_from();
        const int stride = one ? LANES : mp;
        for (int at = hm; at < 2 * hm; at += stride)
            for (int b = 0; b < stride; b += LANES) {
                const int a = at + b;
                if (!first) arrive(du + a, rows[1] + a, rows[2] + a, rows[3] + a, rows[4] + a);
                judge_changes(&sum, first, ROWS(a), one ? EACH(p->rate[0]) : AT(p->rate, b), rows[3] + a, rows[4] + a);
            }
        count(&out, &sum, mp);
    }
    sum = tally_from();
    for (int b = 0; b < hk; b += LANES) {
        const int a = 2 * hm + b;
        if (!first) arrive(du + a, rows[1] + a, rows[2] + a, rows[3] + a, rows[4] + a);
        if (p->banded) judge_gaps(&sum, first, ROWS(a), p->gmax + b, p->p1 + b, p->p2 + b, rows[3] + a, rows[4] + a);
    }
    count(&out, &sum, kp);
#undef ROWS
    return out;
}
CLONES static sweep rejudge(cw_mpc *p) { return rejudge_sized(p, 0, p->m, p->k, p->M); }
CLONES static sweep rejudge_one(cw_mpc *p) { return rejudge_sized(p, 0, 1, 1, 1); }
CLONES static sweep rejudge_three(cw_mpc *p) { return rejudge_sized(p, 0, 3, 3, 1); }
CLONES static sweep weigh(cw_mpc *p) { return rejudge_sized(p, 1, p->m, p->k, p->M); }

/* The way forth of a Newton step: rows and impact states after it, and the regimes that they ask for. */
static sweep step(cw_mpc *p) {
    forth(p, p->factor, p->count, p->du, p->z);
    return p->kind == ONE ? rejudge_one(p) : p->kind == THREE ? rejudge_three(p) : rejudge(p);
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
        const double g = p->regime[i], cap = p->ceff[i];
        p->u[i] = g == 0.0 ? 0.0 : g == 2.0 ? cap : g == -2.0 ? -cap : p->u[i];
    }
}

/* At most `runs` factorisations of Newton steps from u, y and regimes; 1 where regimes fit each other at the end and
   pins hold as well as they can. Given up where the second one changes more than `room`, or where that is 0 more than the
   first. */
static int newton(cw_mpc *p, int runs, int room, int *used, int most) {
    int first = 0, least = 1 << 30, stall = 0, again = 0, own = 0, settled = 0, keep = p->H;
    roll(p, p->u);
    (void)weigh(p);
    for (;;) {
        if (keep > 0) {
            if ((own >= NEWTON && stall > 0) || own >= runs || *used >= most) return 0;
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
        if (own == 1) first = s.changes;
        if (own == 2 && s.changes > (room > 0 ? room : first)) return 0;
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
    p->live = 0;
    for (int i = 0; i < hm; i++) {
        const int is = i % mp < p->m ? trade_kind(p, i) : 0;
        const double size = fabs(p->u[i]), cap = p->ceff[i], r = p->u[hm + i], d = p->rate[i % mp];
        const int turns = d < BIG && i < p->H * mp;
        double t = is & 2 ? 0.5 * (size + cap) : size + 1.0;
        if (t > size + 1.0) t = size + 1.0;
        p->top[i] = is & 2 ? cap : 0.0, p->limit[i] = turns ? d : 0.0, p->pin[i] = cap <= SHUT ? SHUT_PIN : 0.0;
        p->t[i] = t;
        const double v[5] = {t - p->u[i], t + p->u[i], p->top[i] - t, p->limit[i] - r, p->limit[i] + r};
        for (int j = 0; j < 5; j++) {
            const int live = j < 2 ? is & 1 : j == 2 ? is & 2 : turns;
            const int a = j * hm + i;
            p->live += live != 0;
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
            p->live += live != 0;
            s[a] = live ? larger(v[j], 0.1) : 1.0;
            l[a] = live ? mu / s[a] : 0.0;
        }
    }
}

/* The parts of the slacks that there are, of trades, changes and gaps: from and to. */
#define FROM(part) ((part) == 0 ? 0 : (part) == 1 ? 3 * p->hm : 5 * p->hm)
#define UNTIL(part)                                            \
    ((part) == 0   ? 3 * p->hm                                 \
     : (part) == 1 ? (p->rated ? 5 : 3) * p->hm                \
                   : 5 * p->hm + (p->banded ? 3 : 0) * p->hk)
#define THRICE for (int part = 0; part < 3; part++)

/* Weights of the rows once slacks and epigraphs are eliminated, and what a direction's prices and epigraphs begin with. */
CLONES static void eliminate(cw_mpc *p) {
    const int hm = p->hm, hk = p->hk;
    const double *restrict u = p->u, *restrict y = p->y, *restrict t = p->t, *restrict s = p->s, *restrict l = p->l;
    const double *restrict top = p->top, *restrict limit = p->limit, *restrict pin = p->pin;
    const double *restrict c = p->c, *restrict edge = p->edge, *restrict p1 = p->p1, *restrict p2 = p->p2;
    double *restrict si = p->si, *restrict D = p->D, *restrict w = p->w, *restrict aim = p->aim;
    double *restrict over = p->over, *restrict rest = p->rest, *restrict B = p->B;
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i++) {
            si[i] = (l[i] > 0.0 ? 1.0 : 0.0) / s[i];
            D[i] = l[i] * si[i];
        }
    for (int i = 0; i < hm; i++) {
        const double D0 = D[i], D1 = D[hm + i], D2 = D[2 * hm + i], h = u[i];
        const double h0 = D0 * (t[i] - h - s[i]), h1 = D1 * (t[i] + h - s[hm + i]);
        const double h2 = D2 * (top[i] - t[i] - s[2 * hm + i]);
        const double sum = D0 + D1 + D2, inverse = (sum > 0.0 ? 1.0 : 0.0) / (sum > 0.0 ? sum : 1.0);
        w[i] = (4.0 * D0 * D1 + D2 * (D0 + D1)) * inverse + pin[i];
        over[i] = inverse, B[i] = (D1 - D0) * inverse;
        rest[i] = c[i] + h0 + h1 - h2;
        aim[i] = h1 - h0 + (y[i] + pin[i] * h);
    }
    if (p->rated)
        for (int i = 0; i < hm; i++) {
            const double D3 = D[3 * hm + i], D4 = D[4 * hm + i], r = u[hm + i];
            w[hm + i] = D3 + D4;
            aim[hm + i] = D4 * (limit[i] + r - s[4 * hm + i]) - D3 * (limit[i] - r - s[3 * hm + i]);
        }
    D += 5 * hm, s += 5 * hm, t += hm, over += hm, rest += hm, B += hm, w += 2 * hm, aim += 2 * hm, u += 2 * hm;
    if (p->banded)
        for (int i = 0; i < hk; i++) {
            const double D0 = D[i], D1 = D[hk + i], D2 = D[2 * hk + i], G = u[i], e = t[i];
            const double h0 = D0 * (e - G + edge[i] - s[i]), h1 = D1 * (e + G + edge[i] - s[hk + i]);
            const double h2 = D2 * (e - s[2 * hk + i]);
            const double live = D0 > 0.0 ? 1.0 : 0.0, sum = D0 + D1 + D2 + p2[i];
            const double inverse = live / (sum > 0.0 ? sum : 1.0);
            w[i] = (4.0 * D0 * D1 + (D2 + p2[i]) * (D0 + D1)) * inverse;
            over[i] = inverse, B[i] = (D1 - D0) * inverse;
            rest[i] = p1[i] + p2[i] * e + h0 + h1 + h2;
            aim[i] = h1 - h0;
        }
}

/* Prices of the rows for what q3 aims at; t and e move by -(A + B dh). */
CLONES static void aim(cw_mpc *p) {
    const int hm = p->hm, hk = p->hk;
    const double *restrict q = p->q3, *restrict from = p->aim, *restrict over = p->over, *restrict rest = p->rest;
    const double *restrict B = p->B;
    double *restrict yh = p->yh, *restrict A = p->A;
    for (int i = 0; i < hm; i++) {
        const double gt = rest[i] + q[i] + q[hm + i] - q[2 * hm + i];
        yh[i] = from[i] - q[i] + q[hm + i] - B[i] * gt;
        A[i] = gt * over[i];
    }
    if (p->rated)
        for (int i = 0; i < hm; i++) yh[hm + i] = from[hm + i] - q[3 * hm + i] + q[4 * hm + i];
    q += 5 * hm, from += 2 * hm, over += hm, rest += hm, B += hm, yh += 2 * hm, A += hm;
    if (p->banded)
        for (int i = 0; i < hk; i++) {
            const double ge = rest[i] + q[i] + q[hk + i] + q[2 * hk + i];
            yh[i] = from[i] - q[i] + q[hk + i] - B[i] * ge;
            A[i] = ge * over[i];
        }
}

/* From du: steps of epigraphs, slacks and multipliers. */
CLONES static void expand(cw_mpc *p) {
    const int hm = p->hm, hk = p->hk;
    const double *restrict u = p->u, *restrict du = p->du, *restrict t = p->t, *restrict s = p->s, *restrict l = p->l;
    const double *restrict q = p->q3, *restrict top = p->top, *restrict limit = p->limit, *restrict edge = p->edge;
    const double *restrict D = p->D, *restrict A = p->A, *restrict B = p->B;
    double *restrict ds = p->ds, *restrict dl = p->dl, *restrict dt = p->dt;
    for (int i = 0; i < hm; i++) {
        const double dh = du[i], h = u[i], v = -(A[i] + B[i] * dh);
        dt[i] = v;
        ds[i] = v - dh + (t[i] - h - s[i]);
        ds[hm + i] = v + dh + (t[i] + h - s[hm + i]);
        ds[2 * hm + i] = (top[i] - t[i] - s[2 * hm + i]) - v;
    }
    if (p->rated)
        for (int i = 0; i < hm; i++) {
            const double dr = du[hm + i], r = u[hm + i];
            ds[3 * hm + i] = (limit[i] - r - s[3 * hm + i]) - dr;
            ds[4 * hm + i] = (limit[i] + r - s[4 * hm + i]) + dr;
        }
    if (p->banded)
        for (int i = 0; i < hk; i++) {
            const double dG = du[2 * hm + i], G = u[2 * hm + i], e = t[hm + i], v = -(A[hm + i] + B[hm + i] * dG);
            const int a = 5 * hm + i;
            dt[hm + i] = v;
            ds[a] = v - dG + (e - G + edge[i] - s[a]);
            ds[a + hk] = v + dG + (e + G + edge[i] - s[a + hk]);
            ds[a + 2 * hk] = v + (e - s[a + 2 * hk]);
        }
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i++) dl[i] = -q[i] - D[i] * ds[i] - l[i];
}

/* The longest step, up to 1, that keeps slacks and multipliers positive; *cross is the sum of ds dl. */
CLONES static double longest(const cw_mpc *p, double *cross) {
    const double *ds = p->ds, *dl = p->dl, *si = p->si, *l = p->l;
    vec most = EACH(1.0), sum[PARTS] = NONE;
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i += 4)
            for (int b = 0; b < PARTS; b++) {
                const int at = i + b * LANES;
                const vec a = AT(ds, at), c = AT(dl, at), have = AT(l, at), by = -a * AT(si, at);
                const vec to = -c / PICK(BELOW(EACH(0.0), have), have, EACH(1.0));
                const vec more = PICK(BELOW(to, by), by, to);
                sum[b] += a * c;
                most = PICK(BELOW(most, more), more, most);
            }
    *cross = total(sum);
    return 1.0 / highest(most);
}

/* Sum of complementarities after a step of alpha, and the least of those that are there. */
CLONES static double along(const cw_mpc *p, double alpha, double *least) {
    const double *s = p->s, *l = p->l, *ds = p->ds, *dl = p->dl;
    vec low = EACH(-INFINITY), sum[PARTS] = NONE; /* the least with its sign turned */
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i += 4)
            for (int b = 0; b < PARTS; b++) {
                const int at = i + b * LANES;
                const vec have = AT(l, at), v = (AT(s, at) + alpha * AT(ds, at)) * (have + alpha * AT(dl, at));
                const vec turned = PICK(BELOW(EACH(0.0), have), -v, EACH(-INFINITY));
                sum[b] += v;
                low = PICK(BELOW(low, turned), turned, low);
            }
    *least = -highest(low);
    return total(sum);
}

/* Mean complementarity. */
CLONES static double complementarity(const cw_mpc *p) {
    vec sum[PARTS] = NONE;
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i += 4)
            for (int b = 0; b < PARTS; b++) sum[b] += AT(p->s, i + b * LANES) * AT(p->l, i + b * LANES);
    return p->live ? total(sum) / p->live : 0.0;
}

/* Second order and centring: what the corrector aims at. */
CLONES static void correct(cw_mpc *p, double mu, double centre) {
    const double *restrict ds = p->ds, *restrict dl = p->dl, *restrict si = p->si;
    double *restrict q = p->q3;
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i++) {
            double second = ds[i] * dl[i];
            second = second > mu ? mu : second;
            second = second < -mu ? -mu : second;
            q[i] = (second - centre) * si[i];
        }
}

CLONES static void move(cw_mpc *p, double alpha) {
    const int nt = p->hm + (p->banded ? p->hk : 0);
    double *restrict s = p->s, *restrict l = p->l, *restrict t = p->t, *restrict u = p->u;
    const double *restrict ds = p->ds, *restrict dl = p->dl, *restrict dt = p->dt, *restrict du = p->du;
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i++) {
            const double there = l[i] > 0.0 ? alpha : 0.0;
            s[i] += there * ds[i];
            l[i] += there * dl[i];
        }
    for (int i = 0; i < nt; i++) t[i] += alpha * dt[i];
    for (int i = 0; i < p->hm; i++) u[i] += alpha * du[i];
}

/* The same from trades and prices of the step before. */
static void centre_warm(cw_mpc *p, const double *y) {
    const int hm = p->hm, hk = p->hk, mp = p->mp;
    double *s = p->s, *l = p->l;
    p->live = 0;
    for (int i = 0; i < hm; i++) {
        const int is = i % mp < p->m ? trade_kind(p, i) : 0;
        const double size = fabs(p->u[i]), cap = p->ceff[i], r = p->u[hm + i], d = p->rate[i % mp], c = p->c[i];
        const int turns = d < BIG && i < p->H * mp;
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
            p->live += live != 0;
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
            p->live += live != 0;
            s[a] = live ? larger(v[j], DELTA) : 1.0;
            l[a] = live ? larger(q[j], DELTA) : 0.0;
        }
    }
}

/* The direction that q3 asks for, with factors of the slices before `keep` anew; 0 where there are none. */
static int redirect(cw_mpc *p, int keep) {
    aim(p);
    if (!back(p, p->w, p->yh, NULL, p->factor, p->count, keep)) return 0;
    forth(p, p->factor, p->count, p->du, NULL);
    expand(p);
    return 1;
}

static void exchange(double **a, double **b) {
    double *other = *a;
    *a = *b, *b = other;
}

/* The direction and the one before change places. */
static void other_way(cw_mpc *p) {
    exchange(&p->du, &p->du0), exchange(&p->ds, &p->ds0), exchange(&p->dl, &p->dl0);
    exchange(&p->dt, &p->dt0), exchange(&p->q3, &p->q0), exchange(&p->A, &p->A0);
}

/* Gondzio's corrector: what a longer step would take out of the neighbourhood of the central path is aimed back into
   it. The longest step along the better of both directions, which is the one that is left. */
static double straighten(cw_mpc *p, double most, double centre) {
    const double hope = most + FURTHER < 1.0 ? most + FURTHER : 1.0, low = CENTRAL * centre, high = centre / CENTRAL;
    double cross;
    other_way(p);
    THRICE
        for (int i = FROM(part), n = UNTIL(part); i < n; i++) {
            const double v = (p->s[i] + hope * p->ds0[i]) * (p->l[i] + hope * p->dl0[i]);
            double by = v < low ? low - v : v > high ? high - v : 0.0;
            by = by < -high ? -high : by;
            p->q3[i] = p->q0[i] - (p->l[i] > 0.0 ? by * p->si[i] : 0.0);
        }
    (void)redirect(p, 0);
    const double then = longest(p, &cross);
    if (then > most) return then;
    other_way(p);
    return most;
}

/* One iteration from a mean complementarity of mu, which is the one after it then; 0 where there is no factor. */
static int predict_correct(cw_mpc *p, double *mu) {
    const double old = *mu;
    double least, cross;
    memset(p->q3, 0, sizeof(double) * (size_t)(5 * p->hm + 3 * p->hk));
    eliminate(p);
    if (!redirect(p, p->H)) return 0;
    /* The predictor takes the same part off every complementarity, but for ds dl. */
    const double far = longest(p, &cross), ratio = (1.0 - far) + far * far * cross / (p->live * old);
    const double centre = ratio * ratio * ratio * old;
    correct(p, old, centre);
    (void)redirect(p, 0);
    double most = longest(p, &cross);
    if (most < SHORT) most = straighten(p, most, centre);
    const double keep = 1.0 - old > 0.99 ? 1.0 - old : 0.99;
    double alpha = most >= 1.0 ? keep : keep * most;
    for (int tries = 0; tries < 40; tries++) {
        const double mean = along(p, alpha, &least) / p->live;
        *mu = mean;
        if (least >= 1e-4 * mean) break;
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
    double *regime = p->regime;
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
        regime[i] = g;
        const int a = 3 * hm + i, b = 4 * hm + i, turns = p->rate[i % mp] < BIG && i < p->H * mp;
        p->y[hm + i] = turns ? l[a] - l[b] : 0.0;
        regime[hm + i] = turns ? (l[a] > s[a]) - (l[b] > s[b]) : 0;
    }
    for (int i = 0; i < hk; i++) {
        const int a = 5 * hm + i, b = a + hk, c = b + hk;
        const int up = l[a] > s[a], down = l[b] > s[b], zero = l[c] > s[c];
        p->y[2 * hm + i] = l[a] - l[b];
        regime[2 * hm + i] = up ? (zero ? 1 : 2) : down ? (zero ? -1 : -2) : 0;
    }
}

/* ---- one step --------------------------------------------------------------------------------------------------- */

/* Whether all data lie within low..BIG in units, a limit also beyond; a NaN does not. */
static ALWAYS int sound(const double *from, size_t count, double scale, double low, int limit) {
    const double high = limit ? INFINITY : BIG, least = low < 0.0 ? -INFINITY : 0.0;
    size_t i = 0;
    int bad = 0;
#if LANES == 4
    marks any = {0};
    for (; i + 4 <= count; i += 4) {
        const vec v = AT(from, i), x = v * scale;
        any |= ~((x >= low) & (x <= high) & (v >= least)); /* tiny negative numbers may be scaled to zero */
    }
    bad = (any[0] | any[1] | any[2] | any[3]) != 0;
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

/* Rows of `count` numbers into rows of `wide`, in whose padding `rest` stands; of limits, what is beyond BIG is none and
   what is below TINY is zero. */
static ALWAYS void spread_rows(double *to, const double *from, int rows, int count, int wide, double scale, int limit,
                               double rest) {
    const int all = rows * count;
    (void)rest;
    if (count == wide) rows = 1, wide = count = all; /* one after the other */
    for (int t = 0; t < rows; t++) {
        const double *row = from + t * count;
        double *out = to + t * wide;
        int b = 0;
#if LANES == 4
        const vec lane = {0.0, 1.0, 2.0, 3.0};
        for (; b < count && t * count + b + 4 <= all; b += 4) {
            vec v = AT(row, b) * scale;
            if (limit) v = PICK(BELOW(v, EACH(TINY)), EACH(0.0), PICK(BELOW(v, EACH(BIG)), v, EACH(INFINITY)));
            if (b + 4 > count) v = PICK(BELOW(lane, EACH((double)(count - b))), v, EACH(rest));
            TO(out, b) = v;
        }
#endif
        for (; b < count; b++) {
            double v = row[b] * scale;
            if (limit) v = v < TINY ? 0.0 : v < BIG ? v : INFINITY;
            out[b] = v;
        }
    }
}

static void spread(double *to, const double *from, int rows, int count, int wide, double scale) {
    spread_rows(to, from, rows, count, wide, scale, 0, 0.0);
}

/* Take the data in units; 0, and nothing changed, where they are refused. */
CLONES static int load(cw_mpc *p, const cw_mpc_data *d) {
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
    spread_rows(p->plan, d->plan, H, k, kp, u, 0, 0.0);
    spread_rows(p->lin, d->linear, H, m, mp, g, 0, 0.0);
    spread_rows(p->carry, d->carry, H, k, kp, g, 0, 0.0);
    spread_rows(p->c, d->spread, H, m, mp, g, 0, 0.0);
    spread_rows(p->cap, d->cap, H, m, mp, u, 1, 0.0);
    spread_rows(p->rate, d->rate, 1, m, mp, u, 1, INFINITY);
    spread_rows(p->gmax, d->gap_cap, H, k, kp, u, 1, INFINITY);
    spread_rows(p->p1, d->price, H, k, kp, g, 0, 0.0);
    spread_rows(p->p2, d->curve, H, k, kp, bend, 0, 0.0);
    return 1;
}

static void clear(cw_mpc *p, int from, int count) {
    const size_t bytes = (size_t)count * sizeof(double);
    memset(p->y + from, 0, bytes), memset(p->w + from, 0, bytes), memset(p->yh + from, 0, bytes);
    memset(p->regime + from, 0, bytes);
}

/* Which kinds of rows there are; of those that are not, nothing is left over. */
static void look(cw_mpc *p) {
    p->rated = p->banded = 0;
    for (int i = 0; i < p->m; i++) p->rated |= p->rate[i] < BIG;
    for (int i = 0; i < p->hk; i++) p->banded |= p->gmax[i] < BIG;
    if (!p->rated) clear(p, p->hm, p->hm);
    if (!p->banded) clear(p, 2 * p->hm, p->hk);
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
        for (int a = (p->H - 1) * mp + i; a >= 0; a -= mp) {
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
        double *u = p->u + at[j], *y = p->y + at[j], *g = p->regime + at[j];
        memmove(u, u + gone, kept * sizeof(double));
        memmove(y, y + gone, kept * sizeof(double));
        memmove(g, g + gone, kept * sizeof(double));
        memset(u + kept, 0, gone * sizeof(double));
        memset(y + kept, 0, gone * sizeof(double));
        memset(g + kept, 0, gone * sizeof(double));
    }
}

static void at_rest(cw_mpc *p) {
    memset(p->y, 0, (size_t)p->hr * sizeof(double));
    memset(p->regime, 0, (size_t)p->hr * sizeof(double));
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
    double mu = complementarity(p);
    while (*used < work) {
        int stuck = warm && *steps >= WARM && mu > NEXT; /* the last prices were no help: once more, from none */
        if (!stuck && p->live > 0 && !(mu <= next)) {
            (*used)++;
            stuck = !predict_correct(p, &mu);
            if (!stuck) {
                (*steps)++;
                continue;
            }
            if (!warm || mu <= EARLY) break; /* from there on rounding ends it: what there is will do */
        }
        if (stuck) {
            warm = 0, next = first;
            restart(p, g);
            centre_cold(p);
            mu = complementarity(p);
            continue;
        }
        while (next >= mu && next > END) next = next > 1e-5 ? 1e-6 : next > 1e-7 ? 1e-8 : next > 1e-10 ? 1e-11 : END;
        memcpy(p->keep, p->u, hr);
        memcpy(p->keep_y, p->y, hr); /* of trades that are shut */
        cross_over(p);
        if (newton(p, NEWTON, mu > EARLY ? HASTY : 0, used, work)) {
            snap(p);
            if (judge(p, g, tol)) return 1;
        }
        memcpy(p->u, p->keep, hr);
        memcpy(p->y, p->keep_y, hr);
        roll(p, p->u);
        if (p->live == 0 || mu <= END) break; /* where limits leave prices open, regimes need not settle */
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
    look(p);
    if (p->warm > COLD) {
        shift_rows(p, shift);
    } else {
        memset(p->u, 0, (size_t)p->hr * sizeof(double));
        at_rest(p);
    }
    memcpy(p->plan0, p->u, bytes);
    memcpy(p->y0, p->y, (size_t)p->hr * sizeof(double));
    if (p->warm == SETTLED && (p->gated < GATE || (p->fallbacks = (p->fallbacks + 1) & 7) == 0)) {
        settled = newton(p, LONGER, 1 << 30, &used, work);
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
    const double gap = larger(g.value - g.bound, 0.0);
    out.status = gap <= tol * larger(g.size, TINY) ? CW_MPC_OPTIMAL : CW_MPC_CERTIFIED;
    if (!settled) { /* the next step starts from the plan alone; what proved nothing is no price */
        if (out.status != CW_MPC_OPTIMAL) at_rest(p);
        memcpy(p->u, p->best, bytes);
    }
    p->warm = settled ? SETTLED : PLAN;
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
    unsigned char *regime = at + sizeof h + 2 * hr * sizeof(double);
    for (size_t i = 0; i < hr; i++) regime[i] = (unsigned char)(signed char)p->regime[i];
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
    for (size_t i = 0; i < hr; i++) p->regime[i] = (signed char)regime[i];
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
    const int even = p->kind == TWO || p->kind == THREE, wide = even ? SLICE : p->mp + p->sx;
    memset(p->grad, 0, (size_t)p->hm * sizeof(double));
    if (!back(p, p->w, NULL, p->grad, p->base, p->none, p->H)) return 0;
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++) {
            const double v = p->kind == ONE ? p->base[4 * t] : p->base[(t * p->m + i) * wide + i];
            const double inverse = p->kind == ONE || p->quick ? v : v * v;
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
    for (int a = 0; a < p->ng; a++)
        p->sc[a] = a < k ? 1.0 : a < kb ? 0.0 : (a - kb) % mb < m ? p->rho[(a - kb) / mb] : 0.0;
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
    for (int i = 0; i < p->hk; i++)
        if (i >= H * kp || i % kp >= k) p->gmax[i] = INFINITY;
    p->soft = least_curvature(lam, p->factor, p->x, m);
    memset(p->V, 0, mm * sizeof(double));
    p->quick = p->plain && (p->kind == TWO || p->kind == THREE);
    if (p->quick && !convex(p, 1e-9)) p->quick = 0; /* nearly singular: by elimination */
    if (!p->quick && !convex(p, 1e-9)) {
        for (int i = 0; i < m; i++) p->lam[i * (mp + 1)] += RIDGE;
        if (!convex(p, 1e-3 * RIDGE)) return NULL;
    }
    return p;
}
