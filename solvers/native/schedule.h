/* The recursions of the schedule solver over slices and names, names innermost: crosswind.solvers.schedule.kernels.
 *
 * All arrays are (T, N) in row-major order unless a comment says otherwise. No allocation, no globals, a bound on the
 * work. A name's matrix is
 *
 *     A = diag(d) + sum over s of walk_s 1[t, t' <= s] + end 11' + sum over m of k_m (products of rho between t and t')
 *
 * and in reversed time the covariance of a random walk, M first-order autoregressions and noise seen together: the
 * Kalman recursions factor it in O(T M^2). An infinite end is the limit, the inverse on trades that sum to zero.
 */
#ifndef CROSSWIND_SCHEDULE_H
#define CROSSWIND_SCHEDULE_H

#include <stddef.h>

#define CW_MODES 8 /* most modes */

/* inverse (T, N): 1/F; gain (T, 1 + M, N). walk (T), own (N): walk_s own_i is a name's increment; end (N), inf where
 * the sum is fixed; rho (T, M); k (M, N). work: (1 + M)(2 + M)/2 * N items. 0 where M is too large. */
int cw_schedule_factor(size_t T, size_t N, size_t M, const double *d, const double *walk, const double *own,
                       const double *end, const double *rho, const double *k, double *inverse, double *gain,
                       double *work);

/* x = A^-1 r; work: (1 + M) N items. x may be r. 0 where M is too large. */
int cw_schedule_solve(size_t T, size_t N, size_t M, const double *inverse, const double *gain, const double *rho,
                      const double *r, double *x, double *work);

/* Cells of a model without coupling over slices: z minimises  (z - v)^2 / 2r + (c + theta) |z|  over [l, h], r > 0 and
 * theta >= 0 the smallest for which the sum of |z| over a slice and group is at most its cap. Group g holds the names
 * first[g] ... first[g + 1] - 1; names beyond first[G] are in none. theta (T, G): start and result. */
void cw_schedule_prox(size_t T, size_t N, size_t G, const size_t *first, const double *cap, const double *v,
                      const double *r, const double *c, const double *l, const double *h, double *theta, double *z);

/* The dual of a model without coupling between names. For name i and price mu_i of its sum
 *
 *     value_i = mu_i total_i - mu_i^2 give_i / 2 + sum over t of min over [l, h] of  v^2 / 2s - (a + mu_i) v + (c + theta_t,group(i)) |v|
 *
 * with s = reach (1e300 where there is no curvature). theta (T, G + 1), the last column for names without a group;
 * group (N) in 0 ... G. mu_i is moved towards the largest value by at most `passes` safeguarded Newton steps, until the
 * sum and give_i mu_i miss total_i by no more than slack_i; where give_i < 0 there is no such price and mu_i is not read. mu (N): start and result. */
void cw_schedule_dual(size_t T, size_t N, size_t G, size_t passes, const size_t *group, const double *theta,
                      const double *a, const double *reach, const double *c, const double *l, const double *h,
                      const double *total, const double *give, const double *slack, double *mu, double *value);

/* One step of the splitting: v = relax u + (1 - relax) z + y; z becomes the proximal map of v as above with r = 1/w, y
 * what is left of v, pull = w (z - y) - linear. sums: w |u - z|^2 and w |z - old z|^2. work: N items. */
void cw_schedule_step(size_t T, size_t N, size_t G, const size_t *first, const double *cap, double relax,
                      const double *u, const double *w, const double *r, const double *linear, const double *c,
                      const double *l, const double *h, double *theta, double *z, double *y, double *pull,
                      double *sums, double *work);

/* x = C^-1 y for the covariance C of p observations a slice of S states, factored as whiten (T, p, p), symmetric, and
 * gain (T, S, p): states are multiplied by keep (T, S) between slices, those from `walks` to p lose mean_t times the
 * state p - walks places on; root (T, p) scales the first p states to what is seen. work: 2 S items. */
void cw_schedule_whiten(size_t T, size_t p, size_t S, size_t walks, const double *keep, const double *mean,
                        const double *root, const double *whiten, const double *gain, const double *y, double *x,
                        double *work);

#endif
