/* ch02 ROOT COMMAND ARGUMENTS...: what the lesson ch02-mount does, with nothing around it. */
#include "spawn.h"

#include <linux/mount.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])
#define GUARDED (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* Opens `path` inside the directory `root`, wherever its links lead; -1 where there is none. */
static int find(int root, const char *path)
{
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
    int descriptor = syscall(SYS_openat2, root, path, &how, sizeof how);
    if (descriptor < 0 && errno != ENOENT)
        err(125, "openat2 %s", path);
    return descriptor;
}

/* A new file system, not attached yet. `options` are pairs of name and value, and end with NULL. */
static int new_tree(const char *kind, const char *const *options, unsigned attributes)
{
    int context = check(syscall(SYS_fsopen, kind, FSOPEN_CLOEXEC), "fsopen");
    check(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", kind, 0), "fsconfig");
    for (; options && *options; options += 2)
        check(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, options[0], options[1], 0), "fsconfig");
    check(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "fsconfig");
    int tree = check(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes), "fsmount");
    close(context);
    return tree;
}

/* A copy of the mounts at `path`, not attached yet. */
static int copy_tree(int directory, const char *path, unsigned recursive)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive;
    return check(syscall(SYS_open_tree, directory, path, flags), "open_tree");
}

static void attach(int tree, int place)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    check(syscall(SYS_move_mount, tree, "", place, "", flags), "move_mount");
    close(place);
}

static void mount_at(int root, const char *path, const char *kind, const char *const *options, unsigned attributes)
{
    int tree = new_tree(kind, options, attributes);
    attach(tree, find(root, path));
    close(tree);
}

static void mount_dev(int root)
{
    static const struct { const char *name; unsigned major, minor; } devices[] = {
        { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
    static const char *const links[][2] = {
        { "ptmx", "pts/ptmx" }, { "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" },
        { "stdout", "/proc/self/fd/1" }, { "stderr", "/proc/self/fd/2" } };
    static const char *const dev_options[] = { "mode", "755", "size", "65536k", NULL };
    static const char *const pts_options[] = { "mode", "620", "ptmxmode", "666", "gid", "5", NULL };
    static const char *const shm_options[] = { "mode", "1777", "size", "65536k", NULL };

    int dev = new_tree("tmpfs", dev_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
    attach(dev, find(root, "/dev"));
    for (size_t i = 0; i < LENGTH(devices); i++) {
        dev_t number = makedev(devices[i].major, devices[i].minor);
        check(mknodat(dev, devices[i].name, S_IFCHR | 0666, number), "mknodat");
        check(fchmodat(dev, devices[i].name, 0666, 0), "fchmodat");
    }
    check(mkdirat(dev, "pts", 0755), "mkdirat");
    mount_at(dev, "pts", "devpts", pts_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    check(mkdirat(dev, "shm", 01777), "mkdirat");
    mount_at(dev, "shm", "tmpfs", shm_options, GUARDED);
    for (size_t i = 0; i < LENGTH(links); i++)
        check(symlinkat(links[i][1], dev, links[i][0]), "symlinkat");
    close(dev);
}

static void mask(int root, const char *path)
{
    static const char *const options[] = { "mode", "755", "nr_inodes", "1", NULL };
    struct stat status;
    int place = find(root, path);
    if (place < 0)
        return;
    check(fstat(place, &status), "fstat");
    int cover = S_ISDIR(status.st_mode) ? new_tree("tmpfs", options, MOUNT_ATTR_RDONLY) : copy_tree(AT_FDCWD, "/dev/null", 0);
    attach(cover, place);
    close(cover);
}

static void make_read_only(int root, const char *path)
{
    struct mount_attr change = { .attr_set = MOUNT_ATTR_RDONLY };
    int place = find(root, path);
    if (place < 0)
        return;
    int tree = copy_tree(place, "", AT_RECURSIVE);
    check(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &change, sizeof change), "mount_setattr");
    attach(tree, place);
    close(tree);
}

static void enter(const char *path)
{
    static const char *const masked[] = { "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/sys/devices/virtual/powercap",
        "/sys/firmware" };
    static const char *const read_only[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };

    check(syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount");
    int place = check(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), path);
    int root = copy_tree(AT_FDCWD, path, AT_RECURSIVE);
    attach(root, place);
    mount_at(root, "/proc", "proc", NULL, GUARDED);
    mount_at(root, "/sys", "sysfs", NULL, GUARDED | MOUNT_ATTR_RDONLY);
    mount_dev(root);
    for (size_t i = 0; i < LENGTH(masked); i++)
        mask(root, masked[i]);
    for (size_t i = 0; i < LENGTH(read_only); i++)
        make_read_only(root, read_only[i]);

    check(fchdir(root), "fchdir");
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(syscall(SYS_umount2, ".", 2 /* MNT_DETACH */), "umount2");
    check(chdir("/"), "chdir");
    close(root);
}

int main(int count, char **arguments)
{
    if (count < 3)
        errx(125, "usage: ch02 ROOT COMMAND ARGUMENTS...");
    return spawn(CLONE_NEWPID | CLONE_NEWNS, enter, arguments[1], arguments + 2);
}
