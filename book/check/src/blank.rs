//! What varies from run to run, blanked before two outputs are compared.
//!
//! A page keeps the true sample output of one run: real pids, real inode numbers. [`line()`] replaces what
//! another run may print differently by a letter, on both sides, so that only the rest has to agree. The
//! rules are few, and each is tied to a shape that the kernel or a tool prints: a blank that is too greedy
//! would hide a wrong result.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The rules, in the order in which they are applied: what is found, and what stands for it.
static RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let rules = [
        // Namespaces, as /proc/PID/ns shows them: `pid:[4026531836]`. namespaces(7)
        (r"\b(cgroup|ipc|mnt|net|pid|time|user|uts):\[\d+\]", "$1:[I]"),
        // A line of /proc/PID/mountinfo begins with mount ID, parent ID, major:minor. proc_pid_mountinfo(5)
        (r"^(\s*)\d+ \d+ \d+:\d+ ", "$1 M M D "),
        // Peer groups of mount propagation in the same file.
        (r"\b(shared|master|propagate_from):\d+", "$1:G"),
        // Sizes of the machine's memory in the options of a tmpfs.
        (r"\b(size|nr_inodes)=\d+k?\b", "$1=S"),
        // The width of its inode numbers, which a tmpfs tells where the kernel was built to choose it.
        // tmpfs(5)
        (r",inode(32|64)\b", ""),
        // Where the state of a network namespace is, by its inode.
        (r"(/run/hull/network/)\d+", "${1}I"),
        // Device and inode of a file: `254:1:131074`, `dev 254:1 inode 131074`.
        (r"(^|[\s(=])\d+:\d+:\d+\b", "${1}D:I"),
        (r"\b(dev(?:ice)?[ :=]+)[0-9a-f]+(:[0-9a-f]+)?\b", "${1}D"),
        (r"\b([Ii]no(?:de)?s?[ :=#]+)\d+", "${1}I"),
        // Times: a clock's, and those with a fraction or a unit below the second. A whole number of seconds
        // is kept.
        (r"\b\d\d?:\d\d(:\d\d)?(\.\d+)?\b", "H"),
        (r"\b\d+\.\d+ ?(s|seconds?)\b", "T"),
        (r"\b\d+(\.\d+)? ?(ms|µs|us|ns)\b", "T"),
        (r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d\d?\b( +\d{4}\b)?", "DAY"),
        // Temporary directories as Rust's tempfile and mktemp(1) name them.
        (r"\.tmp[A-Za-z0-9]{6}\b", ".tmpX"),
        (r"\btmp\.[A-Za-z0-9]{6,}\b", "tmp.X"),
        // Those of chapter 5: a run's layers, and a layer that is not there as a whole yet.
        (r"\b(hull-layers|partial-layer)-[A-Za-z0-9]{6}\b", "$1-X"),
        // A descriptor that is handed to a file system: its number depends on what the terminal has left open.
        (r"\bfd=\d+,", "fd=F,"),
        // Addresses in memory; flags, which have at most eight digits, are kept.
        (r"\b0x[0-9a-f]{9,}\b", "0xA"),
        // A kernel's release: `6.12.41-amd64`, `6.12.117+deb13-amd64`.
        (r"\b\d+\.\d+\.\d+(\+\w+)?(-[\w.+]+)+", "R"),
        // What busybox says of its own release and of who has built it, when its shell starts.
        (r"\bBusyBox v\d[\w.]* \([^)]*\)", "BusyBox V"),
        // Columns are as wide as their widest number.
        (r"[ \t]+", " "),
    ];
    let compile = |(pattern, blank): &(&str, &'static str)| (regex(pattern), *blank);
    rules.iter().map(compile).collect()
});

