/* ch00 ROOT COMMAND ARGUMENTS...: what the lesson ch00-chroot does, with nothing around it. */
#include <err.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    if (count < 3)
        errx(125, "usage: ch00 ROOT COMMAND ARGUMENTS...");
    if (chroot(arguments[1]) < 0)
        err(125, "chroot %s", arguments[1]);
    if (chdir("/") < 0)
        err(125, "chdir /");
    execv(arguments[2], arguments + 2);
    err(127, "execv %s", arguments[2]);
}
