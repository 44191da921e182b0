/* ch01 ROOT COMMAND ARGUMENTS...: what the lesson ch01-pid does, with nothing around it. */
#include "spawn.h"

static void enter(const char *root)
{
    check(chroot(root), "chroot");
    check(chdir("/"), "chdir");
}

int main(int count, char **arguments)
{
    if (count < 3)
        errx(125, "usage: ch01 ROOT COMMAND ARGUMENTS...");
    return spawn(CLONE_NEWPID, enter, arguments[1], arguments + 2);
}
