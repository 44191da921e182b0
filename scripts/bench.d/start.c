/* The command that the measured programs run: says when it was started, and ends.
 *
 * The time is CLOCK_MONOTONIC in nanoseconds, which is one and the same for all processes of the machine.
 * Static, so that it needs no library in any root file system. */
#include <stdio.h>
#include <time.h>

int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec) < 0;
}
