/* The Python face of schedule.c: buffers in, sizes checked, the interpreter's lock released while it works. */
#define PY_SSIZE_T_CLEAN
#include "schedule_face.h"

#include "schedule.h"

#define MOST 18

typedef struct {
    Py_buffer views[MOST];
    int held;
} Buffers;

static void drop(Buffers *b) {
    while (b->held > 0) PyBuffer_Release(&b->views[--b->held]);
}

/* Take the next array: C-contiguous, of one type and size, whatever its axes. NULL with an exception set. */
static void *take(Buffers *b, PyObject *from, char type, size_t count, int writable) {
    Py_buffer *view = &b->views[b->held];
    if (PyObject_GetBuffer(from, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return NULL;
    b->held++;
    const char *format = view->format == NULL ? "" : view->format;
    const int fits = format[0] != '\0' && format[1] == '\0' &&
                     (format[0] == type || (type == 'n' && (format[0] == 'l' || format[0] == 'q' || format[0] == 'n')));
    const size_t item = type == 'd' ? sizeof(double) : sizeof(Py_ssize_t);
    if (fits && (size_t)view->itemsize == item && (size_t)view->len == count * item) {
        /* An empty buffer may have no address; the kernels never read it. */
        return view->buf != NULL ? view->buf : (void *)view;
    }
    PyErr_Format(PyExc_ValueError, "expected a contiguous array of %zu items of type %c", count, type);
    return NULL;
}

/* The sizes T, N, M or G, so small that products of them cannot overflow. */
static int sizes(PyObject *const *args, size_t *out, int count) {
    for (int k = 0; k < count; k++) {
        const Py_ssize_t value = PyLong_AsSsize_t(args[k]);
        if (value == -1 && PyErr_Occurred()) return 0;
        if (value < (k < 2 ? 1 : 0) || value > (Py_ssize_t)1 << 20) {
            PyErr_SetString(PyExc_ValueError, "a size is out of range");
            return 0;
        }
        out[k] = (size_t)value;
    }
    return 1;
}

/* Whether groups begin one after the other and end within the names. */
static int follow(const Py_ssize_t *first, size_t N, size_t G) {
    int sound = first[0] == 0 && (size_t)first[G] <= N;
    for (size_t g = 0; sound && g < G; g++) sound = first[g] <= first[g + 1];
    return sound;
}

static int enough(Py_ssize_t count, Py_ssize_t wanted, const char *usage) {
    if (count == wanted) return 1;
    PyErr_SetString(PyExc_TypeError, usage);
    return 0;
}

static PyObject *schedule_factor(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    size_t n[3];
    if (!enough(count, 12, "schedule_factor(T, N, M, d, walk, own, end, rho, k, inverse, gain, work)") ||
        !sizes(args, n, 3))
        return NULL;
    const size_t T = n[0], N = n[1], M = n[2], S = 1 + M;
    if (M > CW_MODES) return PyErr_Format(PyExc_ValueError, "at most %d modes", CW_MODES);
    const size_t counts[9] = {T * N, T, N, N, T * M, M * N, T * N, T * S * N, S * (S + 1) / 2 * N};
    double *a[9];
    Buffers b = {.held = 0};
    for (int k = 0; k < 9; k++)
        if ((a[k] = take(&b, args[3 + k], 'd', counts[k], k >= 6)) == NULL) {
            drop(&b);
            return NULL;
        }
    Py_BEGIN_ALLOW_THREADS
    (void)cw_schedule_factor(T, N, M, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]);
    Py_END_ALLOW_THREADS
    drop(&b);
    Py_RETURN_NONE;
}

static PyObject *schedule_solve(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    size_t n[3];
    if (!enough(count, 9, "schedule_solve(T, N, M, inverse, gain, rho, r, x, work)") || !sizes(args, n, 3)) return NULL;
    const size_t T = n[0], N = n[1], M = n[2], S = 1 + M;
    if (M > CW_MODES) return PyErr_Format(PyExc_ValueError, "at most %d modes", CW_MODES);
    const size_t counts[6] = {T * N, T * S * N, T * M, T * N, T * N, S * N};
    double *a[6];
    Buffers b = {.held = 0};
    for (int k = 0; k < 6; k++)
        if ((a[k] = take(&b, args[3 + k], 'd', counts[k], k >= 4)) == NULL) {
            drop(&b);
            return NULL;
        }
    Py_BEGIN_ALLOW_THREADS
    (void)cw_schedule_solve(T, N, M, a[0], a[1], a[2], a[3], a[4], a[5]);
    Py_END_ALLOW_THREADS
    drop(&b);
    Py_RETURN_NONE;
}

static PyObject *schedule_prox(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    size_t n[3];
    if (!enough(count, 12, "schedule_prox(T, N, G, first, cap, v, r, c, l, h, theta, z)") || !sizes(args, n, 3))
        return NULL;
    const size_t T = n[0], N = n[1], G = n[2];
    const size_t counts[8] = {T * G, T * N, T * N, T * N, T * N, T * N, T * G, T * N};
    double *a[8];
    Buffers b = {.held = 0};
    const Py_ssize_t *first = take(&b, args[3], 'n', G + 1, 0);
    int sound = first != NULL;
    for (int k = 0; sound && k < 8; k++) sound = (a[k] = take(&b, args[4 + k], 'd', counts[k], k >= 6)) != NULL;
    if (sound && !(sound = follow(first, N, G))) PyErr_SetString(PyExc_ValueError, "the groups do not follow each other");
    if (!sound) {
        drop(&b);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    cw_schedule_prox(T, N, G, (const size_t *)first, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
    Py_END_ALLOW_THREADS
    drop(&b);
    Py_RETURN_NONE;
}

static PyObject *schedule_dual(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    size_t n[4];
    if (!enough(count, 16,
                "schedule_dual(T, N, G, passes, group, theta, a, reach, c, l, h, total, give, slack, mu, value)") ||
        !sizes(args, n, 4))
        return NULL;
    const size_t T = n[0], N = n[1], G = n[2];
    const size_t counts[11] = {T * (G + 1), T * N, T * N, T * N, T * N, T * N, N, N, N, N, N};
    double *a[11];
    Buffers b = {.held = 0};
    const Py_ssize_t *group = take(&b, args[4], 'n', N, 0);
    int sound = group != NULL;
    for (int k = 0; sound && k < 11; k++) sound = (a[k] = take(&b, args[5 + k], 'd', counts[k], k >= 9)) != NULL;
    if (sound) {
        for (size_t i = 0; sound && i < N; i++) sound = group[i] >= 0 && (size_t)group[i] <= G;
        if (!sound) PyErr_SetString(PyExc_ValueError, "a group is out of range");
    }
    if (!sound) {
        drop(&b);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    cw_schedule_dual(T, N, G, n[3], (const size_t *)group, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9],
                     a[10]);
    Py_END_ALLOW_THREADS
    drop(&b);
    Py_RETURN_NONE;
}

static PyObject *schedule_step(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    size_t n[3];
    if (!enough(count, 19,
                "schedule_step(T, N, G, first, cap, relax, u, w, r, linear, c, l, h, theta, z, y, pull, sums, work)") ||
        !sizes(args, n, 3))
        return NULL;
    const size_t T = n[0], N = n[1], G = n[2], cells = T * N;
    const double relax = PyFloat_AsDouble(args[5]);
    if (relax == -1.0 && PyErr_Occurred()) return NULL;
    const size_t counts[14] = {T * G, cells, cells, cells, cells, cells, cells, cells, T * G, cells, cells, cells, 2, N};
    double *a[14];
    Buffers b = {.held = 0};
    const Py_ssize_t *first = take(&b, args[3], 'n', G + 1, 0);
    int sound = first != NULL;
    for (int k = 0; sound && k < 14; k++)
        sound = (a[k] = take(&b, args[k == 0 ? 4 : 5 + k], 'd', counts[k], k >= 8)) != NULL;
    if (sound && !(sound = follow(first, N, G))) PyErr_SetString(PyExc_ValueError, "the groups do not follow each other");
    if (!sound) {
        drop(&b);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    cw_schedule_step(T, N, G, (const size_t *)first, a[0], relax, a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9],
                     a[10], a[11], a[12], a[13]);
    Py_END_ALLOW_THREADS
    drop(&b);
    Py_RETURN_NONE;
}

static PyObject *schedule_whiten(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    size_t n[4];
    if (!enough(count, 12, "schedule_whiten(T, p, S, walks, keep, mean, root, whiten, gain, y, x, work)") ||
        !sizes(args, n, 4))
        return NULL;
    const size_t T = n[0], p = n[1], S = n[2], walks = n[3];
    if (walks > p || S != 2 * p - walks) {
        PyErr_SetString(PyExc_ValueError, "a size is out of range");
        return NULL;
    }
    const size_t counts[8] = {T * S, T, T * p, T * p * p, T * S * p, T * p, T * p, 2 * S};
    double *a[8];
    Buffers b = {.held = 0};
    for (int k = 0; k < 8; k++)
        if ((a[k] = take(&b, args[4 + k], 'd', counts[k], k >= 6)) == NULL) {
            drop(&b);
            return NULL;
        }
    Py_BEGIN_ALLOW_THREADS
    cw_schedule_whiten(T, p, S, walks, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
    Py_END_ALLOW_THREADS
    drop(&b);
    Py_RETURN_NONE;
}

#define METHOD(name, text) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, text}

PyMethodDef cw_schedule_methods[] = {
    METHOD(schedule_factor, "schedule_factor(T, N, M, d, walk, own, end, rho, k, inverse, gain, work)\n--\n\n"
                            "Factor the names' matrices into inverse and gain."),
    METHOD(schedule_solve, "schedule_solve(T, N, M, inverse, gain, rho, r, x, work)\n--\n\nx = A^-1 r."),
    METHOD(schedule_prox, "schedule_prox(T, N, G, first, cap, v, r, c, l, h, theta, z)\n--\n\n"
                          "Proximal map of boxes, absolute costs and caps of groups."),
    METHOD(schedule_dual,
           "schedule_dual(T, N, G, passes, group, theta, a, reach, c, l, h, total, give, slack, mu, value)\n--\n\n"
           "Dual values of cells, with the prices of hard sums."),
    METHOD(schedule_step,
           "schedule_step(T, N, G, first, cap, relax, u, w, r, linear, c, l, h, theta, z, y, pull, sums, work)\n--\n\n"
           "One step of the splitting."),
    METHOD(schedule_whiten, "schedule_whiten(T, p, S, walks, keep, mean, root, whiten, gain, y, x, work)\n--\n\n"
                            "Apply the inverse of a covariance by block innovations."),
    {NULL, NULL, 0, NULL},
};
