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
#define STALL 4
#define HELD 1e-9      /* how near to their targets pinned rows are */
#define MOST 1e8       /* numbers in the largest array */
#define ROUNDING 1e-15 /* of the cost's size, left for the rounding of both sides of a gap */
#define SAVED 1        /* version of the saved bytes */
#define TINY 1e-200    /* limits and trades below it are zero, so that scaling by powers of two is exact */
#ifndef PUSH
#define PUSH 0.1
#endif
#ifndef MU0
#define MU0 1.0
#endif

/* Slacks of a slice: for each trade 0 t - h, 1 t + h, 2 cap - t, 3 rate - r, 4 rate + r; for each gap then
   0 e - G + gmax, 1 e + G + gmax, 2 e. A slack that is not there has a multiplier of zero. */
#define HS 5
#define GS 3

/* What a step finds of the one before: nothing, a plan, or a plan with prices and regimes that fit each other. */
enum { COLD, PLAN, SETTLED };

struct cw_mpc {
    int m, k, M, H;
    int ng, nx;         /* states without and with h_{t-1} */
    int rows;           /* m trades, k gaps, m rates in a slice */
    int wide;           /* length of a row of [R | N] */
    int warm, gated, fallbacks;
    double unit, root, cost; /* powers of two: scaling by them is exact; cost is that of root squared */
    uint64_t hash;      /* of the model */
    double soft;        /* a lower bound on the curvature of the cost, 0 where none is known */
    int *from;          /* m + 1: where the entries of Gamma begin, instrument by instrument */
    int *at;
    double *value;
    double *E, *lam2, *L, *rho, *q, *Qg; /* scaled model */
    double *factor, *base;               /* H x m x wide: of the weighted matrix, and of P */
    double *V, *W;                       /* nx x nx */
    double *G0, *z0, *last;
    double *plan, *lin, *carry, *c, *cap, *ceff, *rate, *gmax, *p1, *p2;
    double *u, *y, *w, *wf, *yh, *du;    /* H x rows: rows h, G, r; prices; weights; weights of the factor */
    double *keep, *keep_y, *row;         /* H x rows: u and y over a crossover; of the trades considered last */
    double *z, *az;                      /* H x M m, costates */
    double *grad, *nu, *best, *trial, *plan0; /* H x m; the last is the shifted plan */
    double *t, *s, *l, *ls, *ds, *rc;    /* interior point: epigraphs H x (m + k), slacks, multipliers, their steps */
    double *si, *li, *D;                 /* 1/s, 1/l and l/s, zero where a slack is not there */
    double *dt, *slot, *x, *a, *pi;
    signed char *regime;                 /* H x rows */
};

/* The hot loops are compiled with sizes that the compiler knows for the usual ones, and once for all others. */
#if defined(__GNUC__)
#define ALWAYS inline __attribute__((always_inline))
#else
#define ALWAYS inline
#endif
#define SIZES const int m, const int k, const int M
#define SIZED(name, p, ...)                                                                       \
    ((p)->m == 1 && (p)->k == 1 && (p)->M == 1   ? name(p, __VA_ARGS__, 1, 1, 1)                  \
     : (p)->m == 1 && (p)->k == 1                ? name(p, __VA_ARGS__, 1, 1, (p)->M)             \
     : (p)->m == 2 && (p)->k == 2 && (p)->M == 1 ? name(p, __VA_ARGS__, 2, 2, 1)                  \
     : (p)->m == 3 && (p)->k == 3 && (p)->M == 1 ? name(p, __VA_ARGS__, 3, 3, 1)                  \
                                                 : name(p, __VA_ARGS__, (p)->m, (p)->k, (p)->M))

/* Work arrays of small sizes are local, so that they stay in registers once the loops over them are unrolled. */
#define SMALL 10
#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 4")
#else
#define UNROLL
#endif

/* Entries of a column of Gamma: all of them for one instrument, those that are not zero for more. */
#define FROM(i) (m == 1 ? (i) * nx : p->from[i])
#define AT(n) (m == 1 ? (n) : p->at[n])

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static size_t take(size_t *used, size_t count, size_t size) {
    size_t at = (*used + 15) & ~(size_t)15;
    *used = at + count * size;
    return at;
}

