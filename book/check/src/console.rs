//! `console` blocks: a session at a terminal, written down.
//!
//! A line that begins with `$ ` is typed to the shell (`# ` in a `console,root` block); lines after it that
//! begin with `> ` continue it. What follows is what the terminal shows. A status other than 0 ends the
//! output as `[exit status: 3]`. Two kinds of line are typed as well, to the program that the command
//! started: `^C`, and lines that begin with the prompt that the block's `inner="..."` names. They are part of
//! the output, since the terminal echoes them. `cgroup2` marks a block that needs cgroup version 2 with its
//! controllers, so that it is run on such a machine only. `norun=REASON` marks a block that no test can run; the reasons
//! are few: [`REASONS`].

use crate::Problem;
use crate::page::Book;

/// Why a block may stay unexecuted, and how each of its commands must then begin.
pub const REASONS: [(&str, &[&str]); 4] = [
    // Docker Engine is not a thing that a checker of a book installs.
    ("docker", &["docker ", "sudo docker "]),
    // Fetches the repository itself.
    ("clone", &["git clone ", "cd "]),
    // Shows the reader's own machine, whatever that is.
    ("machine", &["cargo run -p lesson --bin doctor", "uname "]),
    // Changes the reader's machine, or runs the tests that this check is one of.
    (
        "setup",
        &[
            "scripts/",
            "sudo scripts/",
            "sudo apt",
            "sudo dnf ",
            "sudo sysctl ",
            "mdbook ",
            "cargo test",
            "cargo build",
        ],
    ),
];

/// A fenced code block of a page.
pub struct Fence {
    /// Line of the opening fence, from 1.
    pub line: usize,
    /// What stands behind the opening fence.
    pub info: String,
    /// Spaces before the opening fence.
    pub indent: usize,
    /// The lines between the fences.
    pub lines: Vec<String>,
}

impl Fence {
    /// The language that the block is marked with.
    pub fn language(&self) -> &str {
        self.info.split([',', ' ']).next().unwrap_or_default()
    }
}

/// One `console` block.
#[derive(Debug)]
pub struct Block {
    /// Line of the opening fence, from 1.
    pub line: usize,
    /// Number of lines between the fences.
    pub length: usize,
    /// Whether it is typed by root, with the prompt `# `.
    pub root: bool,
    /// The prompt of the program that the block's commands start.
    pub inner: Option<String>,
    /// Whether it needs cgroup version 2 with its controllers.
    pub cgroup2: bool,
    /// Why it is not executed.
    pub norun: Option<String>,
    /// What is typed to the shell, and what the page shows in return.
    pub commands: Vec<Command>,
}

/// One command and its output.
#[derive(Debug)]
pub struct Command {
    /// Line of the prompt, from 1.
    pub line: usize,
    /// What is typed, its lines joined by newlines.
    pub text: String,
    /// The lines that the page shows below it.
    pub output: Vec<String>,
}

/// Checks the form of every `console` block of the book, and that those which are not run have a reason for
/// it.
pub fn check(book: &Book) -> Vec<Problem> {
    let mut problems = Vec::new();
    for page in &book.pages {
        for block in blocks(&page.text) {
            let checked = block.and_then(|block| check_reason(&block));
            if let Err((line, what)) = checked {
                problems.push(Problem::new(&page.file, line, what));
            }
        }
    }
    problems
}

fn check_reason(block: &Block) -> Result<(), (usize, String)> {
    let Some(reason) = &block.norun else {
        return Ok(());
    };
    let Some((_, beginnings)) = REASONS.iter().find(|(name, _)| name == reason) else {
        let known = REASONS.map(|(name, _)| name).join(", ");
        return Err((block.line, format!("norun={reason} is no reason; there are: {known}")));
    };
    let free = |command: &&Command| !beginnings.iter().any(|start| command.text.starts_with(start));
    match block.commands.iter().find(free) {
        Some(command) => {
            let what = format!("norun={reason} does not excuse `{}`: it can be run", command.text);
            Err((command.line, what))
        }
        None => Ok(()),
    }
}

/// The console blocks of a page, in order; for one that can't be read, the line and what is wrong.
pub fn blocks(text: &str) -> Vec<Result<Block, (usize, String)>> {
    let fences = fences(text).into_iter();
    let console = fences.filter(|fence| fence.language() == "console");
    console.map(|fence| block(&fence)).collect()
}

