/* A wall clock that is set on demand, between a process and the C library (LD_PRELOAD); tests/clock_shim.py builds and steers it.
 *
 * $CLOCK_SHIM_CONTROL is a file of one 64-bit float, mapped: the seconds by which the wall clock is wrong. The monotonic clock
 * and every sleep are true, as on a machine whose clock somebody sets. (libfaketime 0.9.10 breaks Python's sleep when told
 * to leave the monotonic clock alone.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double right = 0.0;
static volatile double *wrong_s = &right;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("CLOCK_SHIM_CONTROL");
    int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED) wrong_s = found;
    close(fd);
}

static int now(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, time);
    if (!done && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        double by = *wrong_s;
        long long nanos = time->tv_nsec + (long long)((by - floor(by)) * 1e9);
        time->tv_sec += (time_t)floor(by) + nanos / 1000000000;
        time->tv_nsec = nanos % 1000000000;
    }
    return done;
}

int clock_gettime(clockid_t clock, struct timespec *time) { return now(clock, time); }

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec found;
    (void)zone;
    now(CLOCK_REALTIME, &found);
    time->tv_sec = found.tv_sec;
    time->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec found;
    now(CLOCK_REALTIME, &found);
    if (into) *into = found.tv_sec;
    return found.tv_sec;
}