/// Process IDs: after a word that announces one, below /proc, in /proc/PID/status, or where a shell starts a
/// job.
static PIDS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"\b(?:[Pp]ids?|PIDs?|PPID|ppid|TID|tid|[Pp]rocess|[Cc]hild|[Pp]arent|[Oo]rphan)\b[ :=#(]*(\d+)",
        r"/proc/(\d+)",
        r"(?:pidfd_open|kill|waitpid|wait4|setpgid|tcsetpgrp)\((\d+)",
        r"^\[\d+\][-+ ] *(\d+)$",
        // The second column of a view: `process  4242 (sh) | 4243 (sh)`.
        r"\| (\d+) \(",
        r"clone3?\(.*\) *(?:=|->|→) *(\d+)",
    ]
    .map(regex)
    .into()
});

/// The lists of process IDs in /proc/PID/status and in a lesson's view. `NSpid: 4242 1` must keep its 1.
static LISTS: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"\b(Tgid|Pid|PPid|TracerPid|Ngid|NStgid|NSpid|NSpgid|NSsid|sees pids)\b[:|\s\d]+")
});

/// A number of a list.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| regex(r"\d+"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

/// A whole output, blanked line by line; blank lines at its end and spaces at a line's end don't count.
pub fn output(lines: &[String]) -> Vec<String> {
    let mut columns = Vec::new();
    let mut blanked: Vec<String> = Vec::new();
    for text in lines {
        let heading = pid_columns(text);
        if !heading.is_empty() {
            columns = heading;
            blanked.push(line(text));
        } else {
            blanked.push(line(&blank_columns(text, &columns)));
        }
    }
    while blanked.last().is_some_and(String::is_empty) {
        blanked.pop();
    }
    blanked
}

/// Which words of a table's heading, as ps(1) prints it, stand over process IDs.
fn pid_columns(text: &str) -> Vec<usize> {
    const HEADINGS: [&str; 6] = ["PID", "PPID", "TID", "PGID", "PGRP", "SID"];
    let words = text.split_whitespace().enumerate();
    words.filter(|(_, word)| HEADINGS.contains(word)).map(|(index, _)| index).collect()
}

/// Blanks the numbers in these columns of a table's line. A line with something else there is not of the
/// table.
fn blank_columns(text: &str, columns: &[usize]) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    for &column in columns {
        match words.get(column) {
            Some(word) if word.bytes().all(|byte| byte.is_ascii_digit()) => {
                if !["0", "1"].contains(word) {
                    words[column] = "P";
                }
            }
            _ => return text.to_string(),
        }
    }
    match columns {
        [] => text.to_string(),
        _ => words.join(" "),
    }
}

/// One line, blanked. PID 0 and PID 1 are no accident, so they are kept.
pub fn line(text: &str) -> String {
    let mut text = text.trim_end().to_string();
    let numbers = |list: &Captures<'_>| NUMBER.replace_all(&list[0], blank_pid(0)).into_owned();
    text = LISTS.replace_all(&text, numbers).into_owned();
    for rule in PIDS.iter() {
        text = rule.replace_all(&text, blank_pid(1)).into_owned();
    }
    for (rule, blank) in RULES.iter() {
        text = rule.replace_all(&text, *blank).into_owned();
    }
    text.trim_end().to_string()
}

/// Replaces the group of a match by `P`, unless it is 0 or 1.
fn blank_pid(group: usize) -> impl Fn(&Captures<'_>) -> String {
    move |found| {
        let (whole, pid) = (found.get(0).expect("a match"), &found[group]);
        if pid == "0" || pid == "1" {
            return whole.as_str().to_string();
        }
        let at = found.get(group).expect("a group").range();
        let (before, after) = (at.start - whole.start(), at.end - whole.start());
        let text = whole.as_str();
        format!("{}P{}", &text[..before], &text[after..])
    }
}

#[cfg(test)]
mod tests {
    use super::{line, output};

