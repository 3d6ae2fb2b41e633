/*
 * A disk that fails on demand: preloaded, it lets calls on the files of one database fail.
 *
 * FAILING_DISK_FILES is the path that those files' names begin with. FAILING_DISK_CONTROL is a file
 * of three 64-bit integers, shared with whoever decides: the kind of failure (below), in how many of
 * a thousand calls it comes, and how often it came.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORKS, FULL, WRITES_FAIL, SYNCS_FAIL, READS_FAIL };

struct control {
    volatile int64_t kind, permille, failures;
};

static struct control *control;
static const char *files;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAILING_DISK_CONTROL");
    files = getenv("FAILING_DISK_FILES");
    int fd = path && files ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED)
        control = shared;
    close(fd);
}

static int fails(int64_t kind, int fd) {
    static __thread unsigned seed;
    char link[64], path[4096];
    if (!control || control->kind != kind)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, files, strlen(files)) != 0)
        return 0;
    if (!seed)
        seed = (unsigned)(uintptr_t)&seed ^ (unsigned)getpid();
    if (rand_r(&seed) % 1000 >= control->permille)
        return 0;
    __sync_fetch_and_add(&control->failures, 1);
    return 1;
}

static int refuse(int error) {
    errno = error;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A full disk often takes a part before it refuses the rest. */
#define WRITE(name, parameters, whole, part)                                                       \
    ssize_t name parameters {                                                                      \
        static __typeof__(&name) real;                                                             \
        if (!real)                                                                                 \
            real = REAL(name);                                                                     \
        if (fails(FULL, fd))                                                                    \
            return size > 1 && size % 3 ? real part : refuse(ENOSPC);                              \
        return fails(WRITES_FAIL, fd) ? refuse(EIO) : real whole;                               \
    }

WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
      (fd, data, size / 2, at))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
      (fd, data, size / 2, at))

#define CALL(type, name, parameters, arguments, kind, error)                                       \
    type name parameters {                                                                         \
        static __typeof__(&name) real;                                                             \
        if (!real)                                                                                 \
            real = REAL(name);                                                                     \
        return fails(kind, fd) ? refuse(error) : real arguments;                                \
    }

CALL(int, fsync, (int fd), (fd), SYNCS_FAIL, EIO)
CALL(int, fdatasync, (int fd), (fd), SYNCS_FAIL, EIO)
CALL(int, ftruncate, (int fd, off_t size), (fd, size), FULL, ENOSPC)
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size), FULL, ENOSPC)
CALL(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), READS_FAIL, EIO)
CALL(ssize_t, pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at),
     READS_FAIL, EIO)
CALL(ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at),
     READS_FAIL, EIO)
