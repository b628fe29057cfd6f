/* Preloaded into a process: each write to a file and each sync of one takes SLOW_DISK_MS as long as the file named by
   SLOW_DISK exists. Sockets and pipes are as fast as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void wait_for(int fd) {
  const char *flag = getenv("SLOW_DISK"), *ms = getenv("SLOW_DISK_MS");
  struct stat what;
  if (!flag || !ms || access(flag, F_OK) || fstat(fd, &what) || !S_ISREG(what.st_mode)) return;
  struct timespec pause = {atoi(ms) / 1000, atoi(ms) % 1000 * 1000000L};
  nanosleep(&pause, NULL);
}

#define SLOW(result, name, parameters, ...)                                       \
  result name parameters {                                                        \
    static result(*real) parameters;                                              \
    if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);              \
    wait_for(fd);                                                                 \
    return real(__VA_ARGS__);                                                     \
  }

SLOW(ssize_t, write, (int fd, const void *from, size_t size), fd, from, size)
SLOW(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), fd, from, size, at)
SLOW(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), fd, from, size, at)
SLOW(ssize_t, writev, (int fd, const struct iovec *from, int many), fd, from, many)
SLOW(int, fsync, (int fd), fd)
SLOW(int, fdatasync, (int fd), fd)
