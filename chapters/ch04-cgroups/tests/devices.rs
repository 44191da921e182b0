//! Device rules, as processes meet them that open and make device nodes.

use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ch04_cgroups::devices::{self, Access, CONTAINER_RULES, Devices, Kind, Rule};
use testing::{Need, Program, Sandbox, needs, poll};

/// Makes rules hold for the cgroup with a directory.
type Set = fn(BorrowedFd, &[Rule]) -> anyhow::Result<()>;

/// A new cgroup.
struct Cgroup {
    sandbox: Sandbox,
    path: PathBuf,
}

impl Cgroup {
    fn new(sandbox: Sandbox, parent: PathBuf) -> Cgroup {
        let path = parent.join("filtered");
        fs::create_dir(&path).unwrap();
        Cgroup { sandbox, path }
    }

    fn set(&self, set: Set, rules: &[Rule]) {
        set(File::open(&self.path).unwrap().as_fd(), rules).unwrap();
    }

    /// A shell script that runs in this cgroup after `before` has run outside of it. Its directory is one where
    /// device nodes work, which is not so in every directory of every machine.
    fn script(&self, before: &str, script: &str) -> Program {
        let text = format!(
            "set -e; mount -t tmpfs none /mnt; cd /mnt; {before}; echo 0 > \"$1\"/cgroup.procs; set +e; {script}"
        );
        Program::new("unshare")
            .args(["--mount", "sh", "-c", &text, "sh"])
            .arg(&self.path)
            .in_sandbox(&self.sandbox)
    }

    /// Whether a process in the cgroup may do each of these things. A node without a driver may be opened if
    /// that fails for another reason than the permission.
    fn answers(&self, questions: &[(Devices, Access)]) -> Vec<bool> {
        let (mut before, mut script) = (String::from(":"), String::new());
        for (devices, access) in questions {
            let numbers = devices.to_string().replace(':', " ");
            let node = numbers.replace(' ', "-");
            let attempt = match access.to_string().as_str() {
                "r" => format!("true < {node}"),
                "w" => format!("true > {node}"),
                "rw" => format!("true <> {node}"),
                "m" => format!("mknod made-{node} {numbers}"),
                other => panic!("{other} is not one attempt"),
            };
            if !before.contains(&format!(" {node} ")) {
                write!(before, "; mknod {node} {numbers}").unwrap();
            }
            writeln!(script, "({attempt}) 2>&1 && echo yes").unwrap();
        }
        let output = self.script(&before, &script).run();
        let answers: Vec<bool> = output
            .stdout
            .lines()
            .map(|line| {
                let permitted = line == "yes" || line.contains("No such device");
                assert_ne!(permitted, line.contains("Operation not permitted"), "{line:?} in {output}");
                permitted
            })
            .collect();
        assert_eq!(answers.len(), questions.len(), "{output}");
        answers
    }

