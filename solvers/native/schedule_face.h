/* The Python face of schedule.c: functions that module.c adds to the extension. */
#ifndef CROSSWIND_SCHEDULE_FACE_H
#define CROSSWIND_SCHEDULE_FACE_H

#include <Python.h>

extern PyMethodDef cw_schedule_methods[];

#endif
