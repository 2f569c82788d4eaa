/* Makes the n-th change of a folder fail, or the last one; for LD_PRELOAD, see tests/faults/shim.py.

   Changes are the system calls that change files below one folder: opening for writing, write,
   fsync, rename, unlink, mkdir, ... Libraries in C and Rust go through them as Python does. They are
   counted from 1; the fault happens at number `at`. With a folder for the record, each change is a
   line there, and what reaches the disk by fsync is copied there, so that the state after a power
   failure can be put together. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NOTHING, FAIL, FAIL_ON, KILL, TORN, TORN_KILL, SIGNAL };

static char root[PATH_MAX];
static size_t root_length;
static int record = -1;          /* file for the lines */
static int copies = -1;          /* folder for what was synced */
static int action, number, reads;
static long at;
static atomic_long count;

long fault_count(void) { return atomic_load(&count); }

/* Called once in each forked process: everything before belongs to the server. */
void fault_arm(const char *folder, const char *record_folder, int keep_copies, int what, long when,
               int error, int count_reads) {
    action = NOTHING;
    if (record_folder && *record_folder) {
        int folder_fd = syscall(SYS_openat, AT_FDCWD, record_folder, O_RDONLY | O_DIRECTORY, 0);
        record = syscall(SYS_openat, folder_fd, "record", O_WRONLY | O_CREAT | O_APPEND, 0666);
        copies = keep_copies ? folder_fd : -1;
    }
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    atomic_store(&count, 0);
    at = when, number = error, reads = count_reads;
    action = what;
}

static int below(const char *path) {
    return root_length && !strncmp(path, root, root_length) &&
           (path[root_length] == '/' || !path[root_length]);
}

/* The path of a descriptor; empty for pipes and the like. */
static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

/* An absolute path, from one that may be relative to a folder. */
static void full(int folder, const char *name, char *path) {
    char start[PATH_MAX];
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    if (folder == AT_FDCWD) {
        if (syscall(SYS_getcwd, start, sizeof start) < 0) start[0] = 0;
    } else {
        path_of(folder, start);
    }
    if (strlen(start) + strlen(name) + 2 > PATH_MAX) { path[0] = 0; return; }
    strcpy(path, start), strcat(path, "/"), strcat(path, name);
}

static void say(long n, const char *call, const char *path, const char *other) {
    char line[2 * PATH_MAX + 64];
    if (record < 0) return;
    int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\n", n, call, path, other ? other : "");
    syscall(SYS_write, record, line, (size_t)length);
}

/* The file system gives the number of a deleted file to the next one: keep it. */
static void keep(const char *path) {
    if (copies >= 0) syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
}

/* Copy what a sync brings to the disk: the bytes of a file, or the names in a folder. */
static void copy_synced(int fd, long n) {
    char link[64], name[64], buffer[65536];
    struct stat status;
    if (copies < 0 || syscall(SYS_fstat, fd, &status)) return;
    snprintf(name, sizeof name, "%ld.%lu.%s", n, (unsigned long)status.st_ino,
             S_ISDIR(status.st_mode) ? "folder" : "file");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int to = syscall(SYS_openat, copies, name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int from = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY, 0);
    if (S_ISDIR(status.st_mode)) {
        struct { unsigned long ino; long next; unsigned short size; unsigned char type; char name[]; } *entry;
        long got, place;
        while ((got = syscall(SYS_getdents64, from, buffer, sizeof buffer)) > 0)
            for (place = 0; place < got; place += entry->size) {
                char line[PATH_MAX];
                entry = (void *)(buffer + place);
                if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..")) continue;
                int length = snprintf(line, sizeof line, "%lu\t%s\n", entry->ino, entry->name);
                syscall(SYS_write, to, line, (size_t)length);
            }
    } else {
        long got;
        while ((got = syscall(SYS_read, from, buffer, sizeof buffer)) > 0)
            syscall(SYS_write, to, buffer, (size_t)got);
    }
    syscall(SYS_close, from), syscall(SYS_close, to);
}

