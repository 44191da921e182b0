/* random-read FILE COUNT: reads COUNT blocks of 4096 bytes of the file, each at a random place, one after the other. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096 };

int main(int count, char **arguments)
{
    if (count != 3)
        errx(2, "usage: random-read FILE COUNT");
    int file = open(arguments[1], O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0)
        err(1, "%s", arguments[1]);
    uint64_t blocks = status.st_size / BLOCK;
    if (blocks == 0)
        errx(1, "%s has not even one block", arguments[1]);

    /* Marsaglia's xorshift: the same places in each run, so that all sides read the same. */
    uint64_t state = 88172645463325252;
    char buffer[BLOCK];
    for (long left = atol(arguments[2]); left > 0; left--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (pread(file, buffer, BLOCK, state % blocks * BLOCK) != BLOCK)
            err(1, "pread %s", arguments[1]);
    }
    return 0;
}