    #[test]
    fn what_varies_is_blanked() {
        let pairs = [
            ("pid:[4026531836]", "pid:[4026532201]"),
            ("/run/hull/network/4026531840/lock", "/run/hull/network/4026532177/lock"),
            ("NSpid:\t4242\t1", "NSpid:\t5151\t1"),
            ("child 4242 is PID 1 in there", "child 77 is PID 1 in there"),
            ("/proc/4242/status", "/proc/9/status"),
            ("[1] 4321", "[1] 99"),
            ("clone3(CLONE_NEWPID) = 4242", "clone3(CLONE_NEWPID) = 4243"),
            ("36 35 98:0 / /proc rw shared:7 - proc", "41 40 0:62 / /proc rw shared:12 - proc"),
            ("took 1.25 s, or 17 ms", "took 0.98 s, or 9.5 ms"),
            ("drwxr-xr-x 2 root root 40 Nov 24 11:38 bin", "drwxr-xr-x 2 root root 40 Dec  1 09:02 bin"),
            ("sees pids  3: 1 48 4481 | 1: 1", "sees pids  3: 1 50 77 | 1: 1"),
            ("= says NSpid: 4242 1", "= says NSpid: 17 1"),
            ("/ is device 52 inode 2", "/ is device 49 inode 77"),
            ("dev 254:1 inode 131074", "dev 0:41 inode 2"),
            ("/tmp/.tmpAb12Cd/x", "/tmp/.tmpZZ99zz/x"),
            ("/var/tmp/hull-layers-Ab12Cd/store", "/var/tmp/hull-layers-ZZ99zz/store"),
            ("store/diff/.partial-layer-Ab12Cd/content", "store/diff/.partial-layer-ZZ99zz/content"),
            ("fsconfig(source=aufs,fd=10,rootmode=40755)", "fsconfig(source=aufs,fd=11,rootmode=40755)"),
            ("Linux 6.12.41-amd64", "Linux 7.0.1-3-generic"),
            ("Linux 6.12.41-amd64", "Linux 6.12.117+deb13-amd64"),
            ("/tmp rw - tmpfs tmpfs rw", "/tmp rw - tmpfs tmpfs rw,inode64"),
            ("/home rw - tmpfs tmpfs rw,mode=755", "/home rw - tmpfs tmpfs rw,mode=755,inode64"),
            (
                "BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) built-in shell (ash)",
                "BusyBox v1.37.0 (2024-09-26 21:31:42 UTC) built-in shell (ash)",
            ),
        ];
        for (one, other) in pairs {
            assert_eq!(line(one), line(other));
        }
    }

    #[test]
    fn what_must_agree_is_kept() {
        let pairs = [
            ("NSpid:\t4242\t1", "NSpid:\t4242\t2"),
            ("pid 1", "pid 2"),
            ("pid:[4026531836]", "net:[4026531836]"),
            ("[exit status: 137]", "[exit status: 143]"),
            ("docker stop takes 10 s", "docker stop takes 1 s"),
            ("clone3(0x20000000)", "clone3(0x20020000)"),
            ("inet 127.0.0.1/8", "inet 127.0.0.2/8"),
            ("/var/tmp/hull-layers-Ab12Cd", "/tmp/hull-layers-Ab12Cd"),
            ("learner:100000:65536", "learner:100000:65537"),
            ("         0       1000          1", "         0     100000          1"),
            ("drwxr-xr-x", "drwxrwxrwx"),
            ("tmpfs rw,mode=755,inode64", "tmpfs rw,mode=700,inode64"),
            ("BusyBox v1.35.0 (Debian) built-in shell (ash)", "BusyBox v1.35.0 (Debian) multi-call binary."),
        ];
        for (one, other) in pairs {
            assert_ne!(line(one), line(other));
        }
    }

    #[test]
    fn a_column_of_process_ids_is_blanked_except_for_pid_1() {
        let table = |lines: &[&str]| output(&lines.iter().map(|line| line.to_string()).collect::<Vec<_>>());
        let one = table(&["PID   USER     COMMAND", "    1 root     init", " 4242 root     sh 12"]);
        assert_eq!(one, table(&["PID   USER     COMMAND", "    1 root     init", "   17 root     sh 12"]));
        assert_ne!(one, table(&["PID   USER     COMMAND", "    2 root     init", "   17 root     sh 12"]));
        assert_ne!(one, table(&["PID   USER     COMMAND", "    1 root     init", "   17 root     sh 13"]));
    }
}