static size_t layout(cw_mpc *p, char *base, const cw_mpc_dims *d) {
    int m = d->instruments, k = d->exposures, M = d->modes, H = d->horizon;
    if (m < 1 || k < 1 || M < 0 || H < 1 || m > 1000 || k > 1000 || M > 100 || H > 100000) return 0;
    size_t used = sizeof(cw_mpc);
    int ng = k + M * m, nx = ng + m, rows = 2 * m + k, wide = m + nx;
    /* Every index below fits an int. */
    if ((double)H * (m * (double)wide + k * (double)k + HS * m + GS * k) > MOST || (double)nx * nx > MOST) return 0;
    if (p != NULL) {
        p->m = m, p->k = k, p->M = M, p->H = H;
        p->ng = ng, p->nx = nx, p->rows = rows, p->wide = wide;
    }
#define TAKE(field, count, type)                                             \
    do {                                                                     \
        size_t spot = take(&used, (size_t)(count), sizeof(type));            \
        if (p != NULL) p->field = (type *)(void *)(base + spot);             \
    } while (0)
    TAKE(from, m + 1, int);
    TAKE(at, (size_t)m * (size_t)nx, int);
    TAKE(value, (size_t)m * (size_t)nx, double);
    TAKE(E, k * m, double);
    TAKE(lam2, m * m, double);
    TAKE(L, M * m * m, double);
    TAKE(rho, M, double);
    TAKE(q, (size_t)H * (size_t)M, double);
    TAKE(Qg, (size_t)H * (size_t)(k * k), double);
    TAKE(factor, (size_t)H * (size_t)m * (size_t)wide, double);
    TAKE(base, (size_t)H * (size_t)m * (size_t)wide, double);
    TAKE(V, (size_t)nx * (size_t)nx, double);
    TAKE(W, (size_t)m * (size_t)nx, double);
    TAKE(G0, k, double);
    TAKE(z0, M * m, double);
    TAKE(last, m, double);
    size_t hm = (size_t)H * (size_t)m, hk = (size_t)H * (size_t)k, hr = (size_t)H * (size_t)rows;
    TAKE(plan, hk, double);
    TAKE(lin, hm, double);
    TAKE(carry, hk, double);
    TAKE(c, hm, double);
    TAKE(cap, hm, double);
    TAKE(ceff, hm, double);
    TAKE(rate, m, double);
    TAKE(gmax, hk, double);
    TAKE(p1, hk, double);
    TAKE(p2, hk, double);
    TAKE(u, hr, double);
    TAKE(keep, hr, double);
    TAKE(keep_y, hr, double);
    TAKE(row, hr, double);
    TAKE(y, hr, double);
    TAKE(w, hr, double);
    TAKE(wf, hr, double);
    TAKE(yh, hr, double);
    TAKE(du, hr, double);
    TAKE(z, (size_t)H * (size_t)(M * m), double);
    TAKE(az, M * m, double);
    TAKE(grad, hm, double);
    TAKE(nu, hm, double);
    TAKE(best, hm, double);
    TAKE(trial, hm, double);
    TAKE(plan0, hm, double);
    TAKE(t, (size_t)H * (size_t)(m + k), double);
    TAKE(s, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(l, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(ls, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(ds, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(rc, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(si, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(li, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(D, (size_t)H * (size_t)(HS * m + GS * k), double);
    TAKE(dt, (size_t)H * (size_t)(m + k), double);
    TAKE(slot, HS * m + GS * k, double);
    TAKE(x, nx, double);
    TAKE(a, m > k ? m : k, double);
    TAKE(pi, nx, double);
    TAKE(regime, hr, signed char);
#undef TAKE
    return used;
}

size_t cw_mpc_bytes(const cw_mpc_dims *dims) { return layout(NULL, NULL, dims); }

/* ---- the kernel: (P + A' diag(w) A) d = -r by a Riccati recursion ------------------------------------------------ */

/* Eliminate [R | N] of one slice: R = U'U in its left part, U'^-1 N in its right one. */
static ALWAYS int eliminate(double *F, const int m, const int wide, const int width) {
    for (int j = 0; j < m; j++) {
        double *row = F + j * wide;
        double pivot = row[j];
        if (!(pivot > 0.0)) return 0;
        double scale = 1.0 / sqrt(pivot);
        for (int b = j; b < width; b++) row[b] *= scale;
        for (int i = j + 1; i < m; i++) {
            double *other = F + i * wide, f = row[i];
            if (f == 0.0) continue;
            for (int b = i; b < width; b++) other[b] -= f * row[b];
        }
        row[j] = scale; /* the reciprocal of the diagonal is what is needed */
    }
    return 1;
}

static ALWAYS int factorise_sized(cw_mpc *p, const double *w, double *F, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    double near_V[SMALL], near_W[SMALL];
    double *V = m == 1 && nx * nx <= SMALL ? near_V : p->V, *W = m == 1 && nx * nx <= SMALL ? near_W : p->W;
    for (int b = 0; b < nx * nx; b++) V[b] = 0.0;
    int after = 0; /* whether the value depends on the trade before */
    for (int t = H - 1; t >= 0; t--) {
        const double *wt = w + t * rows, *Qg = p->Qg + t * (k * k);
        double *Ft = F + t * (m * wide);
        int now = 0;
        for (int i = 0; i < m; i++) now |= wt[m + k + i] != 0.0;
        for (int e = 0; e < k; e++) {
            for (int f = 0; f < k; f++) V[e * nx + f] += Qg[e * k + f];
            V[e * nx + e] += wt[m + e];
        }
        for (int j = 0; j < M; j++)
            for (int i = 0; i < m; i++) V[(k + j * m + i) * (nx + 1)] += p->q[t * M + j];
        /* rows of Gamma'V, and of [R | N] */
        const int deep = m == 1 || after ? nx : ng;
        for (int i = 0; i < m; i++) {
            double *row = W + i * nx;
            UNROLL
            for (int b = 0; b < deep; b++) row[b] = 0.0;
            for (int n = FROM(i); n < FROM(i + 1); n++) {
                int a = AT(n);
                if (a >= deep) continue;
                const double f = p->value[n], *from = V + a * nx;
                UNROLL
                for (int b = 0; b < deep; b++) row[b] += f * from[b];
            }
        }
        for (int i = 0; i < m; i++) {
            double *row = Ft + i * wide, *from = W + i * nx;
            for (int j = i; j < m; j++) {
                double sum = p->lam2[i * m + j];
                for (int n = FROM(j); n < FROM(j + 1); n++)
                    if (AT(n) < deep) sum += p->value[n] * from[AT(n)];
                row[j] = sum;
            }
            row[i] += wt[i] + wt[m + k + i];
            for (int b = 0; b < k; b++) row[m + b] = from[b];
            for (int j = 0; j < M; j++)
                for (int b = 0; b < m; b++) row[m + k + j * m + b] = p->rho[j] * from[k + j * m + b];
            if (m == 1 || now) {
                for (int b = 0; b < m; b++) row[m + ng + b] = 0.0;
                row[m + ng + i] = -wt[m + k + i];
            }
        }
        const int width = m + (m == 1 || now ? nx : ng);
        if (!eliminate(Ft, m, wide, width)) return 0;
        /* V <- S V S + blk(0, 0, wr) - Y'Y */
        for (int j = 0; j < M; j++) {
            double f = p->rho[j];
            for (int a = k + j * m; a < k + (j + 1) * m; a++)
                for (int b = 0; b < ng; b++) V[a * nx + b] *= f;
            for (int a = 0; a < ng; a++)
                for (int b = k + j * m; b < k + (j + 1) * m; b++) V[a * nx + b] *= f;
        }
        if (m == 1 || after || now) {
            for (int a = 0; a < nx; a++)
                for (int b = a < ng ? ng : 0; b < nx; b++) V[a * nx + b] = 0.0;
            if (m == 1 || now)
                for (int i = 0; i < m; i++) V[(ng + i) * (nx + 1)] = wt[m + k + i];
        }
        const int span = m == 1 || now ? nx : ng;
        /* V is symmetric: its upper half, then the mirror. Four rows of Y at a time spare loads and stores of V; the
           order of the subtractions stays, and so do the bits. */
        for (int a = 0; a < span; a++) {
            double *row = V + a * nx;
            const double *Y = Ft + m;
            int i = 0;
            for (; i + 4 <= m; i += 4, Y += 4 * wide) {
                const double *Y1 = Y + wide, *Y2 = Y1 + wide, *Y3 = Y2 + wide;
                const double f0 = Y[a], f1 = Y1[a], f2 = Y2[a], f3 = Y3[a];
                for (int b = a; b < span; b++) row[b] = row[b] - f0 * Y[b] - f1 * Y1[b] - f2 * Y2[b] - f3 * Y3[b];
            }
            for (; i < m; i++, Y += wide) {
                const double f = Y[a];
                for (int b = a; b < span; b++) row[b] -= f * Y[b];
            }
        }
        for (int a = 1; a < span; a++)
            for (int b = 0; b < a; b++) V[a * nx + b] = V[b * nx + a];
        /* tell the solve how far the rows of this slice reach */
        after = now;
    }
    return 1;
}

/* For many instruments a factorisation is most of the work. Where the loader can choose by the processor, it is there
   twice; without fused operations both give the same bits. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(CW_MPC_PORTABLE)
__attribute__((target_clones("avx2", "default")))
#endif
static int factorise_any(cw_mpc *p, const double *w, double *F) {
    return factorise_sized(p, w, F, p->m, p->k, p->M);
}

static int factorise(cw_mpc *p, const double *w, double *F) {
    if (p->m > 3) return factorise_any(p, w, F);
    return SIZED(factorise_sized, p, w, F);
}

/* d = -(P + A'wA)^-1 r into the trades of `du`, and what it does to gaps and rates. w is that of the factor. */
static ALWAYS void solve_sized(cw_mpc *p, const double *F, const double *w, const double *r, double *du, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    double near_pi[SMALL], near_x[SMALL];
    double *pi = m == 1 && nx <= SMALL ? near_pi : p->pi, *x = m == 1 && nx <= SMALL ? near_x : p->x, *a = p->a;
    UNROLL
    for (int b = 0; b < nx; b++) pi[b] = 0.0;
    for (int t = H - 1; t >= 0; t--) {
        const double *Ft = F + t * (m * wide), *wt = w + t * rows;
        double *nu = p->nu + t * m;
        int now = 0;
        for (int i = 0; i < m; i++) now |= wt[m + k + i] != 0.0;
        for (int i = 0; i < m; i++) {
            double sum = r[t * m + i];
            for (int n = FROM(i); n < FROM(i + 1); n++) sum += p->value[n] * pi[AT(n)];
            nu[i] = sum;
        }
        for (int i = 0; i < m; i++) {
            nu[i] *= Ft[i * wide + i];
            for (int j = i + 1; j < m; j++) nu[j] -= Ft[i * wide + j] * nu[i];
        }
        for (int j = 0; j < M; j++)
            for (int b = k + j * m; b < k + (j + 1) * m; b++) pi[b] *= p->rho[j];
        for (int b = ng; b < nx; b++) pi[b] = 0.0;
        const int span = m == 1 || now ? nx : ng;
        for (int i = 0; i < m; i++) {
            const double *Y = Ft + i * wide + m, f = nu[i];
            UNROLL
            for (int b = 0; b < span; b++) pi[b] -= f * Y[b];
        }
    }
    UNROLL
    for (int b = 0; b < nx; b++) x[b] = 0.0;
    for (int t = 0; t < H; t++) {
        const double *Ft = F + t * (m * wide), *wt = w + t * rows;
        const double *nu = p->nu + t * m;
        double *out = du + t * rows;
        int now = 0;
        for (int i = 0; i < m; i++) now |= wt[m + k + i] != 0.0;
        const int span = m == 1 || now ? nx : ng;
        for (int i = 0; i < m; i++) {
            const double *Y = Ft + i * wide + m;
            double sum = nu[i];
            UNROLL
            for (int b = 0; b < span; b++) sum += Y[b] * x[b];
            a[i] = sum;
        }
        for (int i = m - 1; i >= 0; i--) {
            const double *U = Ft + i * wide;
            double sum = a[i];
            for (int j = i + 1; j < m; j++) sum += U[j] * out[j];
            out[i] = -sum * U[i];
        }
        for (int i = 0; i < m; i++) out[m + k + i] = out[i] - x[ng + i];
        for (int j = 0; j < M; j++)
            for (int b = k + j * m; b < k + (j + 1) * m; b++) x[b] *= p->rho[j];
        for (int i = 0; i < m; i++) {
            for (int n = FROM(i); n < FROM(i + 1); n++)
                if (AT(n) < ng) x[AT(n)] += p->value[n] * out[i];
            x[ng + i] = out[i];
        }
        for (int e = 0; e < k; e++) out[m + e] = x[e];
    }
}

static void solve(cw_mpc *p, const double *F, const double *w, const double *r, double *du) {
    SIZED(solve_sized, p, F, w, r, du);
}

/* ---- the program ------------------------------------------------------------------------------------------------ */

/* Gaps, impact states and rates of the trades in u. */
static ALWAYS void roll_sized(cw_mpc *p, double *u, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    const double *G = p->G0, *z = p->z0, *h = p->last;
    for (int t = 0; t < H; t++) {
        double *now = u + t * rows, *zt = p->z + t * (M * m);
        for (int e = 0; e < k; e++) {
            double sum = G[e] + p->plan[t * k + e];
            for (int i = 0; i < m; i++) sum -= p->E[e * m + i] * now[i];
            now[m + e] = sum;
        }
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++) {
                double sum = z[j * m + b];
                for (int i = 0; i < m; i++) sum += p->L[(j * m + i) * m + b] * now[i];
                zt[j * m + b] = p->rho[j] * sum;
            }
        for (int i = 0; i < m; i++) now[m + k + i] = now[i] - h[i];
        G = now + m, z = zt, h = now;
    }
}

static void roll(cw_mpc *p, double *u) {
    SIZED(roll_sized, p, u);
}

/* Gradient of f + A'y at the trades in u, whose states are rolled. */
static ALWAYS void gradient_sized(cw_mpc *p, const double *u, const double *y, double *grad, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    double near_G[SMALL], near_z[SMALL];
    double *aG = m == 1 && nx <= SMALL ? near_G : p->x, *az = m == 1 && nx <= SMALL ? near_z : p->az;
    for (int e = 0; e < k; e++) aG[e] = 0.0;
    for (int b = 0; b < M * m; b++) az[b] = 0.0;
    for (int t = H - 1; t >= 0; t--) {
        const double *ut = u + t * rows, *yt = y + t * rows;
        const double *Qg = p->Qg + t * (k * k), *zt = p->z + t * (M * m);
        double *g = grad + t * m;
        for (int e = 0; e < k; e++) {
            double sum = p->carry[t * k + e] + yt[m + e];
            for (int f = 0; f < k; f++) sum += Qg[e * k + f] * ut[m + f];
            aG[e] += sum;
        }
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++)
                az[j * m + b] = p->q[t * M + j] * zt[j * m + b] + az[j * m + b];
        for (int i = 0; i < m; i++) {
            double sum = p->lin[t * m + i] + yt[i] + yt[m + k + i];
            if (t + 1 < H) sum -= yt[rows + m + k + i];
            for (int b = 0; b < m; b++) sum += p->lam2[i * m + b] * ut[b];
            for (int e = 0; e < k; e++) sum -= p->E[e * m + i] * aG[e];
            for (int j = 0; j < M; j++) {
                double part = 0.0;
                for (int b = 0; b < m; b++) part += p->L[(j * m + i) * m + b] * az[j * m + b];
                sum += p->rho[j] * part;
            }
            g[i] = sum;
        }
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++) az[j * m + b] *= p->rho[j];
    }
}

static void gradient(cw_mpc *p, const double *u, const double *y, double *grad) {
    SIZED(gradient_sized, p, u, y, grad);
}

static double larger(double a, double b) { return a > b ? a : b; }

static double excess(double value, double cap) {
    double over = fabs(value) - cap;
    return over > 0.0 ? over : 0.0;
}

/* Cost at u, whose states are rolled; *size is the sum of its absolute parts. */
static ALWAYS double objective_sized(const cw_mpc *p, const double *u, double *size, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    double plus = 0.0, either = 0.0, scale = 0.0;
    for (int b = 0; b < M * m; b++) either -= 0.5 * p->z0[b] * p->z0[b], scale += 0.5 * p->z0[b] * p->z0[b];
    for (int t = 0; t < H; t++) {
        const double *ut = u + t * rows, *zt = p->z + t * (M * m);
        const double *Qg = p->Qg + t * (k * k);
        for (int i = 0; i < m; i++) {
            double sum = 0.0;
            for (int b = 0; b < m; b++) sum += p->lam2[i * m + b] * ut[b];
            plus += p->c[t * m + i] * fabs(ut[i]) + 0.5 * ut[i] * sum;
            either += p->lin[t * m + i] * ut[i];
            scale += fabs(p->lin[t * m + i] * ut[i]);
        }
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++) plus += 0.5 * p->q[t * M + j] * zt[j * m + b] * zt[j * m + b];
        for (int e = 0; e < k; e++) {
            double sum = 0.0, over = excess(ut[m + e], p->gmax[t * k + e]);
            for (int f = 0; f < k; f++) sum += Qg[e * k + f] * ut[m + f];
            plus += 0.5 * ut[m + e] * sum + over * (p->p1[t * k + e] + 0.5 * p->p2[t * k + e] * over);
            either += p->carry[t * k + e] * ut[m + e];
            scale += fabs(p->carry[t * k + e] * ut[m + e]);
        }
    }
    *size = fabs(plus) + scale;
    return plus + either;
}

static double objective(const cw_mpc *p, const double *u, double *size) {
    return SIZED(objective_sized, p, u, size);
}

/* A bound on cost(u) less the least cost, from any prices y: Fenchel's inequality on the rows, half |residual|^2 in the
   norm of P^-1 on the rest, or over the least curvature where that is no more than `slack`. */
static double proven(cw_mpc *p, const double *u, const double *y, double slack) {
    const int m = p->m, k = p->k, H = p->H, rows = p->rows;
    double gap = 0.0;
    double *yh = p->yh;
    for (int t = 0; t < H; t++) {
        const double *ut = u + t * rows, *yt = y + t * rows;
        double *out = yh + t * rows;
        for (int i = 0; i < m; i++) {
            double c = p->c[t * m + i], cap = p->ceff[t * m + i], v = yt[i];
            if (!(cap < BIG)) v = v > c ? c : v < -c ? -c : v;
            double beyond = excess(v, c);
            gap += c * fabs(ut[i]) + (beyond > 0.0 ? cap * beyond : 0.0) - ut[i] * v;
            out[i] = v;
            double d = p->rate[i], q = yt[m + k + i];
            if (!(d < BIG)) q = 0.0;
            else gap += d * fabs(q) - ut[m + k + i] * q;
            out[m + k + i] = q;
        }
        for (int e = 0; e < k; e++) {
            double g = p->gmax[t * k + e], p1 = p->p1[t * k + e], p2 = p->p2[t * k + e], v = yt[m + e];
            if (!(g < BIG)) {
                out[m + e] = 0.0;
                continue;
            }
            if (!(p2 > 0.0)) v = v > p1 ? p1 : v < -p1 ? -p1 : v;
            double over = excess(ut[m + e], g), beyond = excess(v, p1);
            gap += over * (p1 + 0.5 * p2 * over) + g * fabs(v) - ut[m + e] * v;
            if (beyond > 0.0) gap += 0.5 * beyond * beyond / p2;
            out[m + e] = v;
        }
    }
    gradient(p, u, yh, p->grad);
    if (p->soft > 0.0) {
        double square = 0.0;
        for (int i = 0; i < H * m; i++) square += p->grad[i] * p->grad[i];
        if (0.5 * square <= slack * p->soft) return gap + 0.5 * square / p->soft;
    }
    memset(p->w, 0, sizeof(double) * (size_t)H * (size_t)rows);
    solve(p, p->base, p->w, p->grad, p->du);
    double rest = 0.0;
    for (int t = 0; t < H; t++)
        for (int i = 0; i < m; i++) rest -= p->grad[t * m + i] * p->du[t * rows + i];
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
static ALWAYS void clip_sized(const cw_mpc *p, const double *u, double *h, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    const double *before = p->last;
    for (int t = 0; t < H; t++) {
        for (int i = 0; i < m; i++) {
            double v = u[t * rows + i], cap = p->ceff[t * m + i], d = p->rate[i];
            if (fabs(v) < TINY) v = 0.0;
            if (d < BIG) {
                double low = -beside(-before[i], d), high = beside(before[i], d);
                v = v < low ? low : v;
                v = v > high ? high : v;
            }
            v = v < -cap ? -cap : v;
            h[t * m + i] = v > cap ? cap : v;
        }
        before = h + t * m;
    }
}

static void clip(const cw_mpc *p, const double *u, double *h) {
    SIZED(clip_sized, p, u, h);
}

static void put(const cw_mpc *p, const double *h, double *u) {
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++) u[t * p->rows + i] = h[t * p->m + i];
}

static void take_trades(const cw_mpc *p, const double *u, double *h) {
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++) h[t * p->m + i] = u[t * p->rows + i];
}

/* ---- regime Newton ---------------------------------------------------------------------------------------------- */

/* Weights and prices of the rows as their regimes have them, in w and yh; whether the weights are those factorised. */
static ALWAYS int weigh_sized(cw_mpc *p, int factored, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    int same = factored;
    for (int t = 0; t < H; t++) {
        const int o = t * rows;
        const double *u = p->u + o, *y = p->y + o;
        const signed char *g = p->regime + o;
        double *w = p->w + o, *yh = p->yh + o;
        for (int i = 0; i < m; i++) {
            double cap = p->ceff[t * m + i], c = p->c[t * m + i];
            double pin = cap <= SHUT ? SHUT_PIN : PIN;
            if (g[i] == 1 || g[i] == -1) {
                w[i] = 0.0, yh[i] = g[i] * c;
            } else {
                double target = g[i] == 0 ? 0.0 : g[i] > 0 ? cap : -cap;
                w[i] = pin, yh[i] = y[i] + pin * (u[i] - target);
            }
            const int r = m + k + i;
            if (g[r] == 0) {
                w[r] = yh[r] = 0.0;
            } else {
                double target = g[r] > 0 ? p->rate[i] : -p->rate[i];
                w[r] = PIN, yh[r] = y[r] + PIN * (u[r] - target);
            }
        }
        for (int e = 0; e < k; e++) {
            const int r = m + e;
            double edge = p->gmax[t * k + e], p1 = p->p1[t * k + e], p2 = p->p2[t * k + e];
            if (g[r] == 0) {
                w[r] = yh[r] = 0.0;
            } else {
                double sign = g[r] > 0 ? 1.0 : -1.0;
                if (g[r] == 1 || g[r] == -1) {
                    w[r] = PIN, yh[r] = y[r] + PIN * (u[r] - sign * edge);
                } else {
                    w[r] = p2, yh[r] = sign * p1 + p2 * (u[r] - sign * edge);
                }
            }
        }
        if (same)
            for (int r = 0; r < rows; r++) same &= w[r] == p->wf[o + r];
    }
    return same;
}

static int weigh(cw_mpc *p, int factored) {
    return SIZED(weigh_sized, p, factored);
}

/* Regimes by the signs of rows and prices; how many changed, and how far pins are from their targets. */
static ALWAYS int rejudge_sized(cw_mpc *p, double *off, SIZES) {
    const int H = p->H, rows = 2 * m + k, ng = k + M * m, nx = ng + m, wide = m + nx;
    (void)H, (void)rows, (void)ng, (void)nx, (void)wide, (void)M;
    int changes = 0;
    double far = 0.0;
    for (int t = 0; t < H; t++) {
        const int o = t * rows;
        const double *u = p->u + o, *y = p->y + o;
        signed char *g = p->regime + o;
        for (int i = 0; i < m; i++) {
            double cap = p->ceff[t * m + i], c = p->c[t * m + i], miss = 0.0;
            signed char old = g[i];
            if (cap <= SHUT) {
                g[i] = 0;
                miss = fabs(u[i]);
            } else if (old == 0) {
                if (y[i] > c) g[i] = 1;
                else if (y[i] < -c) g[i] = -1;
                else miss = fabs(u[i]);
            } else if (old == 1 || old == -1) {
                if (u[i] > cap) g[i] = 2;
                else if (u[i] < -cap) g[i] = -2;
                else if (c > 0.0 && old * u[i] < 0.0) g[i] = 0;
            } else {
                int sign = old > 0 ? 1 : -1;
                if (sign * y[i] < c) g[i] = (signed char)sign;
                else miss = fabs(u[i] - sign * cap);
            }
            changes += g[i] != old;
            far = miss > far ? miss : far;
            const int r = m + k + i;
            double d = p->rate[i];
            old = g[r], miss = 0.0;
            if (d < BIG) {
                if (old == 0) {
                    if (u[r] > d) g[r] = 1;
                    else if (u[r] < -d) g[r] = -1;
                } else {
                    if (old * y[r] < 0.0) g[r] = 0;
                    else miss = fabs(u[r] - old * d);
                }
                changes += g[r] != old;
                far = miss > far ? miss : far;
            } else {
                g[r] = 0;
            }
        }
        for (int e = 0; e < k; e++) {
            const int r = m + e;
            double edge = p->gmax[t * k + e], p1 = p->p1[t * k + e], p2 = p->p2[t * k + e], miss = 0.0;
            signed char old = g[r];
            if (!(edge < BIG) || (p1 == 0.0 && p2 == 0.0)) {
                g[r] = 0;
                continue;
            }
            int sign = old > 0 ? 1 : -1;
            if (old == 0) {
                if (u[r] > edge) g[r] = p1 > 0.0 ? 1 : 2;
                else if (u[r] < -edge) g[r] = p1 > 0.0 ? -1 : -2;
            } else if (old == 1 || old == -1) {
                if (sign * y[r] > p1) g[r] = (signed char)(2 * sign);
                else if (sign * y[r] < 0.0) g[r] = 0;
                else miss = fabs(u[r] - sign * edge);
            } else if (sign * u[r] < edge) {
                g[r] = p1 > 0.0 ? (signed char)sign : 0;
            }
            changes += g[r] != old;
            far = miss > far ? miss : far;
        }
    }
    *off = far;
    return changes;
}

static int rejudge(cw_mpc *p, double *off) {
    return SIZED(rejudge_sized, p, off);
}

static double largest(const double *v, size_t count) {
    double most = 0.0;
    for (size_t i = 0; i < count; i++) {
        double a = fabs(v[i]);
        if (!(a <= most)) most = a; /* a NaN comes through */
    }
    return most;
}

/* Put trades that are pinned exactly where they are pinned: no dust is traded. */
static void snap(cw_mpc *p) {
    const int m = p->m;
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < m; i++) {
            const int at = t * p->rows + i, g = p->regime[at];
            if (g == 0) p->u[at] = 0.0;
            else if (g == 2 || g == -2) p->u[at] = g > 0 ? p->ceff[t * m + i] : -p->ceff[t * m + i];
        }
}

/* Newton steps from u, y and regimes; 1 where regimes fit each other at the end and pins hold as well as they can. */
static int newton(cw_mpc *p, int *used, int most) {
    const size_t hr = (size_t)p->H * (size_t)p->rows;
    int factored = 0, least = 1 << 30, stall = 0, again = 0, own = 0, settled = 0;
    roll(p, p->u);
    for (;;) {
        if (!weigh(p, factored)) {
            if (own >= NEWTON || *used >= most) return 0;
            own++, (*used)++;
            if (!factorise(p, p->w, p->factor)) return 0;
            memcpy(p->wf, p->w, hr * sizeof(double));
            factored = 1, again = 0;
        } else if (++again > RESOLVES) {
            return settled;
        }
        gradient(p, p->u, p->yh, p->grad);
        solve(p, p->factor, p->wf, p->grad, p->du);
        for (size_t i = 0; i < hr; i++) {
            p->y[i] = p->yh[i] + p->w[i] * p->du[i];
            p->u[i] += p->du[i];
        }
        roll(p, p->u);
        double off;
        int changes = rejudge(p, &off);
        settled = changes == 0;
        if (settled) {
            if (!(off > HELD)) return 1;
            continue;
        }
        if (changes < least) least = changes, stall = 0;
        else if (++stall >= STALL) return 0;
    }
}

/* ---- interior point --------------------------------------------------------------------------------------------- */

typedef struct {
    int trade, cap, rate;
} kinds;

static kinds kinds_of(const cw_mpc *p, int t, int i) {
    double cap = p->ceff[t * p->m + i];
    kinds out;
    out.cap = cap > SHUT && cap < BIG;
    out.trade = cap > SHUT && (out.cap || p->c[t * p->m + i] > 0.0);
    out.rate = p->rate[i] < BIG;
    return out;
}

static int gap_limit(const cw_mpc *p, int t, int e) {
    return p->gmax[t * p->k + e] < BIG && (p->p1[t * p->k + e] > 0.0 || p->p2[t * p->k + e] > 0.0);
}

/* Values of the constraints of one slice, in the order of the slacks. */
static void constraints(const cw_mpc *p, const double *u, const double *epi, int t, double *out) {
    const int m = p->m, k = p->k;
    const double *ut = u + t * p->rows, *et = epi + t * (m + k);
    for (int i = 0; i < m; i++) {
        double h = ut[i], r = ut[m + k + i], d = p->rate[i], top = et[i];
        double *v = out + HS * i;
        v[0] = top - h, v[1] = top + h, v[2] = p->ceff[t * m + i] - top, v[3] = d - r, v[4] = d + r;
    }
    for (int e = 0; e < k; e++) {
        double G = ut[m + e], top = et[m + e], edge = p->gmax[t * k + e];
        double *v = out + HS * m + GS * e;
        v[0] = top - G + edge, v[1] = top + G + edge, v[2] = top;
    }
}

static void centre(cw_mpc *p, double mu, double push) {
    const int m = p->m, k = p->k, H = p->H, n = HS * m + GS * k;
    double *value = p->slot;
    for (int t = 0; t < H; t++) {
        double *et = p->t + t * (m + k), *s = p->s + t * n, *l = p->l + t * n;
        const double *ut = p->u + t * p->rows;
        for (int i = 0; i < m; i++) {
            double cap = p->ceff[t * m + i], size = fabs(ut[i]);
            et[i] = cap < BIG ? 0.5 * (size + cap) : size + 1.0;
            if (et[i] > size + 1.0) et[i] = size + 1.0;
        }
        for (int e = 0; e < k; e++) et[m + e] = excess(ut[m + e], p->gmax[t * k + e]) + 0.3;
        constraints(p, p->u, p->t, t, value);
        for (int i = 0; i < n; i++) {
            s[i] = value[i] < INFINITY ? larger(value[i], 0.1) : 1.0; /* no limit, no slack: a number all the same */
            l[i] = mu / s[i];
        }
        for (int i = 0; i < m; i++) {
            kinds is = kinds_of(p, t, i);
            double *ls = l + HS * i;
            if (is.trade) ls[0] += push, ls[1] += push;
            if (is.rate) ls[3] += push, ls[4] += push;
            if (!is.trade) ls[0] = ls[1] = 0.0;
            if (!is.cap) ls[2] = 0.0;
            if (!is.rate) ls[3] = ls[4] = 0.0;
        }
        for (int e = 0; e < k; e++)
            if (!gap_limit(p, t, e)) {
                double *ls = l + HS * m + GS * e;
                ls[0] = ls[1] = ls[2] = 0.0;
            }
    }
}

/* Mean complementarity. */
static double complementarity(const cw_mpc *p, int *count) {
    const size_t n = (size_t)p->H * (size_t)(HS * p->m + GS * p->k);
    double sum = 0.0;
    int live = 0;
    for (size_t i = 0; i < n; i++)
        if (p->l[i] > 0.0) sum += p->s[i] * p->l[i], live++;
    *count = live;
    return live ? sum / live : 0.0;
}

/* Eliminated weights (first pass) and prices of the rows for the complementarity targets rc. */
static void reduce(cw_mpc *p, int weights) {
    const int m = p->m, k = p->k, H = p->H, n = HS * m + GS * k, rows = p->rows;
    double *value = p->slot;
    for (int t = 0; t < H; t++) {
        const int o = t * n, or_ = t * rows;
        const double *s = p->s + o, *l = p->l + o, *rc = p->rc + o;
        double *hat = p->ls + o, *si = p->si + o, *li = p->li + o, *D = p->D + o;
        double *w = p->w + or_, *yh = p->yh + or_;
        const double *et = p->t + t * (m + k);
        constraints(p, p->u, p->t, t, value);
        if (weights)
            for (int i = 0; i < n; i++) {
                const double live = l[i] > 0.0 ? 1.0 : 0.0;
                si[i] = live / s[i];
                li[i] = live / (l[i] > 0.0 ? l[i] : 1.0);
                D[i] = l[i] * si[i];
            }
        /* hat = l - rc/s - D rp, where rp = value - s */
        for (int i = 0; i < n; i++) {
            const double v = l[i] - (rc[i] + l[i] * (value[i] - s[i])) * si[i];
            hat[i] = l[i] > 0.0 ? v : 0.0; /* the value may be infinite where there is no limit */
        }
        for (int i = 0; i < m; i++) {
            kinds is = kinds_of(p, t, i);
            const double *Di = D + HS * i, *hl = hat + HS * i;
            if (is.trade) {
                const double D1 = Di[0], D2 = Di[1], D3 = Di[2], inverse = 1.0 / (D1 + D2 + D3);
                double gt = p->c[t * m + i] - hl[0] - hl[1] + hl[2];
                if (weights) w[i] = (4.0 * D1 * D2 + D3 * (D1 + D2)) * inverse;
                yh[i] = hl[0] - hl[1] - (D2 - D1) * gt * inverse;
            } else if (p->ceff[t * m + i] <= SHUT) {
                if (weights) w[i] = SHUT_PIN;
                yh[i] = p->y[or_ + i] + SHUT_PIN * p->u[or_ + i];
            } else {
                if (weights) w[i] = 0.0;
                yh[i] = 0.0;
            }
            if (weights) w[m + k + i] = is.rate ? Di[3] + Di[4] : 0.0;
            yh[m + k + i] = is.rate ? hl[3] - hl[4] : 0.0;
        }
        for (int e = 0; e < k; e++) {
            const double *De = D + HS * m + GS * e, *hl = hat + HS * m + GS * e;
            if (!gap_limit(p, t, e)) {
                if (weights) w[m + e] = 0.0;
                yh[m + e] = 0.0;
                continue;
            }
            double p1 = p->p1[t * k + e], p2 = p->p2[t * k + e];
            const double D4 = De[0], D5 = De[1], D6 = De[2], inverse = 1.0 / (D4 + D5 + D6 + p2);
            double ge = p1 + p2 * et[m + e] - hl[0] - hl[1] - hl[2];
            if (weights) w[m + e] = (4.0 * D4 * D5 + (D6 + p2) * (D4 + D5)) * inverse;
            yh[m + e] = hl[0] - hl[1] - (D5 - D4) * ge * inverse;
        }
    }
}

/* From du: steps of epigraphs into dt, of slacks into ds, and new multipliers less the old ones into ls. */
static void expand(cw_mpc *p) {
    const int m = p->m, k = p->k, H = p->H, n = HS * m + GS * k;
    double *value = p->slot;
    for (int t = 0; t < H; t++) {
        const int o = t * n;
        const double *s = p->s + o, *l = p->l + o, *du = p->du + t * p->rows;
        const double *et = p->t + t * (m + k);
        double *hat = p->ls + o, *ds = p->ds + o, *det = p->dt + t * (m + k);
        constraints(p, p->u, p->t, t, value);
        for (int i = 0; i < m; i++) {
            const double *S = s + HS * i, *Di = p->D + o + HS * i, *hl = hat + HS * i, *v = value + HS * i;
            double dh = du[i], dr = du[m + k + i], step = 0.0;
            if (kinds_of(p, t, i).trade) {
                const double D1 = Di[0], D2 = Di[1], D3 = Di[2];
                double gt = p->c[t * m + i] - hl[0] - hl[1] + hl[2];
                step = -(gt + (D2 - D1) * dh) / (D1 + D2 + D3);
            }
            det[i] = step;
            double *d = ds + HS * i;
            d[0] = step - dh + v[0] - S[0], d[1] = step + dh + v[1] - S[1], d[2] = v[2] - S[2] - step;
            d[3] = v[3] - S[3] - dr, d[4] = v[4] - S[4] + dr;
        }
        for (int e = 0; e < k; e++) {
            const double *S = s + HS * m + GS * e, *De = p->D + o + HS * m + GS * e, *hl = hat + HS * m + GS * e;
            const double *v = value + HS * m + GS * e;
            double dG = du[m + e], step = 0.0;
            if (gap_limit(p, t, e)) {
                double p1 = p->p1[t * k + e], p2 = p->p2[t * k + e];
                const double D4 = De[0], D5 = De[1], D6 = De[2];
                double ge = p1 + p2 * et[m + e] - hl[0] - hl[1] - hl[2];
                step = -(ge + (D5 - D4) * dG) / (D4 + D5 + D6 + p2);
            }
            det[m + e] = step;
            double *d = ds + HS * m + GS * e;
            d[0] = step - dG + v[0] - S[0], d[1] = step + dG + v[1] - S[1], d[2] = step + v[2] - S[2];
        }
        /* hat - D J du - l, with J du = ds - rp */
        const double *D = p->D + o;
        for (int i = 0; i < n; i++) {
            const double v = hat[i] - D[i] * (ds[i] - (value[i] - s[i])) - l[i];
            hat[i] = l[i] > 0.0 ? v : 0.0;
            ds[i] = l[i] > 0.0 ? ds[i] : 0.0;
        }
    }
}

/* The longest step, up to 1, that keeps slacks and multipliers positive. */
static double longest(const cw_mpc *p) {
    const size_t n = (size_t)p->H * (size_t)(HS * p->m + GS * p->k);
    double inverse = 1.0;
    for (size_t i = 0; i < n; i++) {
        const double a = -p->ds[i] * p->si[i], b = -p->ls[i] * p->li[i];
        const double c = a > b ? a : b;
        inverse = c > inverse ? c : inverse;
    }
    return 1.0 / inverse;
}

static int predict_correct(cw_mpc *p, double mu, int live) {
    const size_t n = (size_t)p->H * (size_t)(HS * p->m + GS * p->k), hr = (size_t)p->H * (size_t)p->rows;
    for (size_t i = 0; i < n; i++) p->rc[i] = p->s[i] * p->l[i];
    reduce(p, 1);
    if (!factorise(p, p->w, p->factor)) return 0;
    gradient(p, p->u, p->yh, p->grad);
    solve(p, p->factor, p->w, p->grad, p->du);
    expand(p);
    double reach = longest(p), after = 0.0;
    for (size_t i = 0; i < n; i++) after += (p->s[i] + reach * p->ds[i]) * (p->l[i] + reach * p->ls[i]);
    after /= live;
    double ratio = after / mu, sigma = ratio * ratio * ratio, aim = sigma * mu;
    for (size_t i = 0; i < n; i++) {
        double second = p->ds[i] * p->ls[i];
        second = second > mu ? mu : second < -mu ? -mu : second;
        p->rc[i] = p->s[i] * p->l[i] + second - aim;
    }
    reduce(p, 0);
    gradient(p, p->u, p->yh, p->grad);
    solve(p, p->factor, p->w, p->grad, p->du);
    expand(p);
    double most = longest(p), keep = 1.0 - mu > 0.99 ? 1.0 - mu : 0.99;
    double alpha = most >= 1.0 ? larger(keep, 0.99) : keep * most;
    if (most >= 1.0 && keep > alpha) alpha = keep;
    for (int tries = 0; tries < 40; tries++) {
        double least = INFINITY, sum = 0.0;
        for (size_t i = 0; i < n; i++)
            if (p->l[i] > 0.0) {
                double v = (p->s[i] + alpha * p->ds[i]) * (p->l[i] + alpha * p->ls[i]);
                least = v < least ? v : least;
                sum += v;
            }
        if (least >= 1e-4 * sum / live) break;
        alpha *= 0.9;
    }
    for (size_t i = 0; i < n; i++)
        if (p->l[i] > 0.0) {
            p->s[i] += alpha * p->ds[i];
            p->l[i] += alpha * p->ls[i];
        }
    const int per = p->m + p->k;
    for (size_t i = 0; i < (size_t)p->H * (size_t)per; i++) p->t[i] += alpha * p->dt[i];
    for (size_t i = 0; i < hr; i++) p->u[i] += alpha * p->du[i];
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++)
            if (p->ceff[t * p->m + i] <= SHUT) {
                const int at = t * p->rows + i;
                p->y[at] += alpha * (p->yh[at] + SHUT_PIN * p->du[at] - p->y[at]);
            }
    roll(p, p->u);
    return 1;
}

