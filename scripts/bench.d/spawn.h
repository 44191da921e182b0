/* What ch01.c and ch02.c share: the calls by which the library of ch01-pid makes a process, runs init in it, and waits. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int check(long result, const char *call)
{
    if (result < 0)
        err(125, "%s", call);
    return result;
}

/* Blocks the signals that are passed on, and `more`; returns their signalfd. */
static int queue_signals(int more)
{
    const int forwarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH };
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof forwarded / sizeof forwarded[0]; i++)
        sigaddset(&set, forwarded[i]);
    if (more)
        sigaddset(&set, more);
    check(sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
    return check(signalfd(-1, &set, SFD_CLOEXEC), "signalfd");
}

/* Closes all descriptors above 2 but two. */
static void close_others(int first, int second)
{
    if (first > second) {
        int other = first;
        first = second;
        second = other;
    }
    if (first > 3)
        check(syscall(SYS_close_range, 3, first - 1, 0), "close_range");
    if (second > first + 1)
        check(syscall(SYS_close_range, first + 1, second - 1, 0), "close_range");
    check(syscall(SYS_close_range, second + 1, ~0U, 0), "close_range");
}

static void execute(char **command)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    check(sigprocmask(SIG_SETMASK, &none, NULL), "sigprocmask");
    execv(command[0], command);
    err(127, "execv %s", command[0]);
}

static int shell_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Stays behind as PID 1: reaps, passes signals on, ends with the command's status. */
static void init(int report, char **command)
{
    int signals = queue_signals(SIGCHLD);
    pid_t child = check(fork(), "fork");
    if (child == 0)
        execute(command);
    close(report);
    close_others(signals, signals);
    for (;;) {
        struct signalfd_siginfo event;
        check(read(signals, &event, sizeof event), "read a signal");
        if (event.ssi_signo != SIGCHLD) {
            kill(child, event.ssi_signo);
            continue;
        }
        int status;
        pid_t ended;
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
            if (ended == child)
                _exit(shell_status(status));
    }
}

/* Runs `inside` in a child in new `namespaces`, as PID 1, and after it the command; returns the command's status. */
static int spawn(uint64_t namespaces, void (*inside)(const char *root), const char *root, char **command)
{
    int signals = queue_signals(0);
    int gate[2], report[2], pidfd;
    check(pipe2(gate, O_CLOEXEC), "pipe2");
    check(pipe2(report, O_CLOEXEC), "pipe2");

    struct clone_args arguments = {
        .flags = namespaces | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD };
    pid_t child = check(syscall(SYS_clone3, &arguments, sizeof arguments), "clone3");
    char byte = '!';
    if (child == 0) {
        close_others(gate[0], report[1]);
        check(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
        if (read(gate[0], &byte, 1) != 1)
            _exit(125);
        close(gate[0]);
        inside(root);
        init(report[1], command);
    }
    close(gate[0]);
    close(report[1]);
    check(write(gate[1], &byte, 1), "write to the gate");
    close(gate[1]);
    if (read(report[0], &byte, 1) != 0)
        errx(125, "the child reported an error");
    close(report[0]);

    struct pollfd sources[] = { { pidfd, POLLIN, 0 }, { signals, POLLIN, 0 } };
    siginfo_t end;
    check(poll(sources, 2, -1), "poll");
    check(waitid(P_PIDFD, pidfd, &end, WEXITED), "waitid");
    return end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
}
