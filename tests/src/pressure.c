/* The machine's pressure, in the hand of a scenario: /proc/pressure/NAME is read from the folder named by
 * HORUS_TEST_PRESSURE. Preloaded into the programs of Horus, never into what they supervise. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char FROM[] = "/proc/pressure/";

static int opened(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
    const char *folder = getenv("HORUS_TEST_PRESSURE");
    char instead[PATH_MAX];
    if (folder && strncmp(path, FROM, sizeof FROM - 1) == 0) {
        snprintf(instead, sizeof instead, "%s/%s", folder, path + sizeof FROM - 1);
        path = instead;
    }
    return real(path, flags, mode);
}

#define OPENS(name)                                          \
    int name(const char *path, int flags, ...) {             \
        va_list rest;                                        \
        va_start(rest, flags);                               \
        mode_t mode = va_arg(rest, mode_t);                  \
        va_end(rest);                                        \
        return opened(#name, path, flags, mode);             \
    }

OPENS(open)
OPENS(open64)
