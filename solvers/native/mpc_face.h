/* The Python face of mpc.c: a type that module.c adds to the extension. */
#ifndef CROSSWIND_MPC_FACE_H
#define CROSSWIND_MPC_FACE_H

#include <Python.h>

/* Add the type Mpc to the module; -1 with an exception set where that fails. */
int cw_mpc_add(PyObject *module);

#endif
