/* Log of what a power cut would leave: the size of every file when it is synced.
 *
 * Preloaded into a server (LD_PRELOAD), it writes "INODE SIZE BEGAN" to the file named by
 * SLUICE_SYNC_LOG after every fsync and fdatasync that succeeded; BEGAN is when the sync was
 * requested, in nanoseconds of CLOCK_MONOTONIC. Bytes written since are in the page cache only: kill -9
 * keeps them, a power cut does not.
 *
 * SLUICE_SYNC_DELAY_US makes every sync take that much longer, as on a busy disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int (*sync_function)(int);

static void note(const struct stat *file, const struct timespec *began) {
    const char *path = getenv("SLUICE_SYNC_LOG");
    if (path == NULL) return;
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0) abort(); /* a test without its notes would prove nothing */
    char line[96];
    int length = snprintf(line, sizeof line, "%ju %jd %jd\n", (uintmax_t)file->st_ino,
                          (intmax_t)file->st_size,
                          (intmax_t)began->tv_sec * 1000000000 + began->tv_nsec);
    /* One write to a file opened for appending: lines of several threads do not mix. */
    if (write(log, line, (size_t)length) != length) abort();
    close(log);
}

static void dawdle(void) {
    const char *delay = getenv("SLUICE_SYNC_DELAY_US");
    if (delay != NULL) usleep((useconds_t)strtoul(delay, NULL, 10));
}

static int synced(const char *name, int fd) {
    sync_function real = (sync_function)dlsym(RTLD_NEXT, name);
    struct stat file;
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    /* The size before: what another thread appends meanwhile may not be on the disk yet. */
    int known = fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
    dawdle();
    int result = real(fd);
    int saved = errno;
    if (result == 0 && known) note(&file, &began);
    errno = saved;
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }

int fdatasync(int fd) { return synced("fdatasync", fd); }
