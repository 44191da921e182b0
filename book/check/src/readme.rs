//! Commands that are not run: those of README.md and CONTRIBUTING.md that show no output, and the `norun`
//! blocks of pages.
//!
//! They clone, install, or run the test suite that this check is part of. What can be said without running
//! them is said: the script exists and may be executed, the package is a member of the workspace, the program
//! is one of the package's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::console;
use crate::page::{self, Book, Page};
use crate::{Problem, console::Block};

/// How a command may begin that leads to nothing of the repository's own.
const ELSEWHERE: [&str; 9] =
    ["git ", "cd ", "docker ", "apt", "dnf ", "sysctl ", "mdbook ", "cargo fmt", "cargo clippy"];

/// README.md and CONTRIBUTING.md, as far as they exist.
pub fn pages(root: &Path) -> Result<Vec<Page>> {
    let names = ["README.md", "CONTRIBUTING.md"].map(Path::new);
    let present = names.into_iter().filter(|name| root.join(name).is_file());
    present.map(|name| Page::read(root, name)).collect()
}

/// Checks that each command which is not run leads somewhere.
pub fn check(book: &Book) -> Result<Vec<Problem>> {
    let packages = packages(&book.root)?;
    let mut problems = Vec::new();
    let readmes = pages(&book.root)?;
    for page in book.pages.iter().chain(&readmes) {
        let is_readme = !page.file.starts_with("book");
        for block in console::blocks(&page.text) {
            let block = match block {
                Ok(block) => block,
                Err((line, what)) if is_readme => {
                    problems.push(Problem::new(&page.file, line, what));
                    continue;
                }
                Err(_) => continue,
            };
            if block.norun.is_some() || (is_readme && shows_nothing(&block)) {
                for command in &block.commands {
                    for text in command.text.split('\n') {
                        let checked = exists(&book.root, &packages, text);
                        // Which commands a page may leave unexecuted is said by `console::REASONS`.
                        let checked = if is_readme { checked.and_then(|()| is_known(text)) } else { checked };
                        if let Err(what) = checked {
                            problems.push(Problem::new(&page.file, command.line, what));
                        }
                    }
                }
            }
        }
    }
    Ok(problems)
}

fn shows_nothing(block: &Block) -> bool {
    block.commands.iter().all(|command| command.output.is_empty())
}

/// A package of the workspace, and the programs that it builds.
struct Package {
    name: String,
    programs: Vec<String>,
}

fn exists(root: &Path, packages: &[Package], command: &str) -> Result<(), String> {
    let command = command.strip_prefix("sudo ").unwrap_or(command);
    let words: Vec<&str> = command.split_whitespace().collect();
    let first = words.first().copied().unwrap_or_default();
    if first.starts_with("scripts/") {
        let mode = fs::metadata(root.join(first)).map(|data| data.permissions().mode());
        return match mode {
            Ok(mode) if mode & 0o111 != 0 => Ok(()),
            Ok(_) => Err(format!("{first} is not executable")),
            Err(error) => Err(format!("{first}: {error}")),
        };
    }
    let is_cargo = first == "cargo" && ["run", "test", "build"].contains(words.get(1).unwrap_or(&""));
    if is_cargo {
        return package_exists(packages, &words);
    }
    Ok(())
}

fn is_known(command: &str) -> Result<(), String> {
    let command = command.strip_prefix("sudo ").unwrap_or(command);
    let known = ["scripts/", "cargo run", "cargo test", "cargo build"];
    match known.iter().chain(&ELSEWHERE).any(|start| command.starts_with(start)) {
        true => Ok(()),
        false => Err(format!("nothing says whether `{command}` works: show its output, and it is run")),
    }
}

fn package_exists(packages: &[Package], words: &[&str]) -> Result<(), String> {
    let own = words.split(|word| *word == "--").next().unwrap_or_default();
    let value = |names: [&str; 2]| {
        let at = own.iter().position(|word| names.contains(word))?;
        own.get(at + 1).copied()
    };
    let Some(name) = value(["-p", "--package"]) else {
        return Ok(());
    };
    let Some(package) = packages.iter().find(|package| package.name == name) else {
        return Err(format!("the workspace has no package {name}"));
    };
    match value(["--bin", "--bin"]) {
        Some(program) if !package.programs.iter().any(|known| known == program) => {
            Err(format!("the package {name} has no program {program}"))
        }
        None if own.get(1) == Some(&"run") && package.programs.is_empty() => {
            Err(format!("the package {name} has no program"))
        }
        _ => Ok(()),
    }
}

/// The packages of the workspace: every directory with a Cargo.toml, one or two levels down.
fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for directory in page::read_dir(root)?.into_iter().filter(|path| path.is_dir()) {
        let below = page::read_dir(&directory)?;
        for candidate in std::iter::once(directory).chain(below) {
            let manifest = candidate.join("Cargo.toml");
            if !manifest.is_file() {
                continue;
            }
            let text = fs::read_to_string(&manifest).with_context(|| format!("read {manifest:?}"))?;
            // The first name is the package's, the others are those of its targets.
            let mut names = text.lines().filter_map(|line| line.strip_prefix("name = "));
            let Some(name) = names.next().map(unquote) else {
                continue;
            };
            let mut programs: Vec<String> = names.map(unquote).collect();
            if candidate.join("src/main.rs").is_file() {
                programs.push(name.clone());
            }
            for file in page::read_dir(&candidate.join("src/bin"))? {
                programs.extend(file.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
            packages.push(Package { name, programs });
        }
    }
    Ok(packages)
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches('"').to_string()
}
