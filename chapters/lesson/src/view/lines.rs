//! A view as lines of text: the kernel's words, in an order that puts what the first chapters change at the
//! top.

use super::root::VisibleProcesses;
use super::{Field, Link, Mount, Named, Root, Route, View};

/// One line of a view: `key` finds the line of the other view with which it is compared.
pub struct Line {
    pub key: String,
    pub text: String,
}

/// The lines of one field.
pub struct Section {
    pub title: &'static str,
    pub lines: Vec<Line>,
}

/// The lines of a view, in the same sections for every view.
pub fn sections(view: &View) -> Vec<Section> {
    let process = match (&view.pid, &view.name) {
        (Ok(pid), Ok(name)) => Ok(format!("{pid} ({name})")),
        (Err(unreadable), _) | (_, Err(unreadable)) => Err(unreadable.clone()),
    };
    vec![
        one("process", &process),
        one("NSpid", &view.pids_in_namespaces),
        one("sees pids", &view.processes.as_ref().map(pids).map_err(Clone::clone)),
        one("hostname", &view.hostname),
        one("root", &view.root.as_ref().map(root).map_err(Clone::clone)),
        many("mounts", &view.mounts, mount),
        many("links", &view.links, link),
        many("routes", &view.routes, route),
        one("Uid", &view.uids),
        one("Gid", &view.gids),
        one("Groups", &view.groups),
        many("uid_map", &view.uid_map, |line| whole(line)),
        many("gid_map", &view.gid_map, |line| whole(line)),
        many("capabilities", &view.capabilities, named),
        many("cgroup", &view.cgroups, |line| cgroup(line)),
        many("limits", &view.limits, named),
        one("Seccomp", &view.seccomp),
        one("NoNewPrivs", &view.no_new_privs),
        many("namespaces", &view.namespaces, namespace),
    ]
}

fn one(title: &'static str, field: &Field<String>) -> Section {
    Section { title, lines: vec![Line { key: String::new(), text: printable(&value(field)) }] }
}

fn many<T>(title: &'static str, field: &Field<Vec<T>>, line: impl Fn(&T) -> Line) -> Section {
    let lines = match field {
        Ok(list) if list.is_empty() => vec![Line { key: String::new(), text: "none".to_owned() }],
        Ok(list) => list.iter().map(line).collect(),
        Err(unreadable) => vec![Line { key: String::new(), text: unreadable.to_string() }],
    };
    let lines = lines.into_iter().map(|line| Line { text: printable(&line.text), ..line });
    Section { title, lines: lines.collect() }
}

fn value(field: &Field<String>) -> String {
    match field {
        Ok(text) => text.clone(),
        Err(unreadable) => unreadable.to_string(),
    }
}

fn whole(text: &str) -> Line {
    Line { key: text.to_owned(), text: text.to_owned() }
}

fn named(named: &Named) -> Line {
    Line { key: named.name.clone(), text: format!("{} {}", named.name, value(&named.value)) }
}

/// `pid:[4026531836]` names its kind itself; `pid_for_children` leads to one as well.
fn namespace(namespace: &Named) -> Line {
    let line = named(namespace);
    match &namespace.value {
        Ok(text) if text.starts_with(&format!("{}:", namespace.name)) => Line { text: text.clone(), ..line },
        _ => line,
    }
}

/// `id:controllers:path`: the same hierarchy has the same controllers.
fn cgroup(line: &str) -> Line {
    let controllers = line.split(':').nth(1).unwrap_or_default();
    Line { key: controllers.to_owned(), text: line.to_owned() }
}

fn link(link: &Link) -> Line {
    let text = [std::slice::from_ref(&link.name), &link.addresses].concat().join(" ");
    Line { key: link.name.clone(), text }
}

/// In the words of ip-route(8).
fn route(route: &Route) -> Line {
    let gateway = route.gateway.iter().map(|gateway| format!(" via {gateway}")).collect::<String>();
    Line {
        key: route.destination.clone(),
        text: format!("{}{gateway} dev {}", route.destination, route.link),
    }
}

fn mount(mount: &Mount) -> Line {
    let Mount { root, point, options, propagation, kind, source, super_options } = mount;
    // A file system shown from a directory further down is a bind mount of that directory.
    let root = if root == "/" { String::new() } else { format!("[{root}]") };
    let text = format!("{point} {kind} {source}{root} {options} {super_options} {propagation}");
    Line { key: point.clone(), text: text.trim_end().to_owned() }
}

fn pids(processes: &VisibleProcesses) -> String {
    match processes {
        VisibleProcesses::NoProc => "none: no /proc is mounted".to_owned(),
        VisibleProcesses::Pids(pids) => {
            let text: Vec<String> = pids.iter().map(i32::to_string).collect();
            format!("{}: {}", pids.len(), text.join(" "))
        }
    }
}

fn root(root: &Root) -> String {
    let entries = match &root.entries {
        Ok(entries) => format!("{entries} entries"),
        Err(unreadable) => unreadable.to_string(),
    };
    format!("{} (inode {}, {entries})", root.path, root.identity)
}

/// Control characters as escapes: a process chooses its name, its host name and its mount points, and must
/// not be able to send commands to the terminal of who looks at it.
fn printable(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            output.extend(character.escape_default())
        } else {
            output.push(character)
        }
    }
    output
}
