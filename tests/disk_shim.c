/* A disk that misbehaves on demand, between a process and the C library (LD_PRELOAD); tests/disk_shim.py builds and steers it.
 *
 * Only files below $DISK_SHIM_UNDER are concerned. $DISK_SHIM_CONTROL is a file of four 32-bit numbers, mapped, so that a
 * test changes them while the process runs: the errno of fsync and fdatasync, the milliseconds each of them takes, the
 * errno of writes, and the count of calls that failed. $DISK_SHIM_TRACE gets a record of every change of a file and of every
 * fsync that returned, in order: what a power cut leaves is worked out from it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST_FILES 4096
#define NAME_BYTES 256

static char names[MOST_FILES][NAME_BYTES]; /* by descriptor, relative to the directory; "" is none of ours */
static off_t places[MOST_FILES];           /* where a plain write goes */
static char under[1024];
static size_t under_bytes;
static volatile int32_t *control;
static int32_t nothing[4];
static int trace = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int fd, const void *data, size_t bytes) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(fd, data, bytes);
}

static int real_open(const char *path, int flags, mode_t mode) {
    REAL(int, "open", const char *, int, ...);
    return real(path, flags, mode);
}

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("DISK_SHIM_UNDER"), *file = getenv("DISK_SHIM_CONTROL"), *log = getenv("DISK_SHIM_TRACE");
    control = nothing;
    if (!directory) return;
    snprintf(under, sizeof under, "%s/", directory);
    under_bytes = strlen(under);
    if (file) {
        int fd = real_open(file, O_RDWR | O_CLOEXEC, 0);
        void *found = fd < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (found != MAP_FAILED) control = found;
        if (fd >= 0) close(fd);
    }
    if (log) trace = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The name below the directory, the directory itself as ".", NULL for anything else. */
static const char *ours(const char *path) {
    if (!under_bytes || !path) return NULL;
    if (!strncmp(path, under, under_bytes)) return path + under_bytes;
    if (strlen(path) == under_bytes - 1 && !strncmp(path, under, under_bytes - 1)) return ".";
    return NULL;
}

static void note(char what, const char *name, uint64_t at, const void *data, uint32_t bytes) {
    if (trace < 0) return;
    struct { uint32_t what, name_bytes, bytes, pad; uint64_t at; } head = {what, strlen(name), bytes, 0, at};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)name, head.name_bytes}, {(void *)data, bytes}};
    pthread_mutex_lock(&lock);
    if (writev(trace, parts, 3) < 0) abort();
    pthread_mutex_unlock(&lock);
}

static const char *of(int fd) { return fd >= 0 && fd < MOST_FILES && names[fd][0] ? names[fd] : NULL; }

static int refused(int fd) {
    if (!of(fd) || !control[2]) return 0;
    control[3]++;
    errno = control[2];
    return 1;
}

static int opened(int fd, const char *path, int flags, int was_there) {
    const char *name = ours(path);
    if (fd < 0 || fd >= MOST_FILES) return fd;
    names[fd][0] = 0;
    if (name) {
        snprintf(names[fd], NAME_BYTES, "%s", name);
        places[fd] = 0;
        if ((flags & O_CREAT) && !was_there) note('C', name, 0, "", 0);
        if (flags & O_TRUNC) note('T', name, 0, "", 0);
    }
    return fd;
}

static int open_it(const char *path, int flags, mode_t mode) {
    struct stat found;
    int was_there = stat(path, &found) == 0;
    if (ours(path) && control[2] && (flags & (O_WRONLY | O_RDWR | O_CREAT))) {
        control[3]++;
        errno = control[2];
        return -1;
    }
    return opened(real_open(path, flags, mode), path, flags, was_there);
}

#define MODE mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { MODE return open_it(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_it(path, flags, mode); }

int openat(int at, const char *path, int flags, ...) {
    MODE
    if (path[0] == '/') return open_it(path, flags, mode);
    REAL(int, "openat", int, const char *, int, ...);
    return real(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) { MODE return openat(at, path, flags, mode); }

int close(int fd) {
    REAL(int, "close", int);
    if (of(fd)) names[fd][0] = 0;
    return real(fd);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    if (refused(fd)) return -1;
    ssize_t done = real_write(fd, data, bytes);
    if (of(fd) && done > 0) {
        note('W', of(fd), places[fd], data, done);
        places[fd] += done;
    }
    return done;
}

static ssize_t write_at(int fd, const void *data, size_t bytes, off_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    if (refused(fd)) return -1;
    ssize_t done = real(fd, data, bytes, at);
    if (of(fd) && done > 0) note('W', of(fd), at, data, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) { return write_at(fd, data, bytes, at); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at) { return write_at(fd, data, bytes, at); }

static int cut(int fd, off_t bytes) {
    REAL(int, "ftruncate64", int, off_t);
    /* The index of the write-ahead log is memory, not disk. */
    if (refused(fd)) return -1;
    int done = real(fd, bytes);
    if (of(fd) && !done) note('T', of(fd), bytes, "", 0);
    return done;
}
int ftruncate(int fd, off_t bytes) { return cut(fd, bytes); }
int ftruncate64(int fd, off_t bytes) { return cut(fd, bytes); }

static int synced(int fd, int (*real)(int)) {
    if (!of(fd)) return real(fd);
    if (control[1]) {
        struct timespec wait = {control[1] / 1000, control[1] % 1000 * 1000000L};
        nanosleep(&wait, NULL);
    }
    if (control[0]) {
        control[3]++;
        errno = control[0];
        return -1;
    }
    /* What is traced need not reach a disk: only the order counts. */
    int done = trace < 0 ? real(fd) : 0;
    if (!done) note('S', of(fd), 0, "", 0);
    return done;
}
int fsync(int fd) { REAL(int, "fsync", int); return synced(fd, real); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); return synced(fd, real); }

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    int done = real(path);
    if (!done && ours(path)) note('U', ours(path), 0, "", 0);
    return done;
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    int done = real(from, to);
    if (!done && ours(from) && ours(to)) note('R', ours(from), 0, ours(to), strlen(ours(to)));
    return done;
}