    /// Checks lines of the form `c 1:3 rw yes` or `c 1:3 rw no`.
    #[track_caller]
    fn check(&self, expected: &[&str]) {
        let question = |line: &&str| {
            let (devices, access) = line.rsplit_once(' ').unwrap().0.rsplit_once(' ').unwrap();
            (devices.parse().unwrap(), access.parse().unwrap())
        };
        let questions: Vec<(Devices, Access)> = expected.iter().map(question).collect();
        for (line, answer) in expected.iter().zip(self.answers(&questions)) {
            assert_eq!(line.ends_with(" yes"), answer, "{line}");
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        poll(Duration::from_secs(5), || fs::remove_dir(&self.path).ok());
    }
}

/// Rules from lines of the form `allow c 1:3 rwm`.
fn rules(lines: &[&str]) -> Vec<Rule> {
    let rule = |line: &&str| {
        let (verb, rest) = line.split_once(' ').unwrap();
        let (devices, access) = rest.rsplit_once(' ').unwrap();
        Rule { allow: verb == "allow", devices: devices.parse().unwrap(), access: access.parse().unwrap() }
    };
    lines.iter().map(rule).collect()
}

/// A claim that must hold in both versions: two tests, each with its own needs.
macro_rules! in_both_versions {
    (fn $claim:ident($cgroup:ident: Cgroup, $set:ident: Set) $body:block) => {
        mod $claim {
            use super::*;

            fn claim($cgroup: Cgroup, $set: Set) $body

            #[test]
            fn on_v1() {
                needs!(Root, CgroupController("devices"));
                let sandbox = Sandbox::new();
                let parent = sandbox.cgroup("devices").unwrap();
                claim(Cgroup::new(sandbox, parent), devices::v1::write);
            }

            #[test]
            fn on_v2() {
                needs!(Root);
                let sandbox = Sandbox::new();
                let Some(parent) = sandbox.cgroup_v2() else {
                    fn here() {}
                    return testing::skip(here, Need::CgroupV2, "no hierarchy of version 2 is mounted");
                };
                claim(Cgroup::new(sandbox, parent), devices::v2::attach);
            }
        }
    };
}

in_both_versions! {
    fn in_a_container_all_nodes_can_be_made_and_few_opened(cgroup: Cgroup, set: Set) {
        cgroup.set(set, CONTAINER_RULES);
        cgroup.check(&[
            "c 1:3 rw yes", "c 1:5 r yes", "c 1:8 r yes", "c 1:9 r yes", "c 1:7 r yes", "c 5:0 rw yes",
            "c 1:1 r no", "c 1:11 r no", "c 4:1 w no", "b 1:3 r no", "b 3000:1 r no",
            "c 1:1 m yes", "b 8:0 m yes", "c 3000:1 m yes",
        ]);
    }
}

in_both_versions! {
    fn without_rules_no_device_can_be_opened_or_made(cgroup: Cgroup, set: Set) {
        cgroup.set(set, &[]);
        cgroup.check(&["c 1:3 r no", "c 1:3 w no", "c 1:3 m no", "b 3000:1 r no", "b 3000:1 m no"]);
    }
}

in_both_versions! {
    fn a_privileged_container_may_all(cgroup: Cgroup, set: Set) {
        cgroup.set(set, &[Rule::DENY_ALL, Rule::ALLOW_ALL]);
        cgroup.check(&["c 1:3 rw yes", "c 3000:1 rw yes", "b 3000:1 m yes"]);
    }
}

in_both_versions! {
    fn the_last_rule_decides(cgroup: Cgroup, set: Set) {
        cgroup.set(set, &rules(&["allow c 1:3 rwm", "allow c 1:5 rwm", "deny c 1:* w"]));
        cgroup.check(&["c 1:3 r yes", "c 1:3 w no", "c 1:3 rw no", "c 1:3 m yes", "c 1:5 w no"]);
        cgroup.set(set, &rules(&["allow c 1:3 rwm", "deny a *:* rwm", "allow c 1:5 r"]));
        cgroup.check(&["c 1:3 r no", "c 1:3 m no", "c 1:5 r yes", "c 1:5 w no", "c 1:5 rw no"]);
        cgroup.set(set, &rules(&["allow a *:* rwm", "deny c 1:5 w", "deny b 3000:* rwm"]));
        cgroup.check(&["c 1:3 rw yes", "c 1:5 r yes", "c 1:5 w no", "c 1:5 rw no", "b 3000:2 r no"]);
    }
}

in_both_versions! {
    fn reading_by_one_rule_and_writing_by_another_make_both(cgroup: Cgroup, set: Set) {
        cgroup.set(set, &rules(&["allow c 1:* r", "allow c *:5 w"]));
        cgroup.check(&["c 1:5 rw yes", "c 1:3 r yes", "c 1:3 rw no", "c 3000:5 w yes", "c 3000:5 rw no"]);
    }
}

in_both_versions! {
    fn while_rules_are_replaced_what_both_allow_stays_allowed_and_what_none_allows_stays_denied(
        cgroup: Cgroup,
        set: Set
    ) {
        let one = rules(&["allow c 1:3 rwm", "allow c 1:5 r"]);
        let other = rules(&["allow c 1:3 rwm", "allow c 1:7 r"]);
        cgroup.set(set, &one);
        let nodes = "mknod null c 1 3; mknod random c 1 8";
        let script = "echo ready; count=0
            while [ ! -e \"$1\"/stop ]; do
                (true <> null) 2>&1 || exit 1
                (true < random) 2>/dev/null && { echo random is open; exit 1; }
                count=$((count + 1))
                [ $count != 20 ] || mkdir \"$1\"/enough
            done";
        // The nodes of cgroups are directories: one below is a sign.
        let mut running = cgroup.script(nodes, script).spawn();
        assert_eq!(running.stdout_line(), "ready");
        let [enough, stop] = ["enough", "stop"].map(|sign| cgroup.path.join(sign));
        let end = Instant::now() + Duration::from_secs(30);
        for round in 0.. {
            cgroup.set(set, &other);
            cgroup.set(set, &one);
            if round > 300 && (enough.exists() || Instant::now() > end) {
                break;
            }
        }
        fs::create_dir(&stop).unwrap();
        let output = running.wait();
        fs::remove_dir(&stop).unwrap();
        assert_eq!(output.code, Some(0), "{output}");
        fs::remove_dir(&enough).expect("it tried twenty times");
        cgroup.check(&["c 1:3 rw yes", "c 1:5 r yes", "c 1:7 r no"]);
    }
}

in_both_versions! {
    fn any_rules_answer_as_the_specification_says_or_are_refused(cgroup: Cgroup, set: Set) {
        let mut dice = Dice(1);
        let questions = questions();
        let mut held = 0;
        for _ in 0..25 {
            let rules: Vec<Rule> = (0..=dice.roll(5)).map(|_| dice.rule()).collect();
            match set(File::open(&cgroup.path).unwrap().as_fd(), &rules) {
                Ok(()) => held += 1,
                Err(error) => {
                    assert!(error.to_string().starts_with("cgroup v1 can't "), "{rules:?}: {error:?}");
                    continue;
                }
            }
            for ((devices, access), answer) in questions.iter().zip(cgroup.answers(&questions)) {
                let expected = specified(&rules, *devices, *access);
                assert_eq!(answer, expected, "{devices} {access} by {rules:?}");
            }
        }
        assert!(held >= 10, "{held} of 25 lists hold");
    }
}

/// The definition: each access on its own, by the last rule that names it and the device.
fn specified(rules: &[Rule], devices: Devices, access: Access) -> bool {
    let decides = |rule: &&Rule, single: Access| {
        !(rule.access & single).is_empty()
            && (rule.devices.kind == Kind::All || rule.devices.kind == devices.kind)
            && (rule.devices.major.is_none() || rule.devices.major == devices.major)
            && (rule.devices.minor.is_none() || rule.devices.minor == devices.minor)
    };
    [Access::READ, Access::WRITE, Access::MKNOD]
        .into_iter()
        .filter(|single| !(access & *single).is_empty())
        .all(|single| rules.iter().rev().find(|rule| decides(rule, single)).is_some_and(|rule| rule.allow))
}

const MAJORS: [u32; 2] = [1, 3000];
const MINORS: [u32; 2] = [3, 7];

/// All accesses to `/dev/null` and `/dev/full`; of other nodes only whether they can be made, since an open that is
/// permitted makes the kernel look for a driver.
fn questions() -> Vec<(Devices, Access)> {
    let mut questions = Vec::new();
    for kind in [Kind::Block, Kind::Character] {
        for (major, minor) in MAJORS.into_iter().flat_map(|major| MINORS.map(|minor| (major, minor))) {
            let devices = Devices { kind, major: Some(major), minor: Some(minor) };
            let accesses = match (kind, major) {
                (Kind::Character, 1) => ["r", "w", "rw", "m"].as_slice(),
                _ => &["m"],
            };
            questions.extend(accesses.iter().map(|access| (devices, access.parse().unwrap())));
        }
    }
    questions
}

/// The same numbers at each run: a linear congruential generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn rule(&mut self) -> Rule {
        let kind = [Kind::All, Kind::Block, Kind::Character, Kind::Character][self.roll(4)];
        let major = [None, Some(MAJORS[0]), Some(MAJORS[1])][self.roll(3)];
        let minor = [None, Some(MINORS[0]), Some(MINORS[1])][self.roll(3)];
        let access = ["r", "w", "m", "rw", "rwm", "rwm"][self.roll(6)].parse().unwrap();
        Rule { allow: self.roll(3) > 0, devices: Devices { kind, major, minor }, access }
    }
}

