"""A disk that fails, hangs or is slow when a test says so: a few lines of C, loaded into the daemon before libc.

Only SQLite's log is touched by it, as that is what every answer waits for.
"""

import shutil
import subprocess
from pathlib import Path

COMPILER = shutil.which("gcc") or shutil.which("cc")
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *in_directory(const char *name, char *path) {
    snprintf(path, 512, "%s/%s", getenv("BAD_DISK"), name);
    return path;
}

static int is_told(const char *what) {
    char path[512];
    return access(in_directory(what, path), F_OK) == 0;
}

static int is_log(int fd) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 13) return 0;
    path[length] = 0;
    return strcmp(path + length - 13, "/state.db-wal") == 0;
}

static int fails_to_sync(int fd) {
    if (!is_log(fd)) return 0;
    char path[512];
    int count = open(in_directory("syncs", path), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (count < 0 || write(count, ".", 1) != 1) abort();
    close(count);
    while (is_told("hang")) usleep(2000);
    return is_told("fail sync");
}

static void before_write(int fd, const void *data, size_t count, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!is_told("tear") || !is_log(fd)) return;
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (real(fd, data, count / 2, offset) < 0) abort();
    raise(SIGKILL);
}

#define SYNC(NAME) \
    int NAME(int fd) { \
        static int (*real)(int); \
        if (!real) real = dlsym(RTLD_NEXT, #NAME); \
        if (fails_to_sync(fd)) { errno = EIO; return -1; } \
        return real(fd); \
    }
#define WRITE(NAME, OFFSET) \
    ssize_t NAME(int fd, const void *data, size_t count, OFFSET offset) { \
        static ssize_t (*real)(int, const void *, size_t, OFFSET); \
        if (!real) real = dlsym(RTLD_NEXT, #NAME); \
        before_write(fd, data, count, offset); \
        if (is_told("fail write") && is_log(fd)) { errno = EIO; return -1; } \
        return real(fd, data, count, offset); \
    }
SYNC(fsync)
SYNC(fdatasync)
WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)
"""


class BadDisk:
    """What is wrong now, as files that the library looks for: ``hang``, ``fail sync``, ``fail write``, ``tear``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        source, library = directory / "bad_disk.c", directory / "bad_disk.so"
        source.write_text(_SOURCE)
        assert COMPILER, "there is no C compiler"
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "BAD_DISK": str(directory)}

    def begin(self, what: str) -> None:
        """From now on ``what`` is wrong."""
        (self._directory / what).touch()

    def end(self, what: str) -> None:
        """It is well again."""
        (self._directory / what).unlink()

    @property
    def sync_count(self) -> int:
        """How often the log was to be synced so far."""
        return (self._directory / "syncs").stat().st_size