/* Prices and regimes of the interior iterate. */
static void cross_over(cw_mpc *p) {
    const int m = p->m, k = p->k, H = p->H, n = HS * m + GS * k, rows = p->rows;
    for (int t = 0; t < H; t++) {
        const double *s = p->s + t * n, *l = p->l + t * n;
        double *y = p->y + t * rows;
        signed char *g = p->regime + t * rows;
        for (int i = 0; i < m; i++) {
            kinds is = kinds_of(p, t, i);
            const double *S = s + HS * i, *Lm = l + HS * i;
            if (is.trade) {
                y[i] = Lm[0] - Lm[1];
                int up = Lm[0] > S[0], down = Lm[1] > S[1], top = is.cap && Lm[2] > S[2];
                if (up && down) g[i] = 0;
                else if (up) g[i] = top ? 2 : 1;
                else if (down) g[i] = top ? -2 : -1;
                else g[i] = p->u[t * rows + i] >= 0.0 ? 1 : -1;
            } else {
                g[i] = p->ceff[t * m + i] <= SHUT ? 0 : 1;
            }
            y[m + k + i] = is.rate ? Lm[3] - Lm[4] : 0.0;
            g[m + k + i] = (signed char)(is.rate ? (Lm[3] > S[3]) - (Lm[4] > S[4]) : 0);
        }
        for (int e = 0; e < k; e++) {
            const double *S = s + HS * m + GS * e, *Lm = l + HS * m + GS * e;
            int r = m + e;
            if (!gap_limit(p, t, e)) {
                y[r] = 0.0, g[r] = 0;
                continue;
            }
            y[r] = Lm[0] - Lm[1];
            int up = Lm[0] > S[0], down = Lm[1] > S[1], zero = Lm[2] > S[2];
            g[r] = (signed char)(up ? (zero ? 1 : 2) : down ? (zero ? -1 : -2) : 0);
        }
    }
}