#[test]
fn v1_refuses_a_hole_in_what_another_rule_allows() {
    needs!(Root, CgroupController("devices"));
    let sandbox = Sandbox::new();
    let parent = sandbox.cgroup("devices").unwrap();
    let cgroup = Cgroup::new(sandbox, parent);
    let directory = File::open(&cgroup.path).unwrap();
    let error = devices::v1::write(directory.as_fd(), &rules(&["allow c 1:* rwm", "deny c 1:5 w"]));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("can't deny c 1:5 w once a rule has allowed c 1:* rwm"), "{error}");
}

#[test]
fn v1_says_that_the_parent_does_not_allow_as_much() {
    needs!(Root, CgroupController("devices"));
    let sandbox = Sandbox::new();
    let parent = sandbox.cgroup("devices").unwrap();
    let cgroup = Cgroup::new(sandbox, parent);
    cgroup.set(devices::v1::write, &rules(&["allow c 1:3 r"]));
    let child = cgroup.path.join("child");
    fs::create_dir(&child).unwrap();
    let result = devices::v1::write(File::open(&child).unwrap().as_fd(), &rules(&["allow c 1:3 rw"]));
    fs::remove_dir(&child).unwrap();
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("to devices.allow of the cgroup: the parent cgroup does not allow"), "{error}");
    assert!(error.contains("Operation not permitted"), "{error}");
}

#[test]
fn the_kernel_takes_the_program_of_a_long_list() {
    needs!(Root);
    let sandbox = Sandbox::new();
    let Some(parent) = sandbox.cgroup_v2() else {
        fn here() {}
        return testing::skip(here, Need::CgroupV2, "no hierarchy of version 2 is mounted");
    };
    let cgroup = Cgroup::new(sandbox, parent);
    let mut dice = Dice(2);
    let mut long: Vec<Rule> = (0..1000).map(|_| dice.rule()).collect();
    long.retain(|rule| rule.devices != Devices::ALL);
    long.extend(rules(&["deny c 1:3 w"]));
    cgroup.set(devices::v2::attach, &long);
    cgroup.check(&["c 1:3 w no"]);
}
