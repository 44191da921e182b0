/* alternate ROUNDS PROGRAM ARGUMENTS... ::: PROGRAM ARGUMENTS...
 *
 * Runs the two commands in turn, and prints the median time of each, in microseconds: from just before its exec
 * to the start of the program `start` at the end of it, which prints that moment (see start.c). */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* The moment before exec, written by the child: what fork costs is not the command's work. */
static volatile long long *before_exec;

static long long run(char **command)
{
    int output[2];
    if (pipe(output) < 0)
        err(1, "pipe");
    pid_t child = fork();
    if (child < 0)
        err(1, "fork");
    if (child == 0) {
        dup2(output[1], STDOUT_FILENO);
        close(output[0]);
        close(output[1]);
        *before_exec = now();
        execv(command[0], command);
        err(127, "%s", command[0]);
    }
    close(output[1]);

    char text[64] = "";
    ssize_t length = 0, count;
    while ((count = read(output[0], text + length, sizeof text - 1 - length)) > 0)
        length += count;
    close(output[0]);

    int status;
    if (waitpid(child, &status, 0) < 0)
        err(1, "waitpid");
    if (status != 0)
        errx(1, "%s ended with wait status 0x%x", command[0], status);
    char *end;
    long long started = strtoll(text, &end, 10);
    if (end == text || *end != '\n')
        errx(1, "%s printed \"%s\" instead of a time", command[0], text);
    return started - *before_exec;
}

static int compare(const void *left, const void *right)
{
    long long a = *(const long long *)left, b = *(const long long *)right;
    return (a > b) - (a < b);
}

int main(int count, char **arguments)
{
    int rounds = count > 1 ? atoi(arguments[1]) : 0;
    char **commands[2] = { arguments + 2, NULL };
    for (int i = 2; i < count; i++) {
        if (strcmp(arguments[i], ":::") == 0) {
            arguments[i] = NULL;
            commands[1] = arguments + i + 1;
            break;
        }
    }
    if (rounds < 1 || commands[1] == NULL)
        errx(1, "usage: alternate ROUNDS COMMAND... ::: COMMAND...");

    before_exec = mmap(NULL, sizeof *before_exec, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long long *times[2] = { calloc(rounds, sizeof(long long)), calloc(rounds, sizeof(long long)) };
    if (before_exec == MAP_FAILED || !times[0] || !times[1])
        err(1, "memory");

    /* The first run of each is not measured: it reads the programs from the disk. */
    for (int round = -1; round < rounds; round++) {
        for (int side = 0; side < 2; side++) {
            long long time = run(commands[side]);
            if (round >= 0)
                times[side][round] = time;
        }
    }
    for (int side = 0; side < 2; side++) {
        qsort(times[side], rounds, sizeof(long long), compare);
        printf("%.1f%s", times[side][rounds / 2] / 1000.0, side ? "\n" : " ");
    }
    return 0;
}