static void end(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* What the call does now: 0 goes on, -1 fails, 1 is torn (a write of half the bytes, then failure).
   A call that is torn and writes nothing fails. */
static int change(const char *call, const char *path, const char *other, long *place) {
    long n = atomic_fetch_add(&count, 1) + 1;
    *place = n;
    say(n, call, path, other);
    if (n < at || !at) return 0;
    if (n > at) {
        /* Deleting needs no room on the disk. */
        if (action == FAIL_ON && strcmp(call, "unlink") && strcmp(call, "rmdir")) {
            errno = number;
            return -1;
        }
        return 0;
    }
    switch (action) {
    case FAIL: case FAIL_ON: errno = number; return -1;
    case KILL: end();
    case TORN: case TORN_KILL: errno = number; return 1;
    case SIGNAL: {
        struct timespec used;
        char text[64];
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        snprintf(text, sizeof text, "%ld.%09ld", (long)used.tv_sec, used.tv_nsec);
        say(n, "signal", text, "");
        syscall(SYS_kill, getpid(), number);
    }
    }
    return 0;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define ARMED (root_length > 0)

static int faulty(const char *call, const char *path, const char *other) {
    long n;
    int outcome = change(call, path, other, &n);
    if (outcome == 1) { if (action == TORN_KILL) end(); outcome = -1; }
    return outcome;
}

/* -- opening ------------------------------------------------------------------------------------ */

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

static int opening(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    if (!ARMED || flags & O_PATH || (!writes(flags) && !reads)) return 0;
    full(folder, name, path);
    if (!below(path)) return 0;
    if (flags & O_TRUNC) keep(path);
    return faulty(writes(flags) ? "open" : "look", path, 0);
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list list; \
    va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }

int open(const char *name, int flags, ...) {
    REAL(open); MODE
    return opening(AT_FDCWD, name, flags) ? -1 : real(name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    REAL(open64); MODE
    return opening(AT_FDCWD, name, flags) ? -1 : real(name, flags, mode);
}
int openat(int folder, const char *name, int flags, ...) {
    REAL(openat); MODE
    return opening(folder, name, flags) ? -1 : real(folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
    REAL(openat64); MODE
    return opening(folder, name, flags) ? -1 : real(folder, name, flags, mode);
}

/* -- calls on a descriptor ---------------------------------------------------------------------- */

/* As `change`, for a descriptor; 0 also for what lies elsewhere. */
static int on(const char *call, int fd) {
    char path[PATH_MAX];
    long n;
    if (!ARMED) return 0;
    path_of(fd, path);
    return below(path) ? change(call, path, 0, &n) : 0;
}

#define WRITE(call, name, arguments, half) \
    int outcome = on(call, fd); REAL(name); \
    if (outcome < 0) return -1; \
    if (outcome == 1) { int error = errno; half; if (action == TORN_KILL) end(); errno = error; return -1; } \
    return real arguments

ssize_t write(int fd, const void *data, size_t size) {
    WRITE("write", write, (fd, data, size), real(fd, data, size / 2));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    WRITE("write", pwrite, (fd, data, size, offset), real(fd, data, size / 2, offset));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    WRITE("write", pwrite64, (fd, data, size, offset), real(fd, data, size / 2, offset));
}
ssize_t writev(int fd, const struct iovec *parts, int many) {
    WRITE("write", writev, (fd, parts, many), real(fd, parts, 1));
}
int ftruncate(int fd, off_t size) { WRITE("truncate", ftruncate, (fd, size), ); }
int ftruncate64(int fd, off64_t size) { WRITE("truncate", ftruncate64, (fd, size), ); }
ssize_t sendfile(int fd, int from, off_t *offset, size_t size) {
    WRITE("write", sendfile, (fd, from, offset, size), );
}
ssize_t sendfile64(int fd, int from, off64_t *offset, size_t size) {
    WRITE("write", sendfile64, (fd, from, offset, size), );
}
ssize_t copy_file_range(int from, off64_t *start, int fd, off64_t *to, size_t size, unsigned flags) {
    WRITE("write", copy_file_range, (from, start, fd, to, size, flags), );
}
int posix_fallocate(int fd, off_t offset, off_t size) {
    int outcome = on("allocate", fd); REAL(posix_fallocate);
    return outcome ? errno : real(fd, offset, size);
}

#define SYNC(name) \
    char path[PATH_MAX]; long n = 0; REAL(name); \
    if (!ARMED) return real(fd); \
    path_of(fd, path); \
    if (!below(path)) return real(fd); \
    if (change("sync", path, 0, &n)) { if (action == TORN_KILL) end(); return -1; } \
    copy_synced(fd, n); \
    return 0

/* Nothing is really synced: a test would only wait for the disk. */
int fsync(int fd) { SYNC(fsync); }
int fdatasync(int fd) { SYNC(fdatasync); }

ssize_t read(int fd, void *data, size_t size) {
    REAL(read);
    if (reads && on("read", fd)) return -1;
    return real(fd, data, size);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t offset) {
    REAL(pread64);
    if (reads && on("read", fd)) return -1;
    return real(fd, data, size, offset);
}

/* -- calls on names ----------------------------------------------------------------------------- */

static int naming(const char *call, int folder, const char *name, int other_folder, const char *other) {
    char path[PATH_MAX], second[PATH_MAX] = "";
    if (!ARMED) return 0;
    full(folder, name, path);
    if (other) full(other_folder, other, second);
    if (!below(path) && !(other && below(second))) return 0;
    if (faulty(call, path, second)) return -1;
    keep(other ? second : path);
    return 0;
}

#define NAME(call, name, folder, path, other_folder, other, arguments) \
    REAL(name); return naming(call, folder, path, other_folder, other) ? -1 : real arguments

int rename(const char *a, const char *b) { NAME("rename", rename, AT_FDCWD, a, AT_FDCWD, b, (a, b)); }
int renameat(int f, const char *a, int g, const char *b) { NAME("rename", renameat, f, a, g, b, (f, a, g, b)); }
int renameat2(int f, const char *a, int g, const char *b, unsigned flags) {
    NAME("rename", renameat2, f, a, g, b, (f, a, g, b, flags));
}
int link(const char *a, const char *b) { NAME("link", link, AT_FDCWD, a, AT_FDCWD, b, (a, b)); }
int linkat(int f, const char *a, int g, const char *b, int flags) {
    NAME("link", linkat, f, a, g, b, (f, a, g, b, flags));
}
int symlink(const char *to, const char *a) { NAME("symlink", symlink, AT_FDCWD, a, 0, 0, (to, a)); }
int unlink(const char *a) { NAME("unlink", unlink, AT_FDCWD, a, 0, 0, (a)); }
int unlinkat(int f, const char *a, int flags) { NAME("unlink", unlinkat, f, a, 0, 0, (f, a, flags)); }
int rmdir(const char *a) { NAME("rmdir", rmdir, AT_FDCWD, a, 0, 0, (a)); }
int remove(const char *a) { NAME("unlink", remove, AT_FDCWD, a, 0, 0, (a)); }
int mkdir(const char *a, mode_t mode) { NAME("mkdir", mkdir, AT_FDCWD, a, 0, 0, (a, mode)); }
int mkdirat(int f, const char *a, mode_t mode) { NAME("mkdir", mkdirat, f, a, 0, 0, (f, a, mode)); }
int truncate(const char *a, off_t size) { NAME("truncate", truncate, AT_FDCWD, a, 0, 0, (a, size)); }
int truncate64(const char *a, off64_t size) { NAME("truncate", truncate64, AT_FDCWD, a, 0, 0, (a, size)); }
