/*
 * Makes file calls fail on paths that hold a given text, for tests: gcc -shared -fPIC -o shim.so fault-shim.c -ldl,
 * then LD_PRELOAD=shim.so SHOAL_FAULT=control-file. The control file holds "CALL ERRNO EVERY TEXT": the calls named
 * (open, read, write, sync, rename, all) on a path with TEXT in it fail each EVERY-th time. Empty or missing: none fails.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static unsigned counter;

static int fails(const char *call, const char *path) {
  const char *control = getenv("SHOAL_FAULT");
  char text[600], kind[32], match[400];
  int code;
  unsigned every;
  if (control == NULL || strstr(path, control) != NULL) return 0;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  ssize_t n = syscall(SYS_read, fd, text, sizeof text - 1);
  syscall(SYS_close, fd);
  if (n <= 0) return 0;
  text[n] = 0;
  if (sscanf(text, "%31s %d %u %399s", kind, &code, &every, match) != 4) return 0;
  if (strcmp(kind, "all") != 0 && strcmp(kind, call) != 0) return 0;
  if (strstr(path, match) == NULL) return 0;
  if (__atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST) % every != 0) return 0;
  errno = code;
  return 1;
}

static int fd_fails(const char *call, int fd) {
  char link[64], path[4096];
  if (getenv("SHOAL_FAULT") == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return fails(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int mode_of(int flags, va_list rest) {
  return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, int) : 0;
}

#define OPEN(name)                                  \
  int name(const char *path, int flags, ...) {      \
    va_list rest;                                   \
    va_start(rest, flags);                          \
    int mode = mode_of(flags, rest);                \
    va_end(rest);                                   \
    if (fails("open", path)) return -1;             \
    return REAL(name)(path, flags, mode);           \
  }
OPEN(open)
OPEN(open64)

#define MOVE(name, call, type, args, names)         \
  ssize_t name args {                               \
    if (fd_fails(call, fd)) return -1;              \
    return REAL(name) names;                        \
  }
MOVE(write, "write", ssize_t, (int fd, const void *b, size_t n), (fd, b, n))
MOVE(pwrite, "write", ssize_t, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
MOVE(pwrite64, "write", ssize_t, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
MOVE(pwritev, "write", ssize_t, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
MOVE(pwritev64, "write", ssize_t, (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o))
MOVE(read, "read", ssize_t, (int fd, void *b, size_t n), (fd, b, n))
MOVE(pread, "read", ssize_t, (int fd, void *b, size_t n, off_t o), (fd, b, n, o))
MOVE(pread64, "read", ssize_t, (int fd, void *b, size_t n, off64_t o), (fd, b, n, o))
MOVE(preadv, "read", ssize_t, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
MOVE(preadv64, "read", ssize_t, (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o))

int fsync(int fd) { return fd_fails("sync", fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fd_fails("sync", fd) ? -1 : REAL(fdatasync)(fd); }
int rename(const char *from, const char *to) { return fails("rename", to) ? -1 : REAL(rename)(from, to); }