/* ---- one step --------------------------------------------------------------------------------------------------- */

/* Whether all data lie within low..BIG in units, a limit also beyond; a NaN does not. */
static int sound(const double *from, size_t count, double scale, double low, int limit) {
    int good = 1;
    for (size_t i = 0; i < count; i++) {
        double v = from[i] * scale;
        /* The sign of what is given counts: a tiny negative number may be scaled to zero. */
        good &= (v >= low) & (limit | (v <= BIG)) & ((low < 0.0) | (from[i] >= 0.0));
    }
    return good;
}

static void copy(double *to, const double *from, size_t count, double scale) {
    for (size_t i = 0; i < count; i++) to[i] = from[i] * scale;
}

/* Limits in units: what is beyond BIG is none, what is below TINY is zero. */
static void copy_limits(double *to, const double *from, size_t count, double scale) {
    for (size_t i = 0; i < count; i++) {
        double v = from[i] * scale;
        v = v < TINY ? 0.0 : v;
        to[i] = v < BIG ? v : INFINITY;
    }
}

/* Take the data in units; 0, and nothing changed, where they are refused. */
static int load(cw_mpc *p, const cw_mpc_data *d) {
    const size_t m = (size_t)p->m, k = (size_t)p->k, H = (size_t)p->H, M = (size_t)p->M;
    const double u = 1.0 / p->unit, g = p->unit / p->cost, bend = g * p->unit, root = 1.0 / p->root;
    int good = sound(d->gap, k, u, -BIG, 0) & sound(d->state, M * m, root, -BIG, 0) & sound(d->last, m, u, -BIG, 0) &
               sound(d->plan, H * k, u, -BIG, 0) & sound(d->linear, H * m, g, -BIG, 0) &
               sound(d->carry, H * k, g, -BIG, 0) & sound(d->spread, H * m, g, 0.0, 0) &
               sound(d->cap, H * m, u, 0.0, 1) & sound(d->rate, m, u, 0.0, 1) & sound(d->gap_cap, H * k, u, 0.0, 1) &
               sound(d->price, H * k, g, 0.0, 0) & sound(d->curve, H * k, bend, 0.0, 0);
    if (!good) return 0;
    copy(p->G0, d->gap, k, u);
    copy(p->z0, d->state, M * m, root);
    copy(p->last, d->last, m, u);
    copy(p->plan, d->plan, H * k, u);
    copy(p->lin, d->linear, H * m, g);
    copy(p->carry, d->carry, H * k, g);
    copy(p->c, d->spread, H * m, g);
    copy_limits(p->cap, d->cap, H * m, u);
    copy_limits(p->rate, d->rate, m, u);
    copy_limits(p->gmax, d->gap_cap, H * k, u);
    copy(p->p1, d->price, H * k, g);
    copy(p->p2, d->curve, H * k, bend);
    return 1;
}

