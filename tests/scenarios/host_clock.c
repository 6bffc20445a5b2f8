/* Moves the clocks of one process: the daemon's, in the scenarios of host.rs. Preloaded; reads two numbers of
 * nanoseconds from the file named by HORUS_TEST_CLOCK, which the scenario changes while the daemon runs.
 *
 *   [0]  added to the time of day                          somebody sets the clock
 *   [1]  added to the time of day and to the time since boot      the machine sleeps
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *moved;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("HORUS_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *numbers = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (numbers != MAP_FAILED) moved = numbers;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result != 0 || !moved) return result;
    int64_t by = 0;
    if (clock == CLOCK_REALTIME) by = moved[0] + moved[1];
    if (clock == CLOCK_BOOTTIME) by = moved[1];
    int64_t seconds = by / 1000000000, rest = now->tv_nsec + by % 1000000000;
    if (rest < 0) rest += 1000000000, seconds -= 1;
    now->tv_sec += seconds + rest / 1000000000;
    now->tv_nsec = rest % 1000000000;
    return 0;
}
