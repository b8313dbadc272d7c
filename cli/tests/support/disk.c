/* Simulates a faulty disk. Preload it with LD_PRELOAD; it affects files whose paths begin with the
 * value of THRUM_DISK. These variables choose the faults:
 *
 * THRUM_DISK_DURABLE   a directory: every fsync or fdatasync copies the file there. So it has exactly
 *                      what would survive a power cut, without unflushed writes. A deleted file stays
 *                      there until its directory is flushed.
 * THRUM_DISK_BYTES     a number: the WAL can't grow beyond this many bytes, as on a full disk.
 * THRUM_DISK_SPACE     a file: while it exists, the disk is not full.
 * THRUM_DISK_FAILS     a file: while it exists, every flush fails.
 * THRUM_DISK_READ_ONLY if set, no file can be opened for writing.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t copying = PTHREAD_MUTEX_INITIALIZER;

static int path_of(int fd, char *name) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, PATH_MAX - 1);
    if (n < 0) return 0;
    name[n] = 0;
    return 1;
}

static int name_of(int fd, char *name) {
    const char *disk = getenv("THRUM_DISK");
    return disk && path_of(fd, name) && strncmp(name, disk, strlen(disk)) == 0;
}

/* A flush of the directory makes deletions durable. */
static void forget(int fd, const char *durable) {
    char name[PATH_MAX], path[PATH_MAX + 300];
    const char *disk = getenv("THRUM_DISK");
    if (!disk || !path_of(fd, name) || strlen(name) != (size_t)(strrchr(disk, '/') - disk) ||
        strncmp(name, disk, strlen(name)) != 0)
        return;
    DIR *directory = opendir(durable);
    for (struct dirent *entry; (entry = readdir(directory));) {
        snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
        if (strncmp(path, disk, strlen(disk)) != 0 || access(path, F_OK) == 0) continue;
        snprintf(path, sizeof path, "%s/%s", durable, entry->d_name);
        unlink(path);
    }
    closedir(directory);
}

static void keep(int fd) {
    char name[PATH_MAX], part[PATH_MAX + 64], whole[PATH_MAX + 64], buffer[1 << 16];
    const char *durable = getenv("THRUM_DISK_DURABLE");
    if (!durable) return;
    forget(fd, durable);
    if (!name_of(fd, name)) return;
    const char *base = strrchr(name, '/') + 1;
    pthread_mutex_lock(&copying);
    snprintf(part, sizeof part, "%s/%s.part", durable, base);
    snprintf(whole, sizeof whole, "%s/%s", durable, base);
    int from = REAL(open)(name, O_RDONLY), to = REAL(open)(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        if (REAL(write)(to, buffer, n) != n) abort();
    close(from);
    close(to);
    rename(part, whole);
    pthread_mutex_unlock(&copying);
}

static int flush_fails(int fd) {
    char name[PATH_MAX];
    const char *fails = getenv("THRUM_DISK_FAILS");
    return fails && access(fails, F_OK) == 0 && name_of(fd, name);
}

int fsync(int fd) {
    if (flush_fails(fd)) { errno = EIO; return -1; }
    int done = REAL(fsync)(fd);
    if (done == 0) keep(fd);
    return done;
}

int fdatasync(int fd) {
    if (flush_fails(fd)) { errno = EIO; return -1; }
    int done = REAL(fdatasync)(fd);
    if (done == 0) keep(fd);
    return done;
}

static int is_full(int fd, off_t end) {
    char name[PATH_MAX];
    const char *bytes = getenv("THRUM_DISK_BYTES"), *space = getenv("THRUM_DISK_SPACE");
    if (space && access(space, F_OK) == 0) return 0;
    return bytes && name_of(fd, name) && strstr(name, "-wal") && end > atoll(bytes);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t at) {
    if (is_full(fd, at + n)) { errno = ENOSPC; return -1; }
    return REAL(pwrite64)(fd, bytes, n, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
    if (is_full(fd, at + n)) { errno = ENOSPC; return -1; }
    return REAL(pwrite)(fd, bytes, n, at);
}

ssize_t write(int fd, const void *bytes, size_t n) {
    if (is_full(fd, lseek(fd, 0, SEEK_CUR) + n)) { errno = ENOSPC; return -1; }
    return REAL(write)(fd, bytes, n);
}

static int is_read_only(const char *name, int flags) {
    const char *disk = getenv("THRUM_DISK"), *read_only = getenv("THRUM_DISK_READ_ONLY");
    return read_only && disk && strncmp(name, disk, strlen(disk)) == 0 && (flags & (O_WRONLY | O_RDWR));
}

int open64(const char *name, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (is_read_only(name, flags)) { errno = EROFS; return -1; }
    return REAL(open64)(name, flags, mode);
}

int open(const char *name, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    if (is_read_only(name, flags)) { errno = EROFS; return -1; }
    return REAL(open)(name, flags, mode);
}