/* Caps that the rates leave, and a last trade from which they can be reached; 1 where it had to give way. */
static int reconcile(cw_mpc *p, const double *given) {
    const int m = p->m, H = p->H;
    int relaxed = 0;
    for (int i = 0; i < m; i++) {
        const double d = p->rate[i];
        if (!(d < BIG)) {
            for (int t = 0; t < H; t++) p->ceff[t * m + i] = p->cap[t * m + i];
            if (fabs(p->last[i]) < TINY) p->last[i] = 0.0;
            continue;
        }
        double next = INFINITY;
        for (int t = H - 1; t >= 0; t--) {
            const double cap = p->cap[t * m + i], most = beside(next, d);
            next = cap < most ? cap : most;
            p->ceff[t * m + i] = next;
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
    const size_t rows = (size_t)p->rows, H = (size_t)p->H;
    size_t b = by < 0 ? 0 : (size_t)by;
    if (b == 0) return;
    if (b > H) b = H;
    const size_t kept = (H - b) * rows;
    memmove(p->u, p->u + b * rows, kept * sizeof(double));
    memmove(p->y, p->y + b * rows, kept * sizeof(double));
    memmove(p->regime, p->regime + b * rows, kept);
    memset(p->u + kept, 0, b * rows * sizeof(double));
    memset(p->y + kept, 0, b * rows * sizeof(double));
    memset(p->regime + kept, 0, b * rows);
}

static void at_rest(cw_mpc *p) {
    const size_t hr = (size_t)p->H * (size_t)p->rows;
    memset(p->y, 0, hr * sizeof(double));
    memset(p->regime, 0, hr);
}

typedef struct {
    double value, size; /* cost of the best trades so far, and the sum of its absolute parts */
    double bound;       /* what no trades can cost less than */
} grade;

/* Clip trades, price them, and keep them where they are the best so far; what they cost. */
static double consider(cw_mpc *p, const double *u, grade *g) {
    double size;
    clip(p, u, p->trial);
    put(p, p->trial, p->row);
    roll(p, p->row);
    const double value = objective(p, p->row, &size);
    if (value < g->value) {
        g->value = value, g->size = size;
        memcpy(p->best, p->trial, (size_t)p->H * (size_t)p->m * sizeof(double));
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

/* Mehrotra's interior point from the clipped shifted plan; at small complementarity its regimes go to Newton, which is
   exact. 1 where that settled and is proven. */
static int interior(cw_mpc *p, grade *g, double tol, int work, int *used, int *steps) {
    const size_t hm = (size_t)p->H * (size_t)p->m, hr = (size_t)p->H * (size_t)p->rows;
    double next = 1e-6;
    put(p, p->plan0, p->u);
    consider(p, p->u, g);
    memcpy(p->u, p->row, hr * sizeof(double));
    at_rest(p);
    gradient(p, p->u, p->y, p->grad);
    centre(p, MU0, PUSH * largest(p->grad, hm));
    while (*used < work) {
        int live;
        const double mu = complementarity(p, &live);
        if (live > 0 && !(mu <= next)) {
            (*used)++;
            if (!predict_correct(p, mu, live)) break;
            (*steps)++;
            continue;
        }
        next = next > 1e-7 ? 1e-8 : 1e-11;
        memcpy(p->keep, p->u, hr * sizeof(double));
        memcpy(p->keep_y, p->y, hr * sizeof(double)); /* of trades that are shut */
        cross_over(p);
        if (newton(p, used, work)) {
            snap(p);
            if (judge(p, g, tol)) return 1;
        }
        memcpy(p->u, p->keep, hr * sizeof(double));
        memcpy(p->y, p->keep_y, hr * sizeof(double));
        roll(p, p->u);
        if (live == 0 || mu <= 1e-11) break;
    }
    if (*steps > 0) {
        cross_over(p);
        if (judge(p, g, tol)) return 0;
    }
    return 0;
}

cw_mpc_result cw_mpc_step(cw_mpc *p, const cw_mpc_data *data, int shift, double tol, int work, double *trades) {
    cw_mpc_result out = {CW_MPC_REFUSED, 0, 0, 0, 0.0, INFINITY};
    const size_t hm = (size_t)p->H * (size_t)p->m;
    grade g = {INFINITY, 0.0, -INFINITY};
    int used = 0, steps = 0, settled = 0;
    if (!load(p, data)) return out;
    tol = tol >= 0.0 ? (tol < 1.0 ? tol : 1.0) : 0.0;
    out.relaxed = reconcile(p, data->last);
    if (p->warm > COLD) {
        shift_rows(p, shift);
    } else {
        memset(p->u, 0, (size_t)p->H * (size_t)p->rows * sizeof(double));
        at_rest(p);
    }
    take_trades(p, p->u, p->plan0);
    if (p->warm == SETTLED && (p->gated < 2 || (p->fallbacks = (p->fallbacks + 1) & 7) == 0)) {
        settled = newton(p, &used, work);
        if (settled) {
            snap(p);
            settled = judge(p, &g, tol);
        }
        p->gated = settled ? 0 : p->gated < 2 ? p->gated + 1 : 2;
    }
    if (!settled) settled = interior(p, &g, tol, work, &used, &steps);
    if (!settled && !(g.bound > -INFINITY)) { /* nothing was proven: prices of zero prove something */
        at_rest(p);
        put(p, p->best, p->u);
        judge(p, &g, tol);
    }
    for (size_t i = 0; i < hm; i++) trades[i] = p->best[i] * p->unit;
    if (!settled) { /* the next step starts from the plan alone */
        at_rest(p);
        put(p, p->best, p->u);
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
    const int m = p->m, k = p->k;
    const double scale = p->cost / p->unit;
    for (int t = 0; t < p->H; t++) {
        const double *y = p->y + t * p->rows;
        for (int i = 0; i < m; i++) {
            double beyond = excess(y[i], p->c[t * m + i]);
            trade[t * m + i] = (y[i] < 0.0 ? -beyond : beyond) * scale;
            rate[t * m + i] = y[m + k + i] * scale;
        }
        for (int e = 0; e < k; e++) gap[t * k + e] = y[m + e] * scale;
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
    return sizeof(header) + (size_t)p->H * (size_t)p->rows * (2 * sizeof(double) + 1);
}

void cw_mpc_save(const cw_mpc *p, void *to) {
    const size_t hr = (size_t)p->H * (size_t)p->rows;
    header h = {p->m, p->k, p->M, p->H, p->warm, p->gated, p->fallbacks, SAVED, p->hash, 0};
    unsigned char *at = to;
    memcpy(at + sizeof h, p->u, hr * sizeof(double));
    memcpy(at + sizeof h + hr * sizeof(double), p->y, hr * sizeof(double));
    memcpy(at + sizeof h + 2 * hr * sizeof(double), p->regime, hr);
    h.body = hashed(hash_of_start(&h), at + sizeof h, cw_mpc_saved_bytes(p) - sizeof h);
    memcpy(at, &h, sizeof h);
}

int cw_mpc_restore(cw_mpc *p, const void *from, size_t bytes) {
    const size_t hr = (size_t)p->H * (size_t)p->rows;
    header h;
    if (bytes != cw_mpc_saved_bytes(p)) return 0;
    const unsigned char *at = from;
    memcpy(&h, at, sizeof h);
    if (h.m != p->m || h.k != p->k || h.M != p->M || h.H != p->H || h.version != SAVED || h.model != p->hash ||
        h.body != hashed(hash_of_start(&h), at + sizeof h, bytes - sizeof h) || h.warm < COLD || h.warm > SETTLED ||
        h.gated < 0 || h.gated > 2 || h.fallbacks < 0 || h.fallbacks > 7)
        return 0;
    for (size_t i = 0; i < 2 * hr; i++) {
        double v;
        memcpy(&v, at + sizeof h + i * sizeof(double), sizeof v);
        if (!(v >= -1e30 && v <= 1e30)) return 0;
    }
    const unsigned char *regime = at + sizeof h + 2 * hr * sizeof(double);
    for (size_t i = 0; i < hr; i++) {
        const int v = (signed char)regime[i];
        const int most = (int)(i % (size_t)p->rows) < p->m + p->k ? 2 : 1;
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
    if (!eliminate(U, m, m, m)) return 0.0;
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
    if (!factorise(p, p->w, p->base)) return 0;
    for (int t = 0; t < p->H; t++)
        for (int i = 0; i < p->m; i++) {
            const double inverse = p->base[(t * p->m + i) * p->wide + i]; /* of its root */
            if (!(inverse * inverse * least <= 1.0)) return 0;
        }
    return 1;
}

cw_mpc *cw_mpc_init(void *memory, const cw_mpc_dims *dims, const cw_mpc_model *model) {
    cw_mpc *p = memory;
    if (p == NULL || dims == NULL || model == NULL || cw_mpc_bytes(dims) == 0) return NULL;
    memset(p, 0, cw_mpc_bytes(dims));
    layout(p, memory, dims);
    const int m = p->m, k = p->k, M = p->M, H = p->H;
    const size_t mm = (size_t)m * (size_t)m, kk = (size_t)k * (size_t)k;
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
    copy(p->E, model->E, (size_t)(k * m), 1.0);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++) p->lam2[i * m + j] = (model->lambda[i * m + j] + model->lambda[j * m + i]) * scale;
    copy(p->L, model->L, (size_t)M * mm, p->unit / p->root);
    copy(p->rho, model->rho, (size_t)M, 1.0);
    for (int j = 0; j < M; j++) {
        const double end = 1.0 / (p->rho[j] * p->rho[j]);
        for (int t = 0; t < H; t++) p->q[t * M + j] = t + 1 < H ? end - 1.0 : end;
    }
    for (int t = 0; t < H; t++)
        for (int e = 0; e < k; e++)
            for (int f = 0; f < k; f++) {
                double v = model->gamma[t] * (model->sigma[e * k + f] + model->sigma[f * k + e]);
                if (t + 1 == H && e == f) v += 2.0 * model->eta[e];
                p->Qg[(t * k + e) * k + f] = v * scale;
            }
    if (!within(p->lam2, mm, -1e12, 1e12) || !within(p->L, (size_t)M * mm, -1e12, 1e12) ||
        !within(p->Qg, (size_t)H * kk, -1e12, 1e12) || !within(p->E, (size_t)(k * m), -1e9, 1e9))
        return NULL;
    p->hash = hashed(14695981039346656037U, &p->unit, sizeof(double));
    p->hash = hashed(p->hash, &p->cost, sizeof(double));
    p->hash = hashed(p->hash, p->E, (size_t)(k * m) * sizeof(double));
    p->hash = hashed(p->hash, p->lam2, mm * sizeof(double));
    p->hash = hashed(p->hash, p->L, (size_t)M * mm * sizeof(double));
    p->hash = hashed(p->hash, p->rho, (size_t)M * sizeof(double));
    p->hash = hashed(p->hash, p->Qg, (size_t)H * kk * sizeof(double));
    /* Gamma by instrument: -E, rho L', 1. */
    int n = 0;
    for (int i = 0; i < m; i++) {
        p->from[i] = n;
        for (int e = 0; e < k; e++)
            if (m == 1 || p->E[e * m + i] != 0.0) p->at[n] = e, p->value[n++] = -p->E[e * m + i];
        for (int j = 0; j < M; j++)
            for (int b = 0; b < m; b++)
                if (m == 1 || p->L[(j * m + i) * m + b] != 0.0)
                    p->at[n] = k + j * m + b, p->value[n++] = p->rho[j] * p->L[(j * m + i) * m + b];
        p->at[n] = p->ng + i, p->value[n++] = 1.0;
    }
    p->from[m] = n;
    p->soft = least_curvature(p->lam2, p->V, p->x, m);
    if (!convex(p, 1e-9)) {
        for (int i = 0; i < m; i++) p->lam2[i * (m + 1)] += RIDGE;
        if (!convex(p, 1e-3 * RIDGE)) return NULL;
    }
    return p;
}