fn block(fence: &Fence) -> Result<Block, (usize, String)> {
    let fault = |what: &str| Err((fence.line, what.to_string()));
    if fence.indent > 0 {
        return fault("a console block starts at the first column");
    }
    let mut block = Block {
        line: fence.line,
        length: fence.lines.len(),
        root: false,
        inner: None,
        cgroup2: false,
        norun: None,
        commands: Vec::new(),
    };
    for attribute in attributes(&fence.info) {
        match attribute.split_once('=') {
            None if attribute == "root" => block.root = true,
            None if attribute == "cgroup2" => block.cgroup2 = true,
            Some(("inner", prompt)) => block.inner = Some(prompt.trim_matches('"').to_string()),
            Some(("norun", reason)) => block.norun = Some(reason.to_string()),
            _ => return fault(&format!("a console block has no attribute `{attribute}`")),
        }
    }
    let prompt = if block.root { "# " } else { "$ " };
    let mut typing = false;
    for (index, content) in fence.lines.iter().enumerate() {
        let line = fence.line + 1 + index;
        if let Some(text) = content.strip_prefix(prompt) {
            let (text, output) = (text.to_string(), Vec::new());
            block.commands.push(Command { line, text, output });
            typing = true;
            continue;
        }
        let Some(command) = block.commands.last_mut() else {
            return fault(&format!("a console block begins with the prompt `{prompt}`"));
        };
        match content.strip_prefix("> ") {
            Some(more) if typing => command.text = format!("{}\n{more}", command.text),
            _ => {
                typing = false;
                command.output.push(content.clone());
            }
        }
    }
    Ok(block)
}

/// The attributes behind `console`, split at commas and spaces that stand outside of quotes.
fn attributes(info: &str) -> Vec<String> {
    let mut attributes = vec![String::new()];
    let mut quoted = false;
    for letter in info.chars() {
        quoted ^= letter == '"';
        match letter {
            ',' | ' ' if !quoted => attributes.push(String::new()),
            letter => attributes.last_mut().expect("at least one").push(letter),
        }
    }
    attributes.remove(0);
    attributes.retain(|attribute| !attribute.is_empty());
    attributes
}

/// The fenced code blocks of a page. <https://spec.commonmark.org/0.31.2/#fenced-code-blocks>
pub fn fences(text: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<(Fence, char, usize)> = None;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let mark = trimmed.chars().next().unwrap_or(' ');
        let length = trimmed.chars().take_while(|&letter| letter == mark).count();
        let is_fence = (mark == '`' || mark == '~') && length >= 3;
        let rest = trimmed.get(length..).unwrap_or_default().trim();
        match &mut open {
            None if is_fence => {
                let fence = Fence {
                    line: index + 1,
                    info: rest.to_string(),
                    indent: line.len() - trimmed.len(),
                    lines: Vec::new(),
                };
                open = Some((fence, mark, length));
            }
            None => {}
            Some((_, character, size))
                if is_fence && mark == *character && length >= *size && rest.is_empty() =>
            {
                fences.extend(open.take().map(|(fence, ..)| fence));
            }
            Some((fence, ..)) => fence.lines.push(line.to_string()),
        }
    }
    fences.extend(open.map(|(fence, ..)| fence));
    fences
}

/// The page with each block's output replaced by what was really printed; `outputs` has one entry for each
/// command of each block, and none for a block that was not run; those of the last blocks may be missing.
pub fn rewrite(text: &str, blocks: &[Block], outputs: &[Vec<Vec<String>>]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut result: Vec<String> = Vec::new();
    let mut next = 0;
    for (block, outputs) in blocks.iter().zip(outputs) {
        // Lines are counted from 1, so this takes the opening fence along.
        result.extend(lines[next..block.line].iter().map(|line| line.to_string()));
        next = block.line + block.length;
        if outputs.is_empty() {
            result.extend(lines[block.line..next].iter().map(|line| line.to_string()));
            continue;
        }
        let prompt = if block.root { "# " } else { "$ " };
        for (command, output) in block.commands.iter().zip(outputs) {
            for (index, typed) in command.text.split('\n').enumerate() {
                let start = if index == 0 { prompt } else { "> " };
                result.push(format!("{start}{typed}"));
            }
            result.extend(output.iter().cloned());
        }
    }
    result.extend(lines[next..].iter().map(|line| line.to_string()));
    result.join("\n") + "\n"
}
