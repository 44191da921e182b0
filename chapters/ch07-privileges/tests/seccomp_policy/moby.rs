//! What the Docker Engine makes of its profile: written after its documentation, without our reader of policies.

use ch07_privileges::capabilities::CapabilitySet;
use ch07_privileges::seccomp::architecture::Architecture;
use ch07_privileges::seccomp::policy::{Action, Condition, Policy, Rule};
use serde_json::Value;

/// Machines as the profile's conditions name them.
pub const MACHINES: [(&str, Architecture); 8] = [
    ("amd64", Architecture::X86_64),
    ("x86", Architecture::X86),
    ("arm", Architecture::Arm),
    ("arm64", Architecture::Aarch64),
    ("ppc64le", Architecture::Ppc64le),
    ("riscv64", Architecture::Riscv64),
    ("s390x", Architecture::S390x),
    ("loongarch64", Architecture::Loongarch64),
];

/// The policy that a runtime would be given. No architectures: the profile does not list this machine.
pub fn policy(
    profile: &Value,
    machine: &str,
    native: Architecture,
    kernel: (u32, u32),
    capabilities: CapabilitySet,
) -> Policy {
    let capabilities: Vec<String> = capabilities.iter().map(|capability| capability.to_string()).collect();
    let entry = list(&profile["archMap"]).iter().find(|entry| entry["architecture"] == native.to_string());
    let architectures = entry.map_or(Vec::new(), |entry| {
        let others = list(&entry["subArchitectures"]).iter();
        others.fold(vec![native], |known, other| [known, vec![text(other).parse().unwrap()]].concat())
    });
    let has = |condition: &Value| capabilities.iter().any(|name| *name == text(condition));
    let is_at_least = |condition: &Value| {
        let (major, minor) = text(condition).split_once('.').unwrap();
        kernel >= (major.parse().unwrap(), minor.parse().unwrap())
    };
    let holds = |call: &&Value| {
        let (includes, excludes) = (&call["includes"], &call["excludes"]);
        let machines = list(&includes["arches"]);
        (machines.is_empty() || machines.iter().any(|name| name == machine))
            && list(&includes["caps"]).iter().all(has)
            && (includes["minKernel"].is_null() || is_at_least(&includes["minKernel"]))
            && !list(&excludes["arches"]).iter().any(|name| name == machine)
            && !list(&excludes["caps"]).iter().any(has)
            && excludes["minKernel"].is_null()
    };
    let number = |value: &Value| value.as_u64().map(|number| number as u32);
    let rule = |call: &Value| Rule {
        names: list(&call["names"]).iter().map(|name| text(name).to_owned()).collect(),
        action: text(&call["action"])
            .parse::<Action>()
            .unwrap()
            .with_number(number(&call["errnoRet"]))
            .unwrap(),
        conditions: list(&call["args"]).iter().map(condition).collect(),
    };
    let default: Action = text(&profile["defaultAction"]).parse().unwrap();
    Policy {
        default: default.with_number(number(&profile["defaultErrnoRet"])).unwrap(),
        architectures,
        flags: Vec::new(),
        rules: list(&profile["syscalls"]).iter().filter(holds).map(rule).collect(),
    }
}

fn condition(argument: &Value) -> Condition {
    Condition {
        argument: argument["index"].as_u64().unwrap() as u8,
        operator: text(&argument["op"]).parse().unwrap(),
        value: argument["value"].as_u64().unwrap(),
        value_two: argument["valueTwo"].as_u64().unwrap_or(0),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
